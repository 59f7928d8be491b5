import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { withTransaction } from '../db/pool.js';
import type { MessageSender } from '../telegram/message-sender.js';
import type { Delivery, TelegramMessage } from '../telegram/telegram-queue.js';
import type { RecipientState } from './broadcasts.js';

export interface BroadcastSenderDeps {
  pool: pg.Pool;
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
const LEASE_S = 30;
const RENEW_MS = 10_000;
/** Time a message may wait (Telegram said to); then it is pending again. */
const DROP_AFTER_MS = 120_000;

const STATES: Readonly<Record<Delivery, RecipientState>> = {
  sent: 'sent',
  unreachable: 'blocked',
  failed: 'failed',
  unknown: 'unknown',
  // Never left this process: somebody else's turn, or later.
  expired: 'pending',
  queue_full: 'pending',
  stopped: 'pending',
};

interface Claim {
  userId: string;
  message: TelegramMessage;
}

/**
 * Sends broadcasts, at most once to each recipient, whatever crashes. A recipient is claimed in Postgres
 * before the call to Telegram; what came of it is written down after. Between the two nobody can know, so a
 * claim that its sender left behind becomes `unknown` and is not sent again: a message lost in a crash is the
 * price of none sent twice. Of several control planes one sends at a time (a lease in Postgres).
 */
export class BroadcastSender {
  readonly #deps: BroadcastSenderDeps;
  readonly #run = randomUUID();
  readonly #job: Periodic;
  #stopping = false;
  /** Messages that wait or are being sent now. */
  readonly #open = new Set<TelegramMessage>();

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

  /** Takes back what waits, and lets the call in progress end; everything else goes on at the next start. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const message of this.#open) this.#deps.telegram.withdraw(message);
    await this.#job.stop();
  }

  /** Sends until nothing is pending, or another process does. Resolves to how many messages ended. */
  async runOnce(): Promise<number> {
    const ended = await Promise.allSettled(LANES.map((size) => this.#lane(size)));
    return ended.reduce((sum, lane) => {
      if (lane.status === 'rejected') throw lane.reason;
      return sum + lane.value;
    }, 0);
  }

  async #lane(size: number): Promise<number> {
    let ended = 0;
    while (!this.#stopping && (await this.#lease())) {
      await this.#giveUpOthers();
      const claims = await this.#claim(size);
      if (claims === null) break;
      const done = await this.#sendAll(claims.broadcastId, claims.batch);
      ended += done;
      // Telegram takes nothing at the moment (the queue is full, or waits): not again at once.
      if (done === 0 && claims.batch.length > 0) break;
    }
    return ended;
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

  /** Claims of senders that hold the lease no more. Their calls may have been made. */
  async #giveUpOthers(): Promise<void> {
    const { rows } = await this.#deps.pool.query<{ broadcast_id: string }>(
      `UPDATE broadcast_recipients SET state = 'unknown', ended_at = now()
        WHERE state = 'sending' AND claimed_by <> $1 RETURNING broadcast_id`,
      [this.#run],
    );
    if (rows.length > 0) this.#deps.log.warn({ recipients: rows.length }, 'broadcast_claims_left_behind');
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
              SET state = CASE WHEN u.telegram_id IS NULL OR u.status <> 'active' THEN 'skipped' ELSE 'sending' END,
                  claimed_by = $2, claimed_at = now(),
                  ended_at = CASE WHEN u.telegram_id IS NULL OR u.status <> 'active' THEN now() END
             FROM batch b JOIN users u ON u.id = b.user_id
            WHERE r.broadcast_id = $1 AND r.user_id = b.user_id
            RETURNING r.user_id, CASE WHEN r.state = 'sending' THEN u.telegram_id END AS telegram_id`,
          [broadcast.id, this.#run, size],
        );
        if (rows.length === 0) {
          const { rowCount: sending } = await client.query(
            "SELECT 1 FROM broadcast_recipients WHERE broadcast_id = $1 AND state = 'sending' LIMIT 1",
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

  /** Sends a batch and writes down what came of it. Resolves to how many ended for good. */
  async #sendAll(broadcastId: string, batch: readonly Claim[]): Promise<number> {
    // Telegram may say to wait for minutes, in the middle.
    const renewal = setInterval(() => void this.#lease().catch(() => {}), RENEW_MS);
    try {
      const deliveries = await Promise.all(batch.map(({ message }) => this.#send(message)));
      return await this.#record(
        broadcastId,
        batch.map(({ userId }, i) => ({ userId, state: STATES[deliveries[i] as Delivery] })),
      );
    } finally {
      clearInterval(renewal);
    }
  }

  async #send(message: TelegramMessage): Promise<Delivery> {
    if (this.#stopping) return 'stopped';
    try {
      return await new Promise((resolve) => {
        message.onDelivery = resolve;
        this.#open.add(message);
        this.#deps.telegram.push(message);
      });
    } finally {
      this.#open.delete(message);
    }
  }

  #record(broadcastId: string, outcomes: { userId: string; state: RecipientState }[]): Promise<number> {
    const values = [broadcastId, outcomes.map((o) => o.userId), outcomes.map((o) => o.state)];
    return withTransaction(this.#deps.pool, async (client) => {
      // Perhaps cancelled meanwhile: then nothing of it is pending any more.
      const { rows } = await client.query<{ status: string }>(
        'SELECT status FROM broadcasts WHERE id = $1 FOR SHARE',
        [broadcastId],
      );
      // A sender that lost its lease finds its claims `unknown`, and knows better.
      await client.query(
        `UPDATE broadcast_recipients r
            SET state = CASE WHEN o.state = 'pending' AND $4 THEN 'cancelled' ELSE o.state END,
                ended_at = CASE WHEN o.state = 'pending' AND NOT $4 THEN NULL ELSE now() END
           FROM unnest($2::uuid[], $3::text[]) AS o (user_id, state)
          WHERE r.broadcast_id = $1 AND r.user_id = o.user_id AND r.claimed_by = $5
            AND r.state IN ('sending', 'unknown')`,
        [...values, rows[0]?.status !== 'sending', this.#run],
      );
      await client.query(
        `UPDATE users u SET telegram_blocked_at = CASE WHEN o.state = 'blocked' THEN now() END
           FROM unnest($1::uuid[], $2::text[]) AS o (user_id, state)
          WHERE u.id = o.user_id AND (o.state = 'blocked' OR (o.state = 'sent' AND u.telegram_blocked_at IS NOT NULL))`,
        values.slice(1),
      );
      return outcomes.filter((o) => o.state !== 'pending').length;
    });
  }
}
