import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import type { Language } from '../users/users.js';

/** An announcement in every language the product speaks. */
export type NewsTexts = Record<Language, { title: string; body: string }>;

export interface NewsRow {
  id: string;
  texts: NewsTexts;
  publish_at: Date;
  expires_at: Date | null;
  created_at: Date;
  updated_at: Date;
  at: string;
}

export interface NewsFields {
  texts: NewsTexts;
  /** Shown from then; null: from now. */
  publishAt: string | null;
  /** Not shown any more from then; null: for ever. */
  expiresAt: string | null;
}

const COLUMNS = `id, texts, publish_at, expires_at, created_at, updated_at,
  to_char(publish_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at`;

/** News, latest first. `published`: only what is shown now. */
export async function listNews(
  db: Queryable,
  published: boolean,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: NewsRow[]; nextCursor: string | null }> {
  const after =
    page.cursor === undefined ? [] : decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
  const { rows } = await db.query<NewsRow>(
    `SELECT ${COLUMNS} FROM news
      WHERE ($1::timestamptz IS NULL OR (publish_at, id) < ($1, $2::uuid))
        AND (NOT $3::boolean OR (publish_at <= now() AND (expires_at IS NULL OR expires_at > now())))
      ORDER BY publish_at DESC, id DESC LIMIT $4`,
    [after[0] ?? null, after[1] ?? null, published, page.limit + 1],
  );
  return cutPage(rows, page.limit, (row) => [row.at, row.id]);
}

export async function findNews(db: Queryable, id: string, lock = false): Promise<NewsRow | null> {
  const { rows } = await db.query<NewsRow>(
    `SELECT ${COLUMNS} FROM news WHERE id = $1 ${lock ? 'FOR UPDATE' : ''}`,
    [id],
  );
  return rows[0] ?? null;
}

export async function createNews(client: Queryable, fields: NewsFields, adminId: string): Promise<NewsRow> {
  const { rows } = await client.query<NewsRow>(
    `INSERT INTO news (id, texts, publish_at, expires_at, created_by)
     VALUES ($1, $2, coalesce($3::timestamptz, now()), $4, $5) RETURNING ${COLUMNS}`,
    [randomUUID(), JSON.stringify(fields.texts), fields.publishAt, fields.expiresAt, adminId],
  );
  return rows[0] as NewsRow;
}

/** Changes what is given; of the texts, only the languages given. Null when there is none of this id. */
export async function changeNews(
  client: Queryable,
  id: string,
  changes: { texts?: Partial<NewsTexts>; publishAt?: string; expiresAt?: string | null },
): Promise<NewsRow | null> {
  const { rows } = await client.query<NewsRow>(
    `UPDATE news SET texts = texts || $2::jsonb, publish_at = coalesce($3::timestamptz, publish_at),
       expires_at = CASE WHEN $4 THEN $5::timestamptz ELSE expires_at END, updated_at = now()
      WHERE id = $1 RETURNING ${COLUMNS}`,
    [
      id,
      JSON.stringify(changes.texts ?? {}),
      changes.publishAt ?? null,
      changes.expiresAt !== undefined,
      changes.expiresAt ?? null,
    ],
  );
  return rows[0] ?? null;
}

export async function removeNews(client: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await client.query('DELETE FROM news WHERE id = $1', [id]);
  return rowCount === 1;
}
