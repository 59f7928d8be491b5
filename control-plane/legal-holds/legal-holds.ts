import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { waitForDeletions } from './held.js';

/**
 * `asked`: in force, waits for its second admin until it lapses. `lift_asked`: in force, waits for a second admin to lift it.
 */
export const HOLD_STATES = ['asked', 'in_force', 'lift_asked', 'lapsed', 'lifted'] as const;
export type HoldState = (typeof HOLD_STATES)[number];

export interface LegalHold {
  id: string;
  buyer_id: string | null;
  user_id: string | null;
  state: HoldState;
  reason: string;
  asked_at: Date;
  asked_by: string;
  lapses_at: Date;
  confirmed_at: Date | null;
  confirmed_by: string | null;
  lift_reason: string | null;
  lift_asked_at: Date | null;
  lift_asked_by: string | null;
  lifted_at: Date | null;
  lifted_by: string | null;
}

const SELECT = `SELECT id, buyer_id, user_id, reason, asked_at, asked_by, lapses_at, confirmed_at, confirmed_by,
    lift_reason, lift_asked_at, lift_asked_by, lifted_at, lifted_by,
    CASE WHEN lifted_at IS NOT NULL THEN 'lifted'
         WHEN confirmed_at IS NULL AND lapses_at <= now() THEN 'lapsed'
         WHEN lift_asked_at IS NOT NULL THEN 'lift_asked'
         WHEN confirmed_at IS NULL THEN 'asked' ELSE 'in_force' END AS state FROM legal_holds`;

/** Puts a hold in force. Null: there is no such buyer or provider. */
export async function askForHold(
  client: Queryable,
  hold: {
    buyerId: string | null;
    userId: string | null;
    reason: string;
    adminId: string;
    confirmDays: number;
  },
): Promise<LegalHold | null> {
  await waitForDeletions(client);
  const { rows } = await client.query<{ id: string }>(
    `INSERT INTO legal_holds (id, buyer_id, user_id, reason, asked_by, lapses_at)
     SELECT $1::uuid, $2::uuid, $3::uuid, $4::text, $5::uuid, now() + make_interval(days => $6)
      WHERE EXISTS (SELECT 1 FROM buyers WHERE id = $2) OR EXISTS (SELECT 1 FROM users WHERE id = $3)
     RETURNING id`,
    [randomUUID(), hold.buyerId, hold.userId, hold.reason, hold.adminId, hold.confirmDays],
  );
  const id = rows[0]?.id;
  return id === undefined ? null : readHold(client, id);
}

/** Null: there is none. `lock`: it stays as it is until the transaction ends. */
export async function readHold(db: Queryable, id: string, lock = false): Promise<LegalHold | null> {
  const { rows } = await db.query<LegalHold>(`${SELECT} WHERE id = $1${lock ? ' FOR UPDATE' : ''}`, [id]);
  return rows[0] ?? null;
}

export type HoldStep =
  | { ok: true; hold: LegalHold }
  | { ok: false; code: 'not_found' | 'second_admin_needed' }
  | { ok: false; code: 'legal_hold_state'; state: HoldState };

/** The second admin agrees to a hold that was asked for. */
export async function confirmHold(client: Queryable, id: string, adminId: string): Promise<HoldStep> {
  const hold = await readHold(client, id, true);
  if (hold === null) return { ok: false, code: 'not_found' };
  if (hold.state !== 'asked') return { ok: false, code: 'legal_hold_state', state: hold.state };
  if (hold.asked_by === adminId) return { ok: false, code: 'second_admin_needed' };
  await client.query('UPDATE legal_holds SET confirmed_at = now(), confirmed_by = $2 WHERE id = $1', [
    id,
    adminId,
  ]);
  return { ok: true, hold: (await readHold(client, id)) as LegalHold };
}

/**
 * The first admin asks to lift a hold, for a reason; another one, who calls the same, lifts it. The proposal counts only while
 * who made it is an admin still.
 */
export async function liftHold(
  client: Queryable,
  id: string,
  adminId: string,
  reason: string,
): Promise<HoldStep> {
  const hold = await readHold(client, id, true);
  if (hold === null) return { ok: false, code: 'not_found' };
  if (hold.state === 'lifted' || hold.state === 'lapsed')
    return { ok: false, code: 'legal_hold_state', state: hold.state };
  const { rows } = await client.query<{ good: boolean }>(
    "SELECT is_admin AND status = 'active' AS good FROM users WHERE id = $1",
    [hold.lift_asked_by],
  );
  if (hold.lift_asked_by !== null && hold.lift_asked_by !== adminId && rows[0]?.good === true)
    await client.query('UPDATE legal_holds SET lifted_at = now(), lifted_by = $2 WHERE id = $1', [
      id,
      adminId,
    ]);
  else
    await client.query(
      'UPDATE legal_holds SET lift_asked_at = now(), lift_asked_by = $2, lift_reason = $3 WHERE id = $1',
      [id, adminId, reason],
    );
  return { ok: true, hold: (await readHold(client, id)) as LegalHold };
}

/** What an admin may narrow the list to. */
export interface HoldFilter {
  /** Not lifted; false: lifted. Left out: all. */
  open?: boolean | undefined;
  buyerId?: string | undefined;
  userId?: string | undefined;
}

/** Holds, those asked for last first. */
export async function listHolds(
  db: Queryable,
  filter: HoldFilter,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: LegalHold[]; nextCursor: string | null }> {
  const values: unknown[] = [];
  const value = (given: unknown) => `$${values.push(given)}`;
  const conditions: string[] = [];
  if (filter.open !== undefined) conditions.push(`lifted_at IS ${filter.open ? '' : 'NOT '}NULL`);
  if (filter.buyerId !== undefined) conditions.push(`buyer_id = ${value(filter.buyerId)}`);
  if (filter.userId !== undefined) conditions.push(`user_id = ${value(filter.userId)}`);
  if (page.cursor !== undefined) {
    const [at, id] = decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
    conditions.push(`(asked_at, id) < (${value(at)}::timestamptz, ${value(id)}::uuid)`);
  }
  const { rows } = await db.query<LegalHold>(
    `${SELECT} WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}
      ORDER BY asked_at DESC, id DESC LIMIT ${page.limit + 1}`,
    values,
  );
  return cutPage(rows, page.limit, (row) => [row.asked_at, row.id]);
}

/** Kind of what admins are warned of (`alerts/`). */
export const LEGAL_HOLD_ALERT = 'legal_hold_waits';

/** What admins are to be warned of: that holds wait for their second admin. */
export async function legalHoldConditions(db: Queryable): Promise<{ key: string; detail: string }[]> {
  const { rows } = await db.query<{ waits: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM legal_holds WHERE lifted_at IS NULL
        AND (confirmed_at IS NULL AND lapses_at > now() OR lift_asked_at IS NOT NULL)) AS waits`,
  );
  const detail = 'A legal hold waits for a second admin. See the console under Legal holds.';
  return rows[0]?.waits ? [{ key: LEGAL_HOLD_ALERT, detail }] : [];
}
