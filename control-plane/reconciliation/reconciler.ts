import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { withTransaction } from '../db/pool.js';
import { type Comparison, compareSessions } from './compare.js';
import { keepFindings } from './flags.js';
import { judge, type Tolerance } from './judge.js';

export interface ReconcilerDeps {
  pool: pg.Pool;
  log: Log;
  /** Read anew for every round. */
  tolerance: () => Tolerance;
  /** Pause between two rounds. Default 60 s. */
  intervalMs?: number;
  /** Old sessions looked at again in a round. Default 200. */
  sweepSessions?: number;
}

const INTERVAL_MS = 60_000;
const SWEEP_SESSIONS = 200;
/** Sessions compared in one statement; halved while it takes too long. */
const SESSIONS_PER_STEP = 100;
/** Steps over newly completed sessions in one round; what is left waits for the next. */
const STEPS_MAX = 50;
/** Transactions commit in another order than they began: what completed shortly before the mark is looked at again. */
const OVERLAP_S = 60;
/** A round that died gives its turn back after this long. */
const LEASE_S = 50;
const STATEMENT_CANCELLED = '57014';

interface State {
  completed_until: string;
  swept_until: string;
  swept_id: string;
}

/**
 * Compares what devices and buyers report with what was metered, and meters, sessions and ledger with each other.
 * Each round: sessions completed since the last one, live ones whose meters and row disagree, those with an open
 * `books` flag, and a slice of a never-ending walk over all completed ones, which finds what changed afterwards.
 * How far it came is kept in Postgres, so a restart goes on there; several control planes take turns.
 */
export class Reconciler {
  readonly #deps: ReconcilerDeps;
  readonly #job: Periodic;

  constructor(deps: ReconcilerDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'reconciliation_failed'),
    });
  }

  start(): void {
    this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  /** One round; how many sessions it looked at. Null: another control plane is at it. */
  async runOnce(): Promise<{ sessions: number } | null> {
    const { pool } = this.#deps;
    const { rows } = await pool.query<State>(
      `UPDATE reconciliation_state SET leased_until = now() + make_interval(secs => ${LEASE_S})
        WHERE leased_until < now()
      RETURNING completed_until::text, swept_until::text, swept_id`,
    );
    const [state] = rows;
    if (state === undefined) return null;
    try {
      let sessions = await this.#completed(state);
      sessions += await this.#look(await this.#suspects());
      sessions += await this.#sweep(state);
      return { sessions };
    } finally {
      await pool.query("UPDATE reconciliation_state SET leased_until = '-infinity'");
    }
  }

  /** Looks at these sessions whatever the job's marks say. */
  async check(sessionIds: readonly string[]): Promise<void> {
    await this.#look(sessionIds);
  }

  async #completed({ completed_until: from }: State): Promise<number> {
    const { pool } = this.#deps;
    let sessions = 0;
    let [at, id] = [from, '00000000-0000-0000-0000-000000000000'];
    for (let step = 0; step < STEPS_MAX; step++) {
      const { rows } = await pool.query<{ id: string; at: string }>(
        `SELECT id, completed_at::text AS at FROM traffic_sessions
          WHERE completed_at IS NOT NULL AND (completed_at, id) > ($1::timestamptz, $2::uuid)
          ORDER BY completed_at, id LIMIT ${SESSIONS_PER_STEP}`,
        [at, id],
      );
      const last = rows.at(-1);
      if (last === undefined) break;
      sessions += await this.#look(rows.map((row) => row.id));
      [at, id] = [last.at, last.id];
      await pool.query(
        `UPDATE reconciliation_state SET completed_until =
           greatest(completed_until, least($1::timestamptz, now() - make_interval(secs => ${OVERLAP_S})))`,
        [at],
      );
    }
    return sessions;
  }

  /** Live sessions whose row and meters disagree, and whatever has an open flag of the books. */
  async #suspects(): Promise<string[]> {
    const { rows } = await this.#deps.pool.query<{ id: string }>(
      `(SELECT s.id FROM traffic_sessions s
          CROSS JOIN LATERAL (SELECT coalesce(sum(bytes_up), 0) AS up, coalesce(sum(bytes_down), 0) AS down,
                                     coalesce(sum(charged_micros), 0) AS charged,
                                     coalesce(sum(earned_micros), 0) AS earned
                                FROM meters WHERE session_id = s.id) m
         WHERE s.status IN ('active', 'stopping')
           AND (s.bytes_up, s.bytes_down, s.charged_micros, s.earned_micros) <> (m.up, m.down, m.charged, m.earned)
         LIMIT ${SESSIONS_PER_STEP})
       UNION
       (SELECT session_id FROM reconciliation_flags WHERE kind = 'books' AND resolved_at IS NULL
         LIMIT ${SESSIONS_PER_STEP})`,
    );
    return rows.map((row) => row.id);
  }

  async #sweep({ swept_until: at, swept_id: id }: State): Promise<number> {
    const { pool, sweepSessions = SWEEP_SESSIONS } = this.#deps;
    const { rows } = await pool.query<{ id: string; at: string }>(
      `SELECT id, completed_at::text AS at FROM traffic_sessions
        WHERE completed_at IS NOT NULL AND (completed_at, id) > ($1::timestamptz, $2::uuid)
        ORDER BY completed_at, id LIMIT $3`,
      [at, id, sweepSessions],
    );
    for (let i = 0; i < rows.length; i += SESSIONS_PER_STEP)
      await this.#look(rows.slice(i, i + SESSIONS_PER_STEP).map((row) => row.id));
    const last = rows.at(-1);
    // At the end it begins anew.
    await pool.query('UPDATE reconciliation_state SET swept_until = $1::timestamptz, swept_id = $2', [
      rows.length < sweepSessions || last === undefined ? '-infinity' : last.at,
      rows.length < sweepSessions || last === undefined ? '00000000-0000-0000-0000-000000000000' : last.id,
    ]);
    return rows.length;
  }

  async #look(sessionIds: readonly string[]): Promise<number> {
    if (sessionIds.length === 0) return 0;
    const { pool, log, tolerance } = this.#deps;
    const allowed = tolerance();
    const looks = (await this.#compare(sessionIds)).map((c) => ({
      sessionId: c.sessionId,
      findings: judge(c, allowed),
    }));
    const alarms = await withTransaction(pool, (client) => keepFindings(client, looks));
    for (const { sessionId, detail } of alarms)
      log.error({ session_id: sessionId, detail }, 'books_do_not_add_up');
    return looks.length;
  }

  /** In halves when a statement takes too long; one that takes too long alone is left out, and logged. */
  async #compare(sessionIds: readonly string[]): Promise<Comparison[]> {
    try {
      return await compareSessions(this.#deps.pool, sessionIds);
    } catch (error) {
      if ((error as { code?: unknown }).code !== STATEMENT_CANCELLED) throw error;
      if (sessionIds.length === 1) {
        this.#deps.log.error({ session_id: sessionIds[0] }, 'session_too_large_to_reconcile');
        return [];
      }
      const half = Math.ceil(sessionIds.length / 2);
      return [
        ...(await this.#compare(sessionIds.slice(0, half))),
        ...(await this.#compare(sessionIds.slice(half))),
      ];
    }
  }
}
