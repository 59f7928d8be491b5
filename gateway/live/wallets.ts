/**
 * Wallets in Redis: what a gateway's run may spend, what it asks for, and the bell. Amounts are whole units
 * (micro-dollars or bytes) **below 2^53**, so Lua and JavaScript numbers hold them exactly; they travel as decimal
 * text. Nothing in either hash ever falls; every write may be repeated. All functions reject when Redis is away.
 */
import type { LiveRedis } from './connection.js';
import { liveKeys, WALLET_BELL_KEPT } from './keys.js';
import { sendMany } from './many.js';
import type { WalletAsk, WalletKind, WalletOwner, WalletRecord } from './records.js';
import { decode } from './store.js';
import { type Check, isBoolean, isMissingOr, isOneOf, isRecordOf } from './validation.js';

/** A whole number from 0 to 2^53 − 1 as decimal text. */
const isUnits: Check<string> = (value): value is string =>
  typeof value === 'string' && /^\d{1,16}$/.test(value) && Number.isSafeInteger(Number(value));

const isWallet = isRecordOf<WalletRecord>({
  granted: isUnits,
  answered: isUnits,
  state: isOneOf('open', 'wait', 'exhausted'),
  beyond: isMissingOr(isUnits),
});
const isAsk = isRecordOf<WalletAsk>({
  wantGranted: isUnits,
  renounced: isUnits,
  withdrawn: isMissingOr(isUnits),
  finished: isBoolean,
});

/** Wallets handled by one call of a script or command: Redis serves nobody else meanwhile. */
const BATCH = 500;

const FIELD = /^([0-9a-f]{24})\.(buyer|package|sub_user|day|month)\.([0-9a-f-]{36})$/;

/** The run and owner that a field of the wallet hashes names; null: it is none. */
export function parseWalletField(field: string): { run: string; owner: WalletOwner } | null {
  const parts = FIELD.exec(field);
  if (parts === null) return null;
  return { run: parts[1] as string, owner: { kind: parts[2] as WalletKind, ownerId: parts[3] as string } };
}

/** Adds what a run asks for and gives back: the larger of each number and `finished` stay. */
export async function askWallets(
  redis: LiveRedis,
  gatewayId: string,
  asks: ReadonlyArray<{ field: string } & WalletAsk>,
): Promise<void> {
  if (asks.length === 0) return;
  // So that control planes find the gateway also when the bell was not heard.
  await redis.sadd(liveKeys.gateways(), gatewayId);
  for (let i = 0; i < asks.length; i += BATCH) {
    const args: string[] = [];
    for (const { field, wantGranted, renounced, withdrawn = '0', finished } of asks.slice(i, i + BATCH))
      args.push(field, wantGranted, renounced, withdrawn, finished ? '1' : '0');
    await redis.askWallets(liveKeys.walletAsks(gatewayId), ...args);
  }
}

/** Tells control planes that these asks want an answer now. */
export async function ringWalletBell(
  redis: LiveRedis,
  gatewayId: string,
  fields: readonly string[],
): Promise<void> {
  if (fields.length === 0) return;
  const bell = liveKeys.walletBell();
  await sendMany(
    redis,
    fields.map((field) => ['xadd', bell, 'MAXLEN', '~', WALLET_BELL_KEPT, '*', 'g', gatewayId, 'w', field]),
  );
}

/** One ring of the bell. */
export interface WalletRing {
  id: string;
  gatewayId: string;
  field: string;
}

/** Rings after `afterId`, oldest first, at most `max`; `blockMs` > 0 waits that long, on a connection of its own. */
export async function readWalletBell(
  redis: LiveRedis,
  afterId: string,
  max: number,
  blockMs: number,
): Promise<WalletRing[]> {
  const key = liveKeys.walletBell();
  const reply = (blockMs > 0
    ? await redis.xread('COUNT', max, 'BLOCK', blockMs, 'STREAMS', key, afterId)
    : await redis.xread('COUNT', max, 'STREAMS', key, afterId)) as unknown as Array<
    [string, Array<[string, string[]]>]
  > | null;
  return (reply?.[0]?.[1] ?? []).map(([id, fields]) => {
    const value = (name: string) => fields[fields.indexOf(name) + 1] ?? '';
    return { id, gatewayId: value('g'), field: value('w') };
  });
}

/** The id of the newest ring; `0-0` when there is none. */
export async function readLastRingId(redis: LiveRedis): Promise<string> {
  const [newest] = await redis.xrevrange(liveKeys.walletBell(), '+', '-', 'COUNT', 1);
  return newest?.[0] ?? '0-0';
}

/** What Postgres has committed, for the gateway to see. The larger grant stays, with the later answer's state. */
export async function showWallets(
  redis: LiveRedis,
  gatewayId: string,
  wallets: ReadonlyArray<{ field: string } & WalletRecord>,
): Promise<void> {
  for (let i = 0; i < wallets.length; i += BATCH) {
    const args: string[] = [];
    for (const { field, granted, answered, state, beyond = '' } of wallets.slice(i, i + BATCH))
      args.push(field, granted, answered, state, beyond);
    await redis.showWallets(liveKeys.wallets(gatewayId), ...args);
  }
}

/** In the order of the fields; null: nothing is shown there. */
export function readWallets(
  redis: LiveRedis,
  gatewayId: string,
  fields: readonly string[],
): Promise<Array<WalletRecord | null>> {
  return readFields(redis, liveKeys.wallets(gatewayId), fields, isWallet);
}

/** Every wallet of the gateway, of earlier runs, too. */
export function readAllWallets(redis: LiveRedis, gatewayId: string): Promise<Map<string, WalletRecord>> {
  return readHash(redis, liveKeys.wallets(gatewayId), isWallet);
}

/** What is asked, in the order of the fields. */
export function readWalletAsks(
  redis: LiveRedis,
  gatewayId: string,
  fields: readonly string[],
): Promise<Array<WalletAsk | null>> {
  return readFields(redis, liveKeys.walletAsks(gatewayId), fields, isAsk);
}

/** Everything the gateway asks. */
export function readAllWalletAsks(redis: LiveRedis, gatewayId: string): Promise<Map<string, WalletAsk>> {
  return readHash(redis, liveKeys.walletAsks(gatewayId), isAsk);
}

/** Their holds are closed. */
export async function forgetWallets(
  redis: LiveRedis,
  gatewayId: string,
  fields: readonly string[],
): Promise<void> {
  for (let i = 0; i < fields.length; i += BATCH) {
    const some = fields.slice(i, i + BATCH);
    await redis.hdel(liveKeys.wallets(gatewayId), ...some);
    await redis.hdel(liveKeys.walletAsks(gatewayId), ...some);
  }
}

async function readFields<T>(
  redis: LiveRedis,
  key: string,
  fields: readonly string[],
  check: Check<T>,
): Promise<Array<T | null>> {
  const found: Array<T | null> = [];
  for (let i = 0; i < fields.length; i += BATCH) {
    const some = fields.slice(i, i + BATCH);
    const texts = await redis.hmget(key, ...some);
    some.forEach((field, n) => {
      found.push(decode(redis, `${key} ${field}`, texts[n] ?? null, check));
    });
  }
  return found;
}

async function readHash<T>(redis: LiveRedis, key: string, check: Check<T>): Promise<Map<string, T>> {
  const found = new Map<string, T>();
  let cursor = '0';
  do {
    const [next, flat] = await redis.hscan(key, cursor, 'COUNT', BATCH);
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const value = decode(redis, `${key} ${flat[i]}`, flat[i + 1] as string, check);
      if (value) found.set(flat[i] as string, value);
    }
    cursor = next;
  } while (cursor !== '0');
  return found;
}
