import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { addRecipients } from './targets.js';

/**
 * What became of one recipient's message. `sending`: its call has begun. `unknown`: the call was cut off, so it may have
 * arrived or not; an admin has it sent again or leaves it (`given_up`). `skipped`: no Telegram account left when it was
 * their turn. The table has `claimed` as well, which is `pending` to everybody but the sender.
 */
export const RECIPIENT_STATES = [
  'pending',
  'sending',
  'sent',
  'blocked',
  'failed',
  'unknown',
  'given_up',
  'skipped',
  'cancelled',
] as const;
export type RecipientState = (typeof RECIPIENT_STATES)[number];
export type BroadcastStatus = 'draft' | 'sending' | 'done' | 'cancelled';

export interface Broadcast {
  id: string;
  target: string;
  message: string;
  status: BroadcastStatus;
  created_by: string | null;
  created_at: Date;
  started_at: Date | null;
  ended_at: Date | null;
}

const COLUMNS = 'id, target, message, status, created_by, created_at, started_at, ended_at';

export async function createBroadcast(
  client: Queryable,
  fields: { target: string; message: string; adminId: string },
): Promise<Broadcast> {
  const { rows } = await client.query<Broadcast>(
    `INSERT INTO broadcasts (id, target, message, created_by) VALUES ($1, $2, $3, $4) RETURNING ${COLUMNS}`,
    [randomUUID(), fields.target, fields.message, fields.adminId],
  );
  return rows[0] as Broadcast;
}

export type BroadcastMove =
  | { ok: true; recipients: number }
  | { ok: false; code: 'not_found' | 'broadcast_not_draft' | 'broadcast_over' };

/** draft → sending: who gets it is written down now, once. Call in a transaction. */
export async function startBroadcast(client: Queryable, id: string): Promise<BroadcastMove> {
  const broadcast = await lock(client, id);
  if (broadcast === null) return { ok: false, code: 'not_found' };
  if (broadcast.status !== 'draft') return { ok: false, code: 'broadcast_not_draft' };
  await client.query("UPDATE broadcasts SET status = 'sending', started_at = now() WHERE id = $1", [id]);
  return { ok: true, recipients: await addRecipients(client, id, broadcast.target) };
}

/** draft or sending → cancelled: whoever's call has not begun gets nothing. */
export async function cancelBroadcast(client: Queryable, id: string): Promise<BroadcastMove> {
  const broadcast = await lock(client, id);
  if (broadcast === null) return { ok: false, code: 'not_found' };
  if (broadcast.status === 'done' || broadcast.status === 'cancelled')
    return { ok: false, code: 'broadcast_over' };
  await client.query("UPDATE broadcasts SET status = 'cancelled', ended_at = now() WHERE id = $1", [id]);
  const { rowCount } = await client.query(
    `UPDATE broadcast_recipients SET state = 'cancelled', ended_at = now()
      WHERE broadcast_id = $1 AND state IN ('pending', 'claimed')`,
    [id],
  );
  return { ok: true, recipients: rowCount ?? 0 };
}

/**
 * An admin's decision on all recipients who are `unknown`, in the caller's transaction: `send_again` makes them pending and
 * a broadcast that was done goes on, so that everybody has it once at least; `leave` gives them up. `recipients` is how
 * many that were; 0 when it was decided before. One that was cancelled sends nothing any more (`broadcast_over`).
 */
export async function settleUnknown(
  client: Queryable,
  id: string,
  decision: 'send_again' | 'leave',
): Promise<BroadcastMove> {
  const broadcast = await lock(client, id);
  if (broadcast === null) return { ok: false, code: 'not_found' };
  const again = decision === 'send_again';
  if (again && broadcast.status === 'cancelled') return { ok: false, code: 'broadcast_over' };
  const { rowCount } = await client.query(
    `UPDATE broadcast_recipients
        SET state = CASE WHEN $2 THEN 'pending' ELSE 'given_up' END, ended_at = CASE WHEN $2 THEN NULL ELSE now() END
      WHERE broadcast_id = $1 AND state = 'unknown'`,
    [id, again],
  );
  const recipients = rowCount ?? 0;
  if (again && recipients > 0)
    await client.query("UPDATE broadcasts SET status = 'sending', ended_at = NULL WHERE id = $1", [id]);
  return { ok: true, recipients };
}

/** Broadcasts that wait for an admin's decision on recipients who are `unknown`, oldest first. */
export async function listUnsettled(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `SELECT id FROM broadcasts b WHERE status <> 'cancelled'
        AND EXISTS (SELECT 1 FROM broadcast_recipients r WHERE r.broadcast_id = b.id AND r.state = 'unknown')
      ORDER BY started_at, id`,
  );
  return rows.map((row) => row.id);
}

/** For update, so that no batch is claimed meanwhile (`sender.ts` claims under a share of this lock). */
async function lock(client: Queryable, id: string): Promise<Broadcast | null> {
  const { rows } = await client.query<Broadcast>(
    `SELECT ${COLUMNS} FROM broadcasts WHERE id = $1 FOR UPDATE`,
    [id],
  );
  return rows[0] ?? null;
}

export async function readBroadcast(db: Queryable, id: string): Promise<Broadcast | null> {
  const { rows } = await db.query<Broadcast>(`SELECT ${COLUMNS} FROM broadcasts WHERE id = $1`, [id]);
  return rows[0] ?? null;
}

/** A recipient's state as it is told. */
const TOLD_STATE = "CASE state WHEN 'claimed' THEN 'pending' ELSE state END";

export type Counters = Record<RecipientState, number>;

/** How many recipients of each broadcast are in each state. */
export async function countRecipients(db: Queryable, ids: readonly string[]): Promise<Map<string, Counters>> {
  const { rows } = await db.query<{ broadcast_id: string; state: RecipientState; n: number }>(
    `SELECT broadcast_id, ${TOLD_STATE} AS state, count(*)::int AS n FROM broadcast_recipients
      WHERE broadcast_id = ANY ($1::uuid[]) GROUP BY 1, 2`,
    [ids],
  );
  const none = () => Object.fromEntries(RECIPIENT_STATES.map((state) => [state, 0])) as Counters;
  const counts = new Map(ids.map((id) => [id, none()]));
  for (const row of rows) {
    const of = counts.get(row.broadcast_id);
    if (of !== undefined) of[row.state] = row.n;
  }
  return counts;
}

/** Broadcasts, newest first. */
export async function listBroadcasts(
  db: Queryable,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: Broadcast[]; nextCursor: string | null }> {
  const after =
    page.cursor === undefined ? [] : decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
  const { rows } = await db.query<Broadcast & { at: string }>(
    `SELECT ${COLUMNS}, to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at FROM broadcasts
      WHERE ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid))
      ORDER BY created_at DESC, id DESC LIMIT $3`,
    [after[0] ?? null, after[1] ?? null, page.limit + 1],
  );
  return cutPage(rows, page.limit, (row) => [row.at, row.id]);
}

export interface Recipient {
  user_id: string;
  state: RecipientState;
  claimed_at: Date | null;
  ended_at: Date | null;
}

/** Recipients of one broadcast in the order of their ids. */
export async function listRecipients(
  db: Queryable,
  broadcastId: string,
  filter: { state?: RecipientState | undefined },
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: Recipient[]; nextCursor: string | null }> {
  const after = page.cursor === undefined ? null : decodeCursor(page.cursor, [cursorPart.uuid])[0];
  const { rows } = await db.query<Recipient>(
    `SELECT user_id, ${TOLD_STATE} AS state, claimed_at, ended_at FROM broadcast_recipients
      WHERE broadcast_id = $1 AND ($3::uuid IS NULL OR user_id > $3)
        AND ($2::text IS NULL OR state = $2 OR ($2 = 'pending' AND state = 'claimed'))
      ORDER BY user_id LIMIT $4`,
    [broadcastId, filter.state ?? null, after, page.limit + 1],
  );
  return cutPage(rows, page.limit, (row) => [row.user_id]);
}
