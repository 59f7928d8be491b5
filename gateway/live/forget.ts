import type { LiveRedis } from './connection.js';
import { controlPlaneKeyPatterns } from './keys.js';

const SCAN_COUNT = 1_000;

/**
 * Removes what the control plane has told the live state, for a record that was put back to an earlier moment: it knows less than
 * what Redis says was committed. What gateways have put there stays, counts that wait above all. The control plane finds
 * no mark of completeness and tells everything anew. Resolves to how many keys went; rejects when a server of it can not be reached.
 */
export async function forgetControlPlaneState(redis: LiveRedis): Promise<number> {
  let removed = 0;
  for (const pattern of controlPlaneKeyPatterns())
    for (const primary of await redis.eachPrimary()) {
      let cursor = '0';
      do {
        const [next, keys] = await primary.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT);
        cursor = next;
        for (const key of keys) removed += await redis.unlink(key);
      } while (cursor !== '0');
    }
  return removed;
}
