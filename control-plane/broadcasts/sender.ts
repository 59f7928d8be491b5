import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import type { MessageSender } from '../telegram/message-sender.js';
import { pause } from '../telegram/pause.js';
import type { Delivery, TelegramMessage } from '../telegram/telegram-queue.js';
import type { RecipientState } from './broadcasts.js';

export interface BroadcastSenderDeps {
  pool: pg.Pool;
  clock: Clock;
  log: Log;
  /** Sends at its own rate (25 a second), in order with everything else for Telegram. */
  telegram: MessageSender;
}

/** Pause between two looks for something to send. */
const INTERVAL_MS = 1_000;
/**
 * Recipients claimed at a time, in two lanes that take turns: while the last calls of one lane's batch are
 * under way and written down, the other lane's messages go out, so that the rate holds. Together about a
 * second's worth, so that a login code waits no longer behind them.
 */
const LANES = [13, 12];
/** A sender that does not renew its lease for this long is taken for dead. */
const LEASE_S = 15;
const RENEW_MS = 5_000;
/** Time a message may wait (Telegram said to); then it is pending again. */
const DROP_AFTER_MS = 120_000;
/** Pause before an outcome that could not be written down is tried again: Postgres is away. */
const WRITE_RETRY_MS = 500;
/**
 * While Telegram takes calls and answers none, each call ends as `unknown`: then one message a lane is tried after a
 * pause that doubles up to this.
 */
const DOUBT_MS_MAX = 60_000;

/** How a message ended for good; the others never left this process, and are somebody else's turn, or later. */
const STATES: Partial<Record<Delivery, RecipientState>> = {
  sent: 'sent',
  unreachable: 'blocked',
  failed: 'failed',
  unknown: 'unknown',
};

interface Claim {
  userId: string;
  message: TelegramMessage;
}

/**
 * Sends broadcasts, once to each recipient, whatever crashes. A recipient is claimed in Postgres, then noted as begun
 * right before the call to Telegram, and what came of it is written down right after. Whom a dead sender had only claimed
 * is given back; whose call had begun without an outcome, nobody can know: they are `unknown`, and an admin decides
 * (`settleUnknown`). Of several control planes one sends at a time (a lease in Postgres); one that lost it begins nothing
 * more, since its claims are gone.
 */
export class BroadcastSender {
  readonly #deps: BroadcastSenderDeps;
  readonly #run = randomUUID();
  readonly #job: Periodic;
  readonly #stop = new AbortController();
  /** Messages that wait or are being sent now. */
  readonly #open = new Set<TelegramMessage>();
  /** Rounds in a row in which nothing was sent and something became `unknown`. */
  #doubts = 0;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(deps: BroadcastSenderDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'broadcasts_not_sent'),
    });
  }

  start(): void {
    this.#job.start();
  }

  /** Takes back what waits, lets calls in progress end, and hands the right to send on: others may go on at once. */
  async stop(): Promise<void> {
    this.#stop.abort();
    for (const message of this.#open) this.#deps.telegram.withdraw(message);
    await this.#job.stop();
    await this.#deps.pool
      .query("UPDATE broadcast_sender SET lease_until = '-infinity' WHERE run = $1", [this.#run])
      .catch((error: unknown) => this.#deps.log.warn({ err: error }, 'broadcast_lease_not_given_back'));
  }

  /** Sends until nothing is pending, or another process does. Resolves to how many messages ended. */
  async runOnce(): Promise<number> {
    const { clock } = this.#deps;
    if (clock.monotonicMs() < this.#pausedUntilMs || !(await this.#lease())) return 0;
    await this.#giveUpClaims({ ownToo: true });
    const ended = await Promise.allSettled(LANES.map((size) => this.#lane(size)));
    return ended.reduce((sum, lane) => {
      if (lane.status === 'rejected') throw lane.reason;
      return sum + lane.value;
    }, 0);
  }

  async #lane(size: number): Promise<number> {
    let ended = 0;
    while (!this.#stopping && (await this.#lease())) {
      await this.#giveUpClaims({ ownToo: false });
      const claims = await this.#claim(this.#doubts > 0 ? 1 : size);
      if (claims === null) break;
      const states = await this.#sendAll(claims.broadcastId, claims.batch);
      const done = states.filter((state) => state !== 'pending').length;
      ended += done;
      if (this.#isDoubtful(states)) break;
      // Telegram takes nothing at the moment (the queue is full, or waits): not again at once.
      if (done === 0 && claims.batch.length > 0) break;
    }
    return ended;
  }

  get #stopping(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Whether Telegram seems not to answer at all; then the next round waits. */
  #isDoubtful(states: readonly RecipientState[]): boolean {
    if (states.some((state) => state !== 'unknown' && state !== 'pending')) this.#doubts = 0;
    else if (states.includes('unknown')) {
      this.#doubts++;
      const pauseMs = Math.min(DOUBT_MS_MAX, INTERVAL_MS * 2 ** this.#doubts);
      this.#pausedUntilMs = this.#deps.clock.monotonicMs() + pauseMs;
      return true;
    }
    return false;
  }

  /** Takes or renews the right to send. */
  async #lease(): Promise<boolean> {
    const { rowCount } = await this.#deps.pool.query(
      `UPDATE broadcast_sender SET run = $1, lease_until = now() + make_interval(secs => $2)
        WHERE run = $1 OR lease_until < now()`,
      [this.#run, LEASE_S],
    );
    return rowCount === 1;
  }

  /**
   * Claims of senders that hold the lease no more, and before a round (`ownToo`) what this one has no memory of. Who was
   * only claimed is given back; whose call had begun may have it or not.
   */
  async #giveUpClaims({ ownToo }: { ownToo: boolean }): Promise<void> {
    await withTransaction(this.#deps.pool, async (client) => {
      const { rows } = await client.query<{ broadcast_id: string }>(
        `SELECT DISTINCT broadcast_id FROM broadcast_recipients
          WHERE state IN ('claimed', 'sending') AND (claimed_by <> $1 OR $2) ORDER BY 1`,
        [this.#run, ownToo],
      );
      for (const { broadcast_id: id } of rows) {
        const over = await isOver(client, id);
        const { rows: left } = await client.query<{ state: RecipientState }>(
          `UPDATE broadcast_recipients
              SET state = CASE WHEN state = 'sending' THEN 'unknown' WHEN $4 THEN 'cancelled' ELSE 'pending' END,
                  ended_at = CASE WHEN state = 'sending' OR $4 THEN now() END
            WHERE broadcast_id = $3 AND state IN ('claimed', 'sending') AND (claimed_by <> $1 OR $2)
            RETURNING state`,
          [this.#run, ownToo, id, over],
        );
        const unknown = left.filter(({ state }) => state === 'unknown').length;
        const fields = { broadcast_id: id, given_back: left.length - unknown, unknown };
        this.#deps.log.warn(fields, 'broadcast_claims_left_behind');
      }
    });
  }

  /**
   * The next batch of the oldest broadcast; null: nothing to send. Ends broadcasts that have nobody left;
   * while the other lane sends, somebody may be left yet.
   */
  #claim(size: number): Promise<{ broadcastId: string; batch: Claim[] } | null> {
    return withTransaction(this.#deps.pool, async (client) => {
      for (;;) {
        const { rows: next } = await client.query<{ id: string; message: string }>(
          `SELECT id, message FROM broadcasts WHERE status = 'sending' ORDER BY started_at, id LIMIT 1 FOR UPDATE`,
        );
        const [broadcast] = next;
        if (broadcast === undefined) return null;
        const { rows } = await client.query<{ user_id: string; telegram_id: bigint | null }>(
          `WITH batch AS (
             SELECT user_id FROM broadcast_recipients WHERE broadcast_id = $1 AND state = 'pending'
              ORDER BY user_id LIMIT $3 FOR UPDATE
           )
           UPDATE broadcast_recipients r
              SET state = CASE WHEN u.telegram_id IS NULL OR u.status <> 'active' THEN 'skipped' ELSE 'claimed' END,
                  claimed_by = $2, claimed_at = now(),
                  ended_at = CASE WHEN u.telegram_id IS NULL OR u.status <> 'active' THEN now() END
             FROM batch b JOIN users u ON u.id = b.user_id
            WHERE r.broadcast_id = $1 AND r.user_id = b.user_id
            RETURNING r.user_id, CASE WHEN r.state = 'claimed' THEN u.telegram_id END AS telegram_id`,
          [broadcast.id, this.#run, size],
        );
        if (rows.length === 0) {
          const { rowCount: sending } = await client.query(
            "SELECT 1 FROM broadcast_recipients WHERE broadcast_id = $1 AND state IN ('claimed', 'sending') LIMIT 1",
            [broadcast.id],
          );
          if (sending !== 0) return null;
          await client.query("UPDATE broadcasts SET status = 'done', ended_at = now() WHERE id = $1", [
            broadcast.id,
          ]);
          continue;
        }
        const batch = rows.flatMap(({ user_id: userId, telegram_id: telegramId }) =>
          telegramId === null
            ? []
            : [
                {
                  userId,
                  message: {
                    chatId: Number(telegramId),
                    text: broadcast.message,
                    kind: 'broadcast',
                    dropAfterMs: DROP_AFTER_MS,
                    once: true,
                  },
                },
              ],
        );
        return { broadcastId: broadcast.id, batch };
      }
    });
  }

  /** Sends a batch; resolves to what became of each, when it is written down. `pending`: not their turn yet. */
  async #sendAll(broadcastId: string, batch: readonly Claim[]): Promise<RecipientState[]> {
    // Telegram may say to wait for minutes, in the middle.
    const renewal = setInterval(() => void this.#lease().catch(() => {}), RENEW_MS);
    try {
      const ends = await Promise.allSettled(batch.map((claim) => this.#sendOne(broadcastId, claim)));
      return ends.map((end) => {
        if (end.status === 'rejected') throw end.reason;
        return end.value;
      });
    } finally {
      clearInterval(renewal);
    }
  }

  async #sendOne(broadcastId: string, { userId, message }: Claim): Promise<RecipientState> {
    const state = STATES[await this.#send(broadcastId, userId, message)] ?? 'pending';
    await this.#write(() =>
      state === 'pending' ? this.#giveBack(broadcastId, userId) : this.#recordEnd(broadcastId, userId, state),
    );
    return state;
  }

  async #send(broadcastId: string, userId: string, message: TelegramMessage): Promise<Delivery> {
    if (this.#stopping) return 'stopped';
    try {
      return await new Promise((resolve) => {
        message.onBegin = async () =>
          !this.#stopping && (await this.#move(broadcastId, userId, { from: 'claimed', to: 'sending' }));
        message.onHeld = async () => {
          await this.#move(broadcastId, userId, { from: 'sending', to: 'claimed' });
        };
        message.onDelivery = resolve;
        this.#open.add(message);
        this.#deps.telegram.push(message);
      });
    } finally {
      this.#open.delete(message);
    }
  }

  /** Moves a recipient whom this sender has claimed; false: it has not any more. */
  async #move(
    broadcastId: string,
    userId: string,
    { from, to }: { from: 'claimed' | 'sending'; to: 'claimed' | 'sending' },
  ): Promise<boolean> {
    const { rowCount } = await this.#deps.pool.query(
      `UPDATE broadcast_recipients SET state = $4
        WHERE broadcast_id = $1 AND user_id = $2 AND claimed_by = $3 AND state = $5`,
      [broadcastId, userId, this.#run, to, from],
    );
    return rowCount === 1;
  }

  /** Again and again while Postgres is away: a message that was sent must not be taken for one of unknown outcome. */
  async #write(write: () => Promise<void>): Promise<void> {
    for (;;)
      try {
        return await write();
      } catch (error) {
        if (this.#stopping) throw error;
        this.#deps.log.warn({ err: error }, 'broadcast_outcome_not_written');
        await pause(WRITE_RETRY_MS, this.#stop.signal);
      }
  }

  /** A sender that lost its lease finds its recipients `unknown`, and knows better. */
  async #recordEnd(broadcastId: string, userId: string, state: RecipientState): Promise<void> {
    await this.#deps.pool.query(
      `WITH ended AS (
         UPDATE broadcast_recipients SET state = $3, ended_at = now()
          WHERE broadcast_id = $1 AND user_id = $2 AND claimed_by = $4 AND state IN ('claimed', 'sending', 'unknown'))
       UPDATE users SET telegram_blocked_at = CASE WHEN $3 = 'blocked' THEN now() END
        WHERE id = $2 AND ($3 = 'blocked' OR ($3 = 'sent' AND telegram_blocked_at IS NOT NULL))`,
      [broadcastId, userId, state, this.#run],
    );
  }

  /** Certainly not sent: their turn comes again, unless the broadcast was cancelled meanwhile. */
  async #giveBack(broadcastId: string, userId: string): Promise<void> {
    await withTransaction(this.#deps.pool, async (client) => {
      await client.query(
        `UPDATE broadcast_recipients
            SET state = CASE WHEN $4 THEN 'cancelled' ELSE 'pending' END, ended_at = CASE WHEN $4 THEN now() END
          WHERE broadcast_id = $1 AND user_id = $2 AND claimed_by = $3 AND state IN ('claimed', 'sending')`,
        [broadcastId, userId, this.#run, await isOver(client, broadcastId)],
      );
    });
  }
}

/** Whether nothing of the broadcast may become pending any more; nobody cancels it until the transaction ends. */
async function isOver(client: Queryable, broadcastId: string): Promise<boolean> {
  const { rows } = await client.query<{ status: string }>(
    'SELECT status FROM broadcasts WHERE id = $1 FOR SHARE',
    [broadcastId],
  );
  return rows[0]?.status !== 'sending';
}
