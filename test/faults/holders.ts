import { execFileSync } from 'node:child_process';
import type { ClaimRecord } from '../../gateway/live/records.js';
import type { World } from './world.js';

/** Which buyer holds an exit by which process, as Redis says: for the report. */
export function whoHolds({ redisPort, buyers }: World): string {
  const ask = (...args: string[]) =>
    execFileSync('redis-cli', ['-p', String(redisPort), '--raw', ...args], { encoding: 'utf8' });
  const keys = ask('--scan', '--pattern', 'ts:claim:*').split('\n').filter(Boolean);
  const held = keys.map((key) => {
    const { buyerId, gateway } = JSON.parse(ask('GET', key).trim() || '{}') as Partial<ClaimRecord>;
    return `buyer ${buyers.findIndex(({ id }) => id === buyerId)} by ${gateway?.gatewayId} ${gateway?.epoch.slice(0, 4)}`;
  });
  return held.sort().join(', ');
}
