import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import type { Job } from './job.js';

/** Something that must go out once its transaction is committed. */
export interface OutboxItem {
  /** Names who delivers it. */
  kind: string;
  /** The same key of one kind goes in once; left out: always. */
  key?: string;
  /** JSON, without secrets. */
  payload: unknown;
  /** Not before. Default: now. */
  dueAt?: Date;
}

export interface OutboxMessage {
  id: bigint;
  kind: string;
  payload: unknown;
  /** 1 at the first. */
  attempt: number;
}

/**
 * Delivers one message within 60 s; rejects when it should be tried again later. A crash between delivery and commit repeats it, so
 * whoever must not say a thing twice looks at `id`.
 */
export type OutboxHandler = (message: OutboxMessage, signal: AbortSignal) => Promise<void>;

/** Puts messages in; pass the client of the transaction that is the reason for them. Resolves to how many were new. */
export async function putIntoOutbox(client: Queryable, items: readonly OutboxItem[]): Promise<number> {
  if (items.length === 0) return 0;
  const { rowCount } = await client.query(
    `INSERT INTO outbox (kind, key, payload, due_at)
     SELECT kind, key, payload::jsonb, coalesce(due_at, now())
       FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS i (kind, key, payload, due_at)
     ON CONFLICT (kind, key) DO NOTHING`,
    [
      items.map((item) => item.kind),
      items.map((item) => item.key ?? null),
      items.map((item) => JSON.stringify(item.payload)),
      items.map((item) => item.dueAt ?? null),
    ],
  );
  return rowCount ?? 0;
}

export interface OutboxDeps {
  pool: pg.Pool;
  log: Log;
}

/** Tries of one message; the waits between them double from a minute to some hours. */
const ATTEMPTS_MAX = 10;
const RETRY_FIRST_S = 60;

/** Hands due messages to those who deliver them. Kinds that nobody delivers wait. */
export class Outbox {
  readonly #deps: OutboxDeps;
  readonly #handlers = new Map<string, OutboxHandler>();

  constructor(deps: OutboxDeps) {
    this.#deps = deps;
  }

  /** Throws when the kind has somebody already. */
  register(kind: string, handler: OutboxHandler): void {
    if (this.#handlers.has(kind)) throw new Error(`somebody delivers ${kind} already`);
    this.#handlers.set(kind, handler);
  }

  /** Everything that is due now, one message after the other. */
  async deliverDue(signal: AbortSignal): Promise<{ delivered: number; failed: number }> {
    const counts = { delivered: 0, failed: 0 };
    while (!signal.aborted) {
      const outcome = await this.#deliverOne(signal);
      if (outcome === null) break;
      counts[outcome]++;
    }
    return counts;
  }

  /** Null: nothing is due. The row is locked meanwhile, so no other control plane takes the same one. */
  #deliverOne(signal: AbortSignal): Promise<'delivered' | 'failed' | null> {
    const { pool, log } = this.#deps;
    return withTransaction(pool, async (client) => {
      const { rows } = await client.query<{ id: bigint; kind: string; payload: unknown; attempts: number }>(
        `SELECT id, kind, payload, attempts FROM outbox
          WHERE state = 'waiting' AND kind = ANY ($1) AND due_at <= now()
          ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED`,
        [[...this.#handlers.keys()]],
      );
      const row = rows[0];
      if (row === undefined) return null;
      const attempt = row.attempts + 1;
      try {
        const handler = this.#handlers.get(row.kind) as OutboxHandler;
        await handler({ id: row.id, kind: row.kind, payload: row.payload, attempt }, signal);
      } catch (error) {
        const givenUp = attempt >= ATTEMPTS_MAX;
        log.warn(
          { outbox_id: row.id.toString(), kind: row.kind, attempt, givenUp, err: error },
          'not_delivered',
        );
        await client.query(
          `UPDATE outbox SET attempts = $2, error = $3, due_at = now() + make_interval(secs => $4),
                             state = $5, ended_at = CASE WHEN $5 = 'given_up' THEN now() END WHERE id = $1`,
          [
            row.id,
            attempt,
            (error as Error).message?.slice(0, 500) ?? 'failed',
            RETRY_FIRST_S * 2 ** (attempt - 1),
            givenUp ? 'given_up' : 'waiting',
          ],
        );
        return 'failed';
      }
      await client.query(
        `UPDATE outbox SET attempts = $2, state = 'done', error = NULL, ended_at = now() WHERE id = $1`,
        [row.id, attempt],
      );
      return 'delivered';
    });
  }
}

/** The job `notifications`. */
export function notificationsJob(outbox: Outbox): Job {
  return {
    name: 'notifications',
    description: 'Delivers messages that are due.',
    schedule: '* * * * *',
    attemptsMax: 1, // the next minute is the next try
    run: ({ signal }) => outbox.deliverDue(signal),
  };
}

/** Deletes messages that ended longer ago; resolves to how many. */
export async function forgetOldMessages(pool: pg.Pool, keptDays: number): Promise<number> {
  const { rowCount } = await pool.query(
    'DELETE FROM outbox WHERE ended_at < now() - make_interval(days => $1)',
    [keptDays],
  );
  return rowCount ?? 0;
}
