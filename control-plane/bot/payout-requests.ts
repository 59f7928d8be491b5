import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { readPayout } from '../payouts/payouts.js';
import type { AdminChannel } from '../telegram/admin-channel.js';
import { type Say, textIn } from '../texts/fluent.js';
import type { Language } from '../users/users.js';
import { decisionKeyboard, payoutRequestText } from './payout-words.js';

export interface PayoutRequestsDeps {
  pool: pg.Pool;
  log: Log;
  admins: AdminChannel;
  /** Of the admins' channel. */
  language: Language;
  /** How old a payout is when it is asked about, seconds; default 10: small ones are released by themselves meanwhile. */
  askAfterS?: number;
  /** Pause between two looks, ms; default 2000. */
  intervalMs?: number;
}

const INTERVAL_MS = 2_000;
const ASK_AFTER_S = 10;
const BATCH = 5;
/** After a try that reached no admin, or one whose process died. */
const RETRY_S = 60;

/** Asks the admins, with buttons, about each payout that waits for them: once, or again while nobody was reached. */
export class PayoutRequests {
  readonly #deps: PayoutRequestsDeps;
  readonly #job: Periodic;

  constructor(deps: PayoutRequestsDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'payouts_not_asked_about'),
    });
  }

  start(): void {
    this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  /** Resolves to how many were asked about. */
  async runOnce(): Promise<number> {
    const { pool, askAfterS = ASK_AFTER_S } = this.#deps;
    const { rows } = await pool.query<{ payout_id: string }>(
      `INSERT INTO bot_payout_requests AS r (payout_id, due_at)
       SELECT p.id, now() + make_interval(secs => ${RETRY_S}) FROM payouts p
        WHERE p.status = 'pending' AND p.created_at < now() - make_interval(secs => $1)
          AND NOT EXISTS (SELECT 1 FROM bot_payout_requests x
                           WHERE x.payout_id = p.id AND (x.told OR x.due_at > now()))
        ORDER BY p.created_at LIMIT ${BATCH}
       ON CONFLICT (payout_id) DO UPDATE SET due_at = excluded.due_at WHERE NOT r.told AND r.due_at <= now()
       RETURNING payout_id`,
      [askAfterS],
    );
    const asked = await Promise.all(rows.map((row) => this.#ask(row.payout_id)));
    return asked.filter(Boolean).length;
  }

  async #ask(payoutId: string): Promise<boolean> {
    const { pool, log, admins, language } = this.#deps;
    const t: Say = (id, args) => textIn(language, id, args);
    const payout = await readPayout(pool, payoutId);
    if (payout?.status !== 'pending') return false;
    try {
      await admins.deliver(payoutRequestText(t, payout), 'payout_request', {
        keyboard: decisionKeyboard(t, payoutId),
      });
    } catch (error) {
      log.warn({ payout_id: payoutId, err: error }, 'payout_not_asked_about');
      return false;
    }
    await pool.query('UPDATE bot_payout_requests SET told = true WHERE payout_id = $1', [payoutId]);
    return true;
  }
}
