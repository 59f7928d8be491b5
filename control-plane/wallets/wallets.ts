import type { WalletKind, WalletOwner, WalletRecord } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';
import { chargeMicros } from '../ledger/money.js';
import { decideGrant } from './core.js';

/** Whose hold it is: one row of `wallet_holds`. */
export interface HoldKey {
  gatewayId: string;
  run: string;
  owner: WalletOwner;
}

/** What a run says of one wallet. */
export interface WalletQuestion extends HoldKey {
  wantGranted: bigint;
  renounced: bigint;
  /** Asks up to this `wantGranted` are withdrawn. */
  withdrawn: bigint;
  finished: boolean;
  /** It was answered with less than asked; there may be more now. Else an ask is answered once. */
  again: boolean;
}

/** What holds after the commit. */
export interface WalletReply extends HoldKey {
  granted: bigint;
  /** The `wantGranted` it answers. */
  answered: bigint;
  state: WalletRecord['state'];
  /** What nobody has set aside; null: it was not looked at. */
  beyond: bigint | null;
  /** The hold is closed (or never was): nothing is to be shown of it any more. */
  closed: boolean;
  /** Something came back that another run may want. */
  gaveBack: boolean;
}

/** A grant below this is not worth it, bytes. */
const UNIT_BYTES = 2n ** 20n;

interface Owned {
  /** Units owned and not spent; of buyers the balance. null: no limit. */
  left: bigint | null;
  unit: bigint;
}

/** The columns that name a hold. */
interface HoldColumns {
  kind: WalletKind;
  owner_id: string;
  gateway_id: string;
  run: string;
}

interface HoldRow extends HoldColumns {
  granted: bigint;
  renounced: bigint;
  spent: bigint;
  answered: bigint;
  closed: boolean;
}

const ownerKey = (o: WalletOwner) => `${o.kind} ${o.ownerId}`;
const holdKey = (h: HoldKey) => `${h.owner.kind} ${h.owner.ownerId} ${h.gatewayId} ${h.run}`;
const keyOfRow = (r: HoldColumns) => `${r.kind} ${r.owner_id} ${r.gateway_id} ${r.run}`;
const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Answers what runs ask: books what comes back, closes what is finished, grants what is there. In the caller's
 * transaction; show the replies only after its commit. Repeating it with the same or older questions does no harm.
 *
 * Locks in the order allocations → ledger accounts → wallet_holds → sub_users → byte_quotas, each by key. All grants of
 * one owner wait for each other at its own row (ledger account, allocation, sub-user, quota), and settlement moves balance and `spent`
 * under the same lock, so what is read below is what is.
 */
export async function answerWallets(
  client: Queryable,
  questions: readonly WalletQuestion[],
  options: { defaultBuyerPriceMicrosPerGb: bigint },
): Promise<WalletReply[]> {
  const asked = questions
    .map((q): Asked => ({ q, key: holdKey(q), ownerKey: ownerKey(q.owner) }))
    .sort((a, b) => byText(a.key, b.key));
  const owned = await lockPackages(client, idsOf('package', asked));
  await lockBuyers(client, idsOf('buyer', asked), options.defaultBuyerPriceMicrosPerGb, owned);
  const owners = [...new Map(asked.map(({ q, ownerKey }) => [ownerKey, q.owner])).values()];
  await client.query(
    `SELECT 1 FROM wallet_holds WHERE (kind, owner_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))
        AND closed_at IS NULL ORDER BY kind, owner_id, gateway_id, run FOR NO KEY UPDATE`,
    [owners.map((o) => o.kind), owners.map((o) => o.ownerId)],
  );
  await lockSubUsers(client, idsOf('sub_user', asked), owned);
  await lockQuotas(client, [...idsOf('day', asked), ...idsOf('month', asked)], owned);

  const holds = await readHolds(client, owners);
  const before = new Map<string, bigint>();
  for (const [key, row] of holds) before.set(key, heldOf(row));
  // What comes back first: it may be granted to another right away.
  for (const { q, key } of asked) {
    const row = holds.get(key);
    if (row && !row.closed && q.renounced > row.renounced) row.renounced = q.renounced;
  }
  const closed = await closeFinished(client, asked, holds);

  const changed = new Map<string, HoldRow>();
  const decided = asked.map(({ q, key, ownerKey }) => {
    const known = holds.get(key);
    const row = known ?? emptyRow(q);
    const reply = decide(q, row, known !== undefined, owned.get(ownerKey), holds);
    const heldBefore = before.get(key) ?? 0n;
    if (reply.granted > row.granted || (known && !row.closed && isNews(q, row, heldBefore))) {
      row.granted = reply.granted;
      if (q.wantGranted > row.answered) row.answered = q.wantGranted;
      holds.set(key, row);
      changed.set(key, row);
    }
    reply.gaveBack = heldOf(row) < heldBefore || closed.has(key);
    return reply;
  });
  const written = await writeHolds(client, [...changed.values()]);
  // Closed by somebody who took no lock here (an admin's write-off): nothing was granted to it.
  asked.forEach(({ key }, i) => {
    const reply = decided[i];
    if (reply && changed.has(key) && !written.has(key)) reply.closed = true;
  });
  return decided;
}

/** A question with the names that it is looked up by, made once. */
interface Asked {
  q: WalletQuestion;
  /** `holdKey`. */
  key: string;
  ownerKey: string;
}

function idsOf(kind: WalletKind, asked: readonly Asked[]): string[] {
  const ids = new Set<string>();
  for (const { q } of asked) if (q.owner.kind === kind) ids.add(q.owner.ownerId);
  return [...ids];
}

/** Whether something else than a grant is to be written. */
const isNews = (q: WalletQuestion, row: HoldRow, heldBefore: bigint): boolean =>
  q.wantGranted > row.answered || heldOf(row) !== heldBefore;

const heldOf = (row: HoldRow): bigint => {
  const held = row.granted - row.renounced - row.spent;
  return row.closed || held < 0n ? 0n : held;
};

function emptyRow(q: HoldKey): HoldRow {
  return {
    kind: q.owner.kind,
    owner_id: q.owner.ownerId,
    gateway_id: q.gatewayId,
    run: q.run,
    granted: 0n,
    renounced: 0n,
    spent: 0n,
    answered: 0n,
    closed: false,
  };
}

function decide(
  q: WalletQuestion,
  row: HoldRow,
  known: boolean,
  owned: Owned | undefined,
  holds: ReadonlyMap<string, HoldRow>,
): WalletReply {
  const { gatewayId, run, owner } = q;
  const reply: WalletReply = {
    gatewayId,
    run,
    owner,
    granted: row.granted,
    answered: q.wantGranted,
    state: 'exhausted',
    beyond: null,
    closed: false,
    gaveBack: false,
  };
  if (row.closed || (!known && q.finished)) {
    reply.closed = true;
    return reply;
  }
  if (owned === undefined) return reply;
  let held = 0n;
  let othersHold = false;
  for (const other of holds.values()) {
    if (other.kind !== owner.kind || other.owner_id !== owner.ownerId) continue;
    const itsHeld = heldOf(other);
    held += itsHeld;
    if (other !== row && itsHeld > 0n) othersHold = true;
  }
  const available = owned.left === null ? 2n ** 62n : owned.left - held;
  const answeredBefore = q.wantGranted <= row.answered && !q.again && available > 0n;
  if (q.finished || q.withdrawn >= q.wantGranted || answeredBefore) {
    reply.state = 'open';
    return reply;
  }
  const grant = decideGrant({
    granted: row.granted,
    wantGranted: q.wantGranted,
    available,
    unit: owned.unit,
    othersHold,
  });
  reply.granted = grant.granted;
  reply.state = grant.state;
  reply.beyond = grant.beyond;
  return reply;
}

async function lockPackages(client: Queryable, ids: readonly string[]): Promise<Map<string, Owned>> {
  const found = new Map<string, Owned>();
  if (ids.length === 0) return found;
  const { rows } = await client.query<{ id: string; left: bigint }>(
    `SELECT id, size_bytes - bytes_up - bytes_down AS left FROM allocations
      WHERE id = ANY ($1::uuid[]) AND via = 'pull' ORDER BY id FOR NO KEY UPDATE`,
    [ids],
  );
  for (const r of rows) found.set(`package ${r.id}`, { left: r.left, unit: UNIT_BYTES });
  return found;
}

async function lockBuyers(
  client: Queryable,
  ids: readonly string[],
  defaultPriceMicrosPerGb: bigint,
  found: Map<string, Owned>,
): Promise<void> {
  if (ids.length === 0) return;
  const { rows } = await client.query<{ id: string; balance_micros: bigint; price: bigint | null }>(
    `SELECT b.id, a.balance_micros, b.price_micros_per_gb AS price
       FROM ledger_accounts a JOIN buyers b ON b.id = a.owner_id
      WHERE a.kind = 'buyer_prepaid' AND a.owner_id = ANY ($1::uuid[]) ORDER BY a.id FOR NO KEY UPDATE OF a`,
    [ids],
  );
  for (const r of rows)
    found.set(`buyer ${r.id}`, {
      left: r.balance_micros,
      unit: chargeMicros(UNIT_BYTES, r.price ?? defaultPriceMicrosPerGb) + 1n,
    });
}

async function lockSubUsers(
  client: Queryable,
  ids: readonly string[],
  found: Map<string, Owned>,
): Promise<void> {
  if (ids.length === 0) return;
  const { rows } = await client.query<{ id: string; left: bigint | null }>(
    `SELECT id, bytes_max - bytes_used AS left FROM sub_users
      WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
    [ids],
  );
  for (const r of rows) found.set(`sub_user ${r.id}`, { left: r.left, unit: UNIT_BYTES });
}

/** A period that is over counts nothing, by Postgres's clock; what is held of it still counts. */
async function lockQuotas(
  client: Queryable,
  ids: readonly string[],
  found: Map<string, Owned>,
): Promise<void> {
  if (ids.length === 0) return;
  const { rows } = await client.query<{ id: string; day_left: bigint | null; month_left: bigint | null }>(
    `SELECT owner_id AS id,
            bytes_per_day_max - CASE WHEN day >= utc_day() THEN day_bytes ELSE 0 END AS day_left,
            bytes_per_month_max - CASE WHEN month >= utc_month() THEN month_bytes ELSE 0 END AS month_left
       FROM byte_quotas WHERE owner_id = ANY ($1::uuid[]) ORDER BY owner_id FOR NO KEY UPDATE`,
    [[...new Set(ids)]],
  );
  for (const r of rows) {
    found.set(`day ${r.id}`, { left: r.day_left, unit: UNIT_BYTES });
    found.set(`month ${r.id}`, { left: r.month_left, unit: UNIT_BYTES });
  }
}

async function readHolds(client: Queryable, owners: readonly WalletOwner[]): Promise<Map<string, HoldRow>> {
  const { rows } = await client.query<HoldRow>(
    `SELECT kind, owner_id, gateway_id, run, granted, renounced, spent, answered, closed_at IS NOT NULL AS closed
       FROM wallet_holds WHERE (kind, owner_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))`,
    [owners.map((o) => o.kind), owners.map((o) => o.ownerId)],
  );
  const holds = new Map<string, HoldRow>();
  for (const row of rows) holds.set(keyOfRow(row), row);
  return holds;
}

/** Which meters of a hold's run and owner are not committed FINAL (or written off) yet. */
const UNSETTLED = `
  SELECT 1 FROM meters m JOIN allocations al ON al.id = m.allocation_id
   WHERE m.gateway_id = h.gateway_id AND left(m.epoch, 24) = h.run AND NOT m.final AND m.written_off_at IS NULL
     AND CASE h.kind WHEN 'buyer' THEN al.buyer_id = h.owner_id
                     WHEN 'package' THEN al.id = h.owner_id
                     ELSE al.buyer_id =
                          coalesce((SELECT buyer_id FROM sub_users WHERE id = h.owner_id), h.owner_id) END`;

const CLOSE_FINISHED = `
  UPDATE wallet_holds h SET closed_at = now(), updated_at = now()
   WHERE (h.kind, h.owner_id, h.gateway_id, h.run) IN
           (SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[]))
     AND h.closed_at IS NULL AND NOT EXISTS (${UNSETTLED})
   RETURNING kind, owner_id, gateway_id, run`;

/** Closes the holds of finished runs; returns the keys of those it closed. */
async function closeFinished(
  client: Queryable,
  asked: readonly Asked[],
  holds: ReadonlyMap<string, HoldRow>,
): Promise<Set<string>> {
  const done: WalletQuestion[] = [];
  for (const { q, key } of asked) if (q.finished && holds.get(key)?.closed === false) done.push(q);
  const closed = new Set<string>();
  if (done.length === 0) return closed;
  const { rows } = await client.query<HoldColumns>(CLOSE_FINISHED, [
    done.map((q) => q.owner.kind),
    done.map((q) => q.owner.ownerId),
    done.map((q) => q.gatewayId),
    done.map((q) => q.run),
  ]);
  for (const r of rows) {
    const key = keyOfRow(r);
    closed.add(key);
    const row = holds.get(key);
    if (row) row.closed = true;
  }
  return closed;
}

/** Returns the keys of the rows that are written; one that was closed meanwhile is not. */
async function writeHolds(client: Queryable, rows: readonly HoldRow[]): Promise<Set<string>> {
  const written = new Set<string>();
  if (rows.length === 0) return written;
  const result = await client.query<HoldColumns>(
    `INSERT INTO wallet_holds AS h (kind, owner_id, gateway_id, run, granted, renounced, answered)
     SELECT kind, owner_id, gateway_id, run, granted, renounced, answered
       FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
            WITH ORDINALITY AS w (kind, owner_id, gateway_id, run, granted, renounced, answered, n) ORDER BY n
     ON CONFLICT (kind, owner_id, gateway_id, run) DO UPDATE
        SET granted = greatest(h.granted, excluded.granted), renounced = greatest(h.renounced, excluded.renounced),
            answered = greatest(h.answered, excluded.answered), updated_at = now()
      WHERE h.closed_at IS NULL
     RETURNING kind, owner_id, gateway_id, run`,
    [
      rows.map((r) => r.kind),
      rows.map((r) => r.owner_id),
      rows.map((r) => r.gateway_id),
      rows.map((r) => r.run),
      rows.map((r) => r.granted.toString()),
      rows.map((r) => r.renounced.toString()),
      rows.map((r) => r.answered.toString()),
    ],
  );
  for (const row of result.rows) written.add(keyOfRow(row));
  return written;
}

/**
 * Closes every hold of a run whose meters are all committed FINAL or written off; for an admin who writes off a lost
 * gateway's run. Holds with meters that are neither stay. Returns how many it closed.
 */
export async function closeHoldsOfRun(client: Queryable, gatewayId: string, run: string): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE wallet_holds h SET closed_at = now(), updated_at = now()
      WHERE h.gateway_id = $1 AND h.run = $2 AND h.closed_at IS NULL AND NOT EXISTS (${UNSETTLED})`,
    [gatewayId, run],
  );
  return rowCount ?? 0;
}

/** Open holds of these owners, wherever they are. */
export async function openHoldsOf(db: Queryable, owners: readonly WalletOwner[]): Promise<HoldKey[]> {
  const { rows } = await db.query<HoldColumns>(
    `SELECT kind, owner_id, gateway_id, run FROM wallet_holds
      WHERE (kind, owner_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[])) AND closed_at IS NULL`,
    [owners.map((o) => o.kind), owners.map((o) => o.ownerId)],
  );
  return rows.map((r) => ({
    owner: { kind: r.kind, ownerId: r.owner_id },
    gatewayId: r.gateway_id,
    run: r.run,
  }));
}

/** An open hold with what Postgres says of it. */
export interface OpenHold extends HoldKey {
  granted: bigint;
  renounced: bigint;
}

/** Open holds, of one gateway or (null) of all, in the order of gateway, run, kind and owner, after a place in it. */
export async function readOpenHolds(
  db: Queryable,
  gatewayId: string | null,
  after: HoldKey | null,
  limit: number,
): Promise<OpenHold[]> {
  const { rows } = await db.query<HoldRow>(
    `SELECT kind, owner_id, gateway_id, run, granted, renounced FROM wallet_holds
      WHERE closed_at IS NULL AND ($1::text IS NULL OR gateway_id = $1)
        AND ($2::text IS NULL OR (gateway_id, run, kind, owner_id) > ($2, $3, $4, $5::uuid))
      ORDER BY gateway_id, run, kind, owner_id LIMIT $6`,
    [
      gatewayId,
      after?.gatewayId ?? null,
      after?.run ?? null,
      after?.owner.kind ?? null,
      after?.owner.ownerId ?? null,
      limit,
    ],
  );
  return rows.map((r) => ({
    owner: { kind: r.kind, ownerId: r.owner_id },
    gatewayId: r.gateway_id,
    run: r.run,
    granted: r.granted,
    renounced: r.renounced,
  }));
}
