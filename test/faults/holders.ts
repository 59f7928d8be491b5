import { execFileSync } from 'node:child_process';
import type { ClaimRecord } from '../../gateway/live/records.js';
import type { World } from './world.js';

/** Asks Redis past every link. */
function ask(redisPort: number, ...args: string[]): string {
  return execFileSync('redis-cli', ['-p', String(redisPort), '--raw', ...args], { encoding: 'utf8' });
}

/** Keys of the claims that are in Redis. */
export function claimKeys(redisPort: number): string[] {
  return ask(redisPort, '--scan', '--pattern', 'ts:claim:*').split('\n').filter(Boolean);
}

/** Which buyer holds an exit by which process, as Redis says: for the report. */
export function whoHolds({ redisPort, buyers }: World): string {
  const held = claimKeys(redisPort).map((key) => {
    const claim = ask(redisPort, 'GET', key).trim();
    const { buyerId, gateway } = JSON.parse(claim || '{}') as Partial<ClaimRecord>;
    return `buyer ${buyers.findIndex(({ id }) => id === buyerId)} by ${gateway?.gatewayId} ${gateway?.epoch.slice(0, 4)}`;
  });
  return held.sort().join(', ');
}
