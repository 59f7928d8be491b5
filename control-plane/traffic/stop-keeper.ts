import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { announceStops, type StopChannel, type StopReason } from './stop.js';

/** Pause between two rounds. */
const INTERVAL_MS = 5_000;
/** A session that is not completed this long after its stop is announced again: the first word may have been lost. */
const REPEAT_AFTER_S = 3;
/** Announcing ends this long after the stop: a gateway that was away for longer replays its journal when it is back. */
const REPEAT_FOR_S = 3_600;
/** Sessions of one round; the others wait for the next. */
const SESSIONS_MAX = 1_000;

/**
 * Says again that a traffic session was stopped until it is completed. The command is idempotent; without the
 * repetition a crash or a Redis that lost it would leave a device relaying for a session its owner ended.
 */
export class StopKeeper {
  readonly #job: Periodic;

  constructor(private readonly deps: { pool: pg.Pool; log: Log; live: StopChannel }) {
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'stops_not_repeated'),
    });
  }

  start(): void {
    this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  /** Resolves to how many sessions were announced again. */
  async runOnce(): Promise<number> {
    const { rows } = await this.deps.pool.query<{ id: string; stop_reason: string | null }>(
      `SELECT id, stop_reason FROM traffic_sessions
        WHERE status = 'stopping' AND stopped_at < now() - $1 * interval '1 second'
          AND stopped_at > now() - $2 * interval '1 second'
        ORDER BY stopped_at LIMIT $3`,
      [REPEAT_AFTER_S, REPEAT_FOR_S, SESSIONS_MAX],
    );
    for (const row of rows) await announceStops(this.deps.live, [row.id], reasonOf(row.stop_reason));
    return rows.length;
  }
}

function reasonOf(note: string | null): StopReason {
  return note === 'banned' || note === 'consent_withdrawn' ? note : 'stopped';
}
