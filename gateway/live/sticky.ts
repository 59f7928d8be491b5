/** Which exit a named proxy session keeps. */
import type { LiveRedis } from './connection.js';
import { liveKeys } from './keys.js';
import type { StickyRecord } from './records.js';
import { decode, read, write } from './store.js';
import { isRecordOf, isString } from './validation.js';

const isSticky = isRecordOf<StickyRecord>({
  allocationId: isString,
  deviceId: isString,
  providerId: isString,
  exitIp: isString,
});

/** `ttlMs`: the session's idle time; written again on use. */
export function writeSticky(
  redis: LiveRedis,
  account: string,
  session: string,
  record: StickyRecord,
  ttlMs: number,
): Promise<void> {
  return write(redis, liveKeys.sticky(account, session), record, ttlMs);
}

/**
 * As `writeSticky`, for a session that goes out through another device than `deviceIdBefore` (null: it had none). Returns
 * null, or what another gateway has written since: of any number that choose at the same moment one decides.
 */
export async function takeSticky(
  redis: LiveRedis,
  account: string,
  session: string,
  record: StickyRecord,
  ttlMs: number,
  deviceIdBefore: string | null,
): Promise<StickyRecord | null> {
  const key = liveKeys.sticky(account, session);
  const ttl = String(Math.max(1, Math.round(ttlMs)));
  const args = [JSON.stringify(record), ttl, record.deviceId, deviceIdBefore ?? ''] as const;
  const held = await redis.stickyTake(key, ...args);
  return held === '' ? null : decode(redis, key, held, isSticky);
}

export function readSticky(redis: LiveRedis, account: string, session: string): Promise<StickyRecord | null> {
  return read(redis, liveKeys.sticky(account, session), isSticky);
}
