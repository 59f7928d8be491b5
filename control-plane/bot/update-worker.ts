import type { Api } from 'grammy';
import type { Update } from 'grammy/types';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { isDatabaseAway, type Queryable, withTransaction } from '../db/pool.js';

/** What is to be done once an update's transaction is committed. */
export type AfterCommit = (api: Api) => Promise<unknown>;

export interface UpdateWorkerDeps {
  pool: pg.Pool;
  log: Log;
  api: Api;
  /** Handles one update within the transaction of `db`; throws to have it tried again later. */
  handle: (update: Update, db: Queryable) => Promise<AfterCommit[]>;
  /** How often it is looked for updates that another process took in, ms; default 500. */
  intervalMs?: number;
}

/** Tries of one update. */
const ATTEMPTS_MAX = 8;
/** Pause before the second try; doubles each time: the last one comes two minutes after the first. */
const RETRY_FIRST_S = 1;
const INTERVAL_MS = 500;
/** Work after commits that runs at once; more waits. */
const AFTER_MAX = 16;

/**
 * Handles updates that were taken in, each once: its effects and the note that it is done are one
 * transaction. Of one chat the earlier update comes first, also when several processes work or Telegram
 * delivered them the other way round; one that fails is tried again, later ones of its chat wait meanwhile.
 */
export class UpdateWorker {
  readonly #deps: UpdateWorkerDeps;
  readonly #job: Periodic;
  /** Since the start: updates handled, tries that failed, updates given up. */
  readonly counts = { handled: 0, postponed: 0, given_up: 0 };
  readonly #after = new Set<Promise<unknown>>();
  #round: Promise<unknown> | null = null;
  #again = false;
  #stopping = false;

  constructor(deps: UpdateWorkerDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => this.#failed(error),
    });
  }

  start(): void {
    this.#job.start();
  }

  /** Takes no more; resolves when the one under way and what follows its commit are over. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#job.stop();
    await this.#round?.catch(() => {});
    await Promise.all(this.#after);
  }

  /** Something was taken in: looks at once instead of at the next interval. Returns at once. */
  wake(): void {
    if (!this.#stopping) this.runOnce().catch((error) => this.#failed(error));
  }

  /** Handles everything that is due. One round at a time; a call meanwhile has the round look once more. */
  runOnce(): Promise<unknown> {
    this.#again = true;
    this.#round ??= this.#run();
    return this.#round;
  }

  /** Handles everything that is due; resolves when what follows the commits is over, too. */
  async idle(): Promise<void> {
    await this.runOnce();
    await Promise.all(this.#after);
  }

  async #run(): Promise<void> {
    try {
      while (this.#again && !this.#stopping) {
        this.#again = false;
        while (!this.#stopping && (await this.#handleOne()))
          if (this.#after.size >= AFTER_MAX) await Promise.race(this.#after);
      }
    } finally {
      this.#round = null; // at once: a call after the last look must begin a round of its own
    }
  }

  /** False: nothing is due. */
  async #handleOne(): Promise<boolean> {
    const { pool, log, handle } = this.#deps;
    let taken: Update | null = null;
    let after: AfterCommit[] = [];
    try {
      await withTransaction(pool, async (client) => {
        taken = null;
        after = [];
        const { rows } = await client.query<{ payload: string }>(
          `SELECT payload FROM telegram_updates u
            WHERE state = 'waiting' AND due_at <= now()
              AND (chat_id IS NULL OR NOT EXISTS (
                    SELECT 1 FROM telegram_updates e
                     WHERE e.state = 'waiting' AND e.chat_id = u.chat_id AND e.update_id < u.update_id))
            ORDER BY update_id LIMIT 1 FOR UPDATE SKIP LOCKED`,
        );
        if (rows[0] === undefined) return;
        const update = JSON.parse(rows[0].payload) as Update;
        taken = update;
        after = await handle(update, client);
        await client.query(
          `UPDATE telegram_updates SET state = 'done', payload = NULL, attempts = attempts + 1, error = NULL,
                                       ended_at = now() WHERE update_id = $1`,
          [update.update_id],
        );
      });
    } catch (error) {
      const update = taken as Update | null; // written inside the callback
      if (update === null || isDatabaseAway(error)) throw error;
      await this.#postpone(update, error);
      return true;
    }
    for (const work of after) this.#doAfter(work, (taken as Update | null)?.update_id);
    if (taken !== null) this.counts.handled++;
    if (taken !== null) log.debug({ update_id: (taken as Update).update_id }, 'telegram_update_handled');
    return taken !== null;
  }

  async #postpone(update: Update, error: unknown): Promise<void> {
    const { pool, log } = this.#deps;
    const { rows } = await pool.query<{ state: string; attempts: number }>(
      `UPDATE telegram_updates
          SET attempts = attempts + 1, error = $2, due_at = now() + make_interval(secs => $3 * 2 ^ attempts),
              state = CASE WHEN attempts + 1 >= $4 THEN 'failed' ELSE 'waiting' END,
              ended_at = CASE WHEN attempts + 1 >= $4 THEN now() END
        WHERE update_id = $1 AND state = 'waiting' RETURNING state, attempts`,
      [update.update_id, describe(error).slice(0, 500), RETRY_FIRST_S, ATTEMPTS_MAX],
    );
    const { state, attempts } = rows[0] ?? {};
    const fields = { update_id: update.update_id, attempts, err: error };
    this.counts[state === 'failed' ? 'given_up' : 'postponed']++;
    if (state === 'failed') log.error(fields, 'telegram_update_given_up');
    else log.warn(fields, 'telegram_update_not_handled');
  }

  #doAfter(work: AfterCommit, updateId: number | undefined): void {
    const { api, log } = this.#deps;
    const done: Promise<unknown> = work(api)
      .catch((error: unknown) => {
        // Only method and code: grammY's errors carry the whole payload.
        const { method, error_code } = error as { method?: string; error_code?: number };
        log.warn({ update_id: updateId, method, error_code, error: describe(error) }, 'telegram_answer_lost');
      })
      .finally(() => this.#after.delete(done));
    this.#after.add(done);
  }

  #failed(error: unknown): void {
    this.#deps.log.warn({ err: error }, 'telegram_updates_not_handled');
  }
}

function describe(error: unknown): string {
  const { name, code } = error as { name?: string; code?: unknown };
  return [name ?? 'Error', ...(code === undefined ? [] : [code])].join(' ');
}
