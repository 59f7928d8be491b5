import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { createToken } from '../../control-plane/buyers/tokens.js';
import { withTransaction } from '../../control-plane/db/pool.js';
import { type LedgerTransaction, post } from '../../control-plane/ledger/ledger.js';
import { ingestPackages } from '../../control-plane/packages/ingest.js';
import { bookMeters } from '../../control-plane/settlement/book.js';
import { releaseHolds } from '../../control-plane/settlement/release.js';
import type { MeterClaim } from '../../control-plane/settlement/reports.js';

/** How much to make. */
export interface Scale {
  users: number;
  packages: number;
  /** At least so many ledger entries; the last batch may go a little beyond. */
  entries: number;
}

/** Told after each batch: of what, how much is done of how much. */
export type OnProgress = (what: string, done: number, total: number) => void;

/** Telegram ids of seeded people: above any that Telegram gives out (52 bits at most), within what JSON carries. */
export const SEEDED_TELEGRAM_ID_MIN = 2 ** 52 + 1;

/** Rows of one statement or one booking. */
const BATCH = 1_000;
/** Traffic sessions of one user. */
const SESSIONS_PER_USER = 5;
/** Users for one buyer. */
const USERS_PER_BUYER = 10;
/** What a buyer has paid in before any traffic: more than all of it costs. */
const TOPUP_MICROS = 10_000_000_000n;
const PRICES = { provider: 500_000n, buyer: 2_000_000n };
const BYTES_PER_BOOKING = { up: 2_000_000n, down: 48_000_000n };
/** Days that sessions lie back at most. */
const DAYS = 30;
const DAY_MS = 86_400_000;
const COUNTRIES = ['DE', 'US', 'FR', 'IT', 'PL'] as const;
const BOOK_OPTIONS = { referralPercent: 10, offerBytes: 1_000_000_000 };

function* batches<T>(items: readonly T[]): Generator<T[]> {
  for (let at = 0; at < items.length; at += BATCH) yield items.slice(at, at + BATCH);
}

/**
 * Fills a migrated database with people, traffic that was booked and paid, and packages that are free, as large as
 * asked for. Everything goes the way it goes in life, past every guard of the database: money through the ledger's one
 * writer, traffic through settlement, packages through ingest. What was there stays; another run adds as much again.
 */
export async function seedScale(pool: pg.Pool, scale: Scale, onProgress: OnProgress): Promise<void> {
  const userIds = await makeUsers(pool, scale.users, onProgress);
  const buyerIds = await makeBuyers(pool, Math.max(1, Math.ceil(scale.users / USERS_PER_BUYER)), onProgress);
  const packagesBefore = await count(pool, 'packages');
  await relay(pool, userIds, buyerIds, scale.entries, onProgress);
  const left = scale.packages - ((await count(pool, 'packages')) - packagesBefore);
  await makePackages(pool, userIds, left, onProgress);
  await pool.query('ANALYZE');
}

async function makeUsers(pool: pg.Pool, total: number, onProgress: OnProgress): Promise<string[]> {
  const { rows } = await pool.query<{ next: string }>(
    'SELECT greatest($1::bigint, max(telegram_id) + 1)::text AS next FROM telegram_accounts',
    [SEEDED_TELEGRAM_ID_MIN],
  );
  const firstId = BigInt(rows[0]?.next ?? SEEDED_TELEGRAM_ID_MIN);
  const ids = Array.from({ length: total }, () => randomUUID());
  let done = 0;
  for (const batch of batches(ids)) {
    const at = done;
    await withTransaction(pool, async (client) => {
      await client.query(
        `INSERT INTO users (id, telegram_id, username, is_verified, referral_code, referred_by)
         SELECT id, telegram_id, 'seed' || telegram_id, true, code, inviter
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[]) AS u (id, telegram_id, code, inviter)`,
        [
          batch,
          batch.map((_, i) => String(firstId + BigInt(at + i))),
          batch.map(() => randomBytes(8).toString('hex').toUpperCase()),
          batch.map((_, i) => (i % 10 === 9 ? batch[0] : null)),
        ],
      );
      await client.query(
        `INSERT INTO devices (id, user_id, key_hash, os, client_version, last_country)
         SELECT 'seed-' || id, id, hash, 'linux', '1.0.0', 'DE'
           FROM unnest($1::uuid[], $2::bytea[]) AS d (id, hash)`,
        [batch, batch.map(() => randomBytes(32))],
      );
    });
    done += batch.length;
    onProgress('users', done, total);
  }
  return ids;
}

async function makeBuyers(pool: pg.Pool, total: number, onProgress: OnProgress): Promise<string[]> {
  const ids = Array.from({ length: total }, () => randomUUID());
  let done = 0;
  for (const batch of batches(ids)) {
    await withTransaction(pool, async (client) => {
      await client.query(
        `INSERT INTO buyers (id, account, name, region, kyc_status, aup_accepted_at)
         SELECT id, account, 'Seeded ' || account, 'EU', 'approved', now()
           FROM unnest($1::uuid[], $2::text[]) AS b (id, account)`,
        [batch, batch.map(() => `s${randomBytes(8).toString('hex')}`)],
      );
      for (const buyerId of batch) await createToken(client, { buyerId, description: 'seed' });
      await post(client, batch.map(topUp), { mustBeFresh: true });
    });
    done += batch.length;
    onProgress('buyers', done, total);
  }
  return ids;
}

function topUp(buyerId: string): LedgerTransaction {
  return {
    kind: 'seed',
    sourceId: `topup:${buyerId}`,
    description: 'seeded top-up',
    entries: [
      {
        account: { kind: 'buyer_prepaid', ownerId: buyerId },
        entryKind: 'topup',
        amountMicros: TOPUP_MICROS,
      },
      {
        account: { kind: 'platform_funding', ownerId: null },
        entryKind: 'topup',
        amountMicros: -TOPUP_MICROS,
      },
    ],
  };
}

/** Sessions of the users, each used by one buyer, booked again and again until there are as many entries as wanted. */
async function relay(
  pool: pg.Pool,
  userIds: readonly string[],
  buyerIds: readonly string[],
  entries: number,
  onProgress: OnProgress,
): Promise<void> {
  const firstEntry = await lastEntryId(pool);
  const meters: MeterClaim[] = [];
  for (let n = 0; n < SESSIONS_PER_USER; n++)
    for (const batch of batches(userIds))
      meters.push(...(await makeSessions(pool, batch, buyerIds, meters.length)));
  for (let made = 0; made < entries; ) {
    for (const batch of batches(meters)) {
      for (const meter of batch) {
        meter.bytesUp += BYTES_PER_BOOKING.up;
        meter.bytesDown += BYTES_PER_BOOKING.down;
      }
      await withTransaction(pool, (client) => bookMeters(client, GATEWAY_ID, batch, BOOK_OPTIONS));
      made = (await lastEntryId(pool)) - firstEntry;
      onProgress('ledger entries', Math.min(made, entries), entries);
      if (made >= entries) break;
    }
    if (meters.length === 0) break;
  }
  for (const batch of batches(meters)) {
    for (const meter of batch) Object.assign(meter, { final: true, allocationEnded: true });
    await withTransaction(pool, async (client) => {
      await bookMeters(client, GATEWAY_ID, batch, BOOK_OPTIONS);
      await client.query(
        "UPDATE traffic_sessions SET status = 'completed', completed_at = stopped_at WHERE id = ANY ($1::uuid[])",
        [batch.map((meter) => meter.sessionId)],
      );
    });
  }
  await releaseHolds(pool, null);
}

const GATEWAY_ID = 'seed';

async function makeSessions(
  pool: pg.Pool,
  userIds: readonly string[],
  buyerIds: readonly string[],
  from: number,
): Promise<MeterClaim[]> {
  const epoch = randomBytes(16).toString('hex');
  const sessions = userIds.map((userId) => ({
    id: randomUUID(),
    userId,
    startedAtMs: Date.now() - 2 * 3_600_000 - randomInt(DAYS * DAY_MS),
  }));
  await pool.query(
    `INSERT INTO traffic_sessions (id, user_id, device_id, status, exit_ip, country, client_version, started_at,
                                   stopped_at)
     SELECT id, user_id, 'seed-' || user_id, 'stopping', ip, country, '1.0.0', to_timestamp(started / 1000.0),
            to_timestamp(started / 1000.0) + interval '1 hour'
       FROM unnest($1::uuid[], $2::uuid[], $3::inet[], $4::text[], $5::float8[])
            AS s (id, user_id, ip, country, started)`,
    [
      sessions.map((s) => s.id),
      sessions.map((s) => s.userId),
      sessions.map((_, i) => addressOf(from + i)),
      sessions.map((_, i) => COUNTRIES[i % COUNTRIES.length]),
      sessions.map((s) => s.startedAtMs),
    ],
  );
  return sessions.map((s, i) => {
    const allocationId = randomUUID();
    return {
      key: `${s.id}|${allocationId}`,
      sessionId: s.id,
      allocationId,
      epoch,
      providerPrice: PRICES.provider,
      buyerPrice: PRICES.buyer,
      buyerId: buyerIds[(from + i) % buyerIds.length] as string,
      packageId: null,
      subUserId: null,
      bytesUp: 0n,
      bytesDown: 0n,
      openedAtMs: s.startedAtMs,
      activeAtMs: s.startedAtMs + 1_800_000,
      final: false,
      allocationEnded: false,
    };
  });
}

async function makePackages(
  pool: pg.Pool,
  userIds: readonly string[],
  total: number,
  onProgress: OnProgress,
): Promise<void> {
  const all = Array.from({ length: Math.max(0, total) }, (_, i) => ({
    user_id: userIds[i % userIds.length],
    ip: addressOf(i),
    size_bytes: 1_000_000_000,
  }));
  let done = 0;
  for (const batch of batches(all)) {
    const { errors } = await withTransaction(pool, (client) => ingestPackages(client, batch));
    if (errors[0] !== undefined) throw new Error(`a package was refused: ${errors[0].detail}`);
    done += batch.length;
    onProgress('packages', done, total);
  }
}

/** One of a million addresses of access networks. */
function addressOf(n: number): string {
  return `84.${128 + (Math.floor(n / 65_536) % 64)}.${Math.floor(n / 256) % 256}.${n % 256}`;
}

async function count(pool: pg.Pool, table: 'packages'): Promise<number> {
  const { rows } = await pool.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table}`);
  return rows[0]?.n ?? 0;
}

/** Ids are given out in their order: their difference is how many there are. */
async function lastEntryId(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ id: string }>(
    'SELECT coalesce(max(id), 0)::text AS id FROM ledger_entries',
  );
  return Number(rows[0]?.id);
}
