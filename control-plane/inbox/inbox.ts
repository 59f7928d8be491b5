import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';

/** What a provider finds in the app's inbox. */
export interface Notification {
  userId: string;
  /** What it is about: `support_reply`, `promo_redeemed`, `broadcast`, … */
  kind: string;
  /** In the user's language. */
  title: string;
  body: string;
}

export interface InboxRow {
  id: bigint;
  kind: string;
  title: string;
  body: string;
  created_at: Date;
  read_at: Date | null;
}

/** Puts one into the inbox, in the caller's transaction: there is no notice of what did not happen. */
export async function notify(client: Queryable, n: Notification): Promise<void> {
  await client.query('INSERT INTO notifications (user_id, kind, title, body) VALUES ($1, $2, $3, $4)', [
    n.userId,
    n.kind,
    n.title,
    n.body,
  ]);
}

/** The inbox, newest first. */
export async function readInbox(
  db: Queryable,
  userId: string,
  page: { unread: boolean; limit: number; cursor?: string | undefined },
): Promise<{ rows: InboxRow[]; nextCursor: string | null }> {
  const before = page.cursor === undefined ? null : decodeCursor(page.cursor, [cursorPart.integer])[0];
  const { rows } = await db.query<InboxRow>(
    `SELECT id, kind, title, body, created_at, read_at FROM notifications
      WHERE user_id = $1 AND ($2::bigint IS NULL OR id < $2) AND (NOT $3::boolean OR read_at IS NULL)
      ORDER BY id DESC LIMIT $4`,
    [userId, before, page.unread, page.limit + 1],
  );
  return cutPage(rows, page.limit, (row) => [row.id]);
}

export async function countUnread(db: Queryable, userId: string): Promise<number> {
  const { rows } = await db.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM notifications WHERE user_id = $1 AND read_at IS NULL',
    [userId],
  );
  return rows[0]?.n ?? 0;
}

/** Marks some as read, or all up to now. Ids of others are left alone. Returns how many were unread. */
export async function markRead(
  client: Queryable,
  userId: string,
  ids: readonly string[] | 'all',
): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE notifications SET read_at = now()
      WHERE user_id = $1 AND read_at IS NULL AND ($2::bigint[] IS NULL OR id = ANY ($2))`,
    [userId, ids === 'all' ? null : ids],
  );
  return rowCount ?? 0;
}
