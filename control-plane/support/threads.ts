import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';

/** Threads of one user that are not closed; above it 409. */
export const OPEN_THREADS_MAX = 10;
/** Messages told with a thread, the latest; a thread that goes on for longer keeps the rest. */
const MESSAGES_MAX = 200;

export type ThreadStatus = 'open' | 'answered' | 'closed';

export interface Thread {
  id: string;
  user_id: string;
  subject: string;
  /** `open`: waits for an admin; `answered`: for the user. */
  status: ThreadStatus;
  created_at: Date;
  updated_at: Date;
  /** The newest message. */
  last_message: string;
  messages: number;
}

export interface Message {
  id: bigint;
  author: 'user' | 'admin';
  body: string;
  created_at: Date;
}

const SELECT = `SELECT t.id, t.user_id, t.subject, t.status, t.created_at, t.updated_at,
    to_char(t.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at, m.last_message, m.messages
  FROM support_threads t
  CROSS JOIN LATERAL (SELECT (array_agg(body ORDER BY id DESC))[1] AS last_message, count(*)::int AS messages
                        FROM support_messages WHERE thread_id = t.id) m`;

/** Threads, those with the latest message first. */
export async function listThreads(
  db: Queryable,
  filter: { userId?: string | undefined; status?: ThreadStatus | undefined },
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: Thread[]; nextCursor: string | null }> {
  const conditions: string[] = [];
  const values: unknown[] = [];
  const value = (given: unknown) => `$${values.push(given)}`;
  if (filter.userId !== undefined) conditions.push(`t.user_id = ${value(filter.userId)}`);
  if (filter.status !== undefined) conditions.push(`t.status = ${value(filter.status)}`);
  if (page.cursor !== undefined) {
    const [at, id] = decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
    conditions.push(`(t.updated_at, t.id) < (${value(at)}::timestamptz, ${value(id)}::uuid)`);
  }
  const { rows } = await db.query<Thread & { at: string }>(
    `${SELECT} WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}
      ORDER BY t.updated_at DESC, t.id DESC LIMIT ${page.limit + 1}`,
    values,
  );
  return cutPage(rows, page.limit, (row) => [row.at, row.id]);
}

/** One thread with its latest messages, oldest of them first; null: there is none. */
export async function readThread(
  db: Queryable,
  id: string,
): Promise<{ thread: Thread; messages: Message[] } | null> {
  const { rows } = await db.query<Thread>(`${SELECT} WHERE t.id = $1`, [id]);
  const [thread] = rows;
  if (thread === undefined) return null;
  const messages = await db.query<Message>(
    `SELECT * FROM (SELECT id, author, body, created_at FROM support_messages WHERE thread_id = $1
                     ORDER BY id DESC LIMIT ${MESSAGES_MAX}) m ORDER BY id`,
    [id],
  );
  return { thread, messages: messages.rows };
}

async function addMessage(
  client: Queryable,
  threadId: string,
  message: { author: 'user' | 'admin'; adminId: string | null; body: string },
  status: ThreadStatus,
): Promise<bigint> {
  const { rows } = await client.query<{ id: bigint }>(
    'INSERT INTO support_messages (thread_id, author, admin_id, body) VALUES ($1, $2, $3, $4) RETURNING id',
    [threadId, message.author, message.adminId, message.body],
  );
  await client.query('UPDATE support_threads SET status = $2, updated_at = now() WHERE id = $1', [
    threadId,
    status,
  ]);
  return (rows[0] as { id: bigint }).id;
}

/** Opens a thread, in the caller's transaction. Null: the user has `OPEN_THREADS_MAX` open. */
export async function openThread(
  client: Queryable,
  userId: string,
  request: { subject: string; message: string },
): Promise<string | null> {
  // Two at once must not both be the last one allowed.
  await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
  const { rows } = await client.query<{ n: number }>(
    "SELECT count(*)::int AS n FROM support_threads WHERE user_id = $1 AND status <> 'closed'",
    [userId],
  );
  if ((rows[0]?.n ?? 0) >= OPEN_THREADS_MAX) return null;
  const id = randomUUID();
  await client.query('INSERT INTO support_threads (id, user_id, subject) VALUES ($1, $2, $3)', [
    id,
    userId,
    request.subject,
  ]);
  await addMessage(client, id, { author: 'user', adminId: null, body: request.message }, 'open');
  return id;
}

export type AddResult =
  | { ok: true; userId: string; subject: string; messageId: bigint }
  | { ok: false; code: 'not_found' | 'forbidden' | 'thread_closed' };

/** A further message of the user; an answered thread is open again. */
export async function continueThread(
  client: Queryable,
  threadId: string,
  userId: string,
  body: string,
): Promise<AddResult> {
  const thread = await lockThread(client, threadId);
  if (thread === null) return { ok: false, code: 'not_found' };
  if (thread.user_id !== userId) return { ok: false, code: 'forbidden' };
  if (thread.status === 'closed') return { ok: false, code: 'thread_closed' };
  const messageId = await addMessage(client, threadId, { author: 'user', adminId: null, body }, 'open');
  return { ok: true, userId, subject: thread.subject, messageId };
}

/** An admin's answer; with `close` the last one. */
export async function replyToThread(
  client: Queryable,
  threadId: string,
  reply: { adminId: string; body: string; close: boolean },
): Promise<AddResult> {
  const thread = await lockThread(client, threadId);
  if (thread === null) return { ok: false, code: 'not_found' };
  if (thread.status === 'closed') return { ok: false, code: 'thread_closed' };
  const { adminId, body } = reply;
  const status = reply.close ? 'closed' : 'answered';
  const messageId = await addMessage(client, threadId, { author: 'admin', adminId, body }, status);
  return { ok: true, userId: thread.user_id, subject: thread.subject, messageId };
}

async function lockThread(client: Queryable, id: string) {
  const { rows } = await client.query<Pick<Thread, 'user_id' | 'status' | 'subject'>>(
    'SELECT user_id, status, subject FROM support_threads WHERE id = $1 FOR UPDATE',
    [id],
  );
  return rows[0] ?? null;
}
