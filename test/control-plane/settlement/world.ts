import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { withTransaction } from '../../../control-plane/db/pool.js';
import { post } from '../../../control-plane/ledger/ledger.js';
import { SETTLEMENT_DEFAULTS, type SettlementSettings } from '../../../control-plane/settlement/settings.js';
import { createSettlement } from '../../../control-plane/settlement/settlement.js';
import type { SettlementWorker } from '../../../control-plane/settlement/worker.js';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { runOf, type WalletKind } from '../../../gateway/live/records.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import type { TestMeter } from '../../helpers/money-world.js';

/** A worker whose holds release at once and whose sessions complete at once. */
export function createWorker(
  pool: pg.Pool,
  redis: LiveRedis,
  settings: Partial<SettlementSettings> = {},
): SettlementWorker {
  return createSettlement({
    pool,
    redis,
    clock: systemClock,
    log: silentLog,
    settings: () => ({
      ...SETTLEMENT_DEFAULTS,
      holdMs: 0,
      completionGraceMs: 0,
      offerBytes: 5_000_000,
      ...settings,
    }),
  });
}

/** Brings the meters to Redis as they are. */
export async function deliver(redis: LiveRedis, meters: readonly TestMeter[], end = {}): Promise<void> {
  for (const m of meters) await reportMeters(redis, m.gatewayId, [m.report(end)]);
}

/** Gives each buyer this much, micro-dollars. */
export async function fund(
  pool: pg.Pool,
  buyerIds: readonly string[],
  amountMicros = 10n ** 13n,
): Promise<void> {
  await withTransaction(pool, (client) =>
    post(
      client,
      buyerIds.map((ownerId) => ({
        kind: 'test_topup',
        sourceId: `${ownerId}:${randomUUID()}`,
        entries: [
          { account: { kind: 'buyer_prepaid', ownerId }, entryKind: 'topup', amountMicros },
          {
            account: { kind: 'platform_funding', ownerId: null },
            entryKind: 'topup',
            amountMicros: -amountMicros,
          },
        ],
      })),
    ),
  );
}

/** A wallet as the control plane would have granted it to the meter's run. */
export async function grant(
  pool: pg.Pool,
  meter: TestMeter,
  kind: WalletKind,
  ownerId: string,
  granted: bigint,
): Promise<void> {
  await pool.query(
    'INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted) VALUES ($1, $2, $3, $4, $5)',
    [kind, ownerId, meter.gatewayId, runOf(meter.epoch), granted.toString()],
  );
}

export interface HoldRow {
  granted: bigint;
  spent: bigint;
  closed: boolean;
}

/** The wallet of an owner at the meter's run; null: there is none. */
export async function readHold(
  pool: pg.Pool,
  meter: TestMeter,
  kind: WalletKind,
  ownerId: string,
): Promise<HoldRow | null> {
  const { rows } = await pool.query<HoldRow>(
    `SELECT granted, spent, closed_at IS NOT NULL AS closed FROM wallet_holds
      WHERE kind = $1 AND owner_id = $2 AND gateway_id = $3 AND run = $4`,
    [kind, ownerId, meter.gatewayId, runOf(meter.epoch)],
  );
  return rows[0] ?? null;
}

export async function addSubUser(pool: pg.Pool, buyerId: string): Promise<string> {
  const id = randomUUID();
  await pool.query(
    'INSERT INTO sub_users (id, buyer_id, account, name, password_hash) VALUES ($1, $2, $3, $4, $5)',
    [id, buyerId, randomBytes(6).toString('hex'), 'Test sub-user', randomBytes(32)],
  );
  return id;
}

export const bytesUsed = async (pool: pg.Pool, subUserId: string): Promise<bigint> =>
  (await pool.query<{ bytes_used: bigint }>('SELECT bytes_used FROM sub_users WHERE id = $1', [subUserId]))
    .rows[0]?.bytes_used ?? -1n;

/**
 * A pool whose connections break: `before(n)` is asked at the n-th statement from now, `after(text)` when one was
 * carried out; true breaks it there, as a crash of the worker or a lost answer would.
 */
export function breakingPool(
  pool: pg.Pool,
  breaks: { before?: (nth: number) => boolean; after?: (text: string) => boolean },
): pg.Pool {
  let nth = 0;
  const broken = () => Object.assign(new Error('broke here'), { code: '57P01' });
  return new Proxy(pool, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name !== 'connect') return typeof value === 'function' ? value.bind(target) : value;
      return async () => {
        const client = await target.connect();
        return new Proxy(client, {
          get(c, property) {
            const member = Reflect.get(c, property);
            if (property !== 'query') return typeof member === 'function' ? member.bind(c) : member;
            return async (text: string, values?: unknown[]) => {
              if (breaks.before?.(nth++)) throw broken();
              const result = await c.query(text, values);
              if (breaks.after?.(text)) throw broken();
              return result;
            };
          },
        });
      };
    },
  });
}
