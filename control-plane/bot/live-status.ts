import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { readDevices } from '../devices/device-list.js';
import type { BusinessSettings } from '../settings/settings.js';
import { Deliveries } from '../telegram/deliveries.js';
import type { MessageSender } from '../telegram/message-sender.js';
import { textIn } from '../texts/fluent.js';
import { dollars, megabytes } from '../texts/words.js';
import { findUser } from '../users/users.js';

export interface LiveStatusDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  log: Log;
  telegram: MessageSender;
  rules: () => Promise<Pick<BusinessSettings, 'termsVersion' | 'minClientVersion'>>;
  /** Pause between two rounds, ms; default 1000. */
  intervalMs?: number;
}

const INTERVAL_MS = 1_000;
/** A message is changed no more often than this. */
const EDIT_EVERY_S = 5;
/** Messages looked at in a round, over all chats: more people wait longer for theirs, answers never do. */
const BATCH = 10;
/** Time an edit may wait for Telegram: then the next one is due anyway. */
const DROP_AFTER_MS = 4_000;

interface Row {
  session_id: string;
  chat_id: bigint;
  message_id: bigint | null;
  text: string | null;
  previous_bytes: bigint;
  /** Since the last look, seconds. */
  elapsed_s: number;
  status: 'active' | 'stopping' | 'completed' | 'failed';
  user_id: string;
  device_id: string;
  model: string | null;
  bytes: bigint;
  earned_micros: bigint;
}

/**
 * One message for each running session that shows what it carries: bytes, earnings, speed, whether it earns. Changed at
 * most every five seconds, only when it says something else, and a last time when the session is settled. Which message
 * it is lies in Postgres, so a restart goes on with it; several control planes share the work.
 */
export class LiveStatus {
  readonly #deps: LiveStatusDeps;
  readonly #job: Periodic;
  readonly #deliveries: Deliveries;

  constructor(deps: LiveStatusDeps) {
    this.#deps = deps;
    this.#deliveries = new Deliveries(deps.telegram);
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'live_messages_not_kept'),
    });
  }

  start(): void {
    this.#job.start();
  }

  async stop(): Promise<void> {
    this.#deliveries.stop();
    await this.#job.stop();
  }

  /** Begins messages of new sessions and changes those that are due; resolves to how many calls were made. */
  async runOnce(): Promise<number> {
    await this.#begin();
    const rows = await this.#claim();
    const called = await Promise.all(rows.map((row) => this.#show(row)));
    return called.filter(Boolean).length;
  }

  async #begin(): Promise<void> {
    await this.#deps.pool.query(
      `INSERT INTO bot_live_messages (session_id, chat_id)
       SELECT s.id, u.telegram_id FROM traffic_sessions s JOIN users u ON u.id = s.user_id
        WHERE s.status = 'active' AND u.status = 'active' AND u.telegram_id IS NOT NULL
          AND u.telegram_blocked_at IS NULL AND u.settings->'notifications' IS DISTINCT FROM 'false'::jsonb
          AND NOT EXISTS (SELECT 1 FROM bot_live_messages m WHERE m.session_id = s.id)
        LIMIT ${BATCH}
       ON CONFLICT DO NOTHING`,
    );
  }

  async #claim(): Promise<Row[]> {
    const { rows } = await this.#deps.pool.query<Row>(
      `WITH due AS (
         SELECT session_id, text, bytes, looked_at FROM bot_live_messages
          WHERE ended_at IS NULL AND due_at <= now() ORDER BY due_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED)
       UPDATE bot_live_messages m
          SET due_at = now() + make_interval(secs => ${EDIT_EVERY_S}), looked_at = now(),
              bytes = s.bytes_up + s.bytes_down,
              text = coalesce(m.text, '') -- from here on a message is under way
         FROM due, traffic_sessions s JOIN devices d ON d.id = s.device_id
        WHERE m.session_id = due.session_id AND s.id = due.session_id
       RETURNING m.session_id, m.chat_id, m.message_id, due.text, due.bytes AS previous_bytes,
                 extract(epoch FROM now() - due.looked_at)::float8 AS elapsed_s, s.status, s.user_id, s.device_id,
                 d.model, s.bytes_up + s.bytes_down AS bytes, s.earned_micros`,
    );
    return rows;
  }

  /** Whether Telegram was called. */
  async #show(row: Row): Promise<boolean> {
    const { message_id: messageId, session_id: sessionId, status } = row;
    const over = status === 'completed' || status === 'failed';
    // Whoever sent the first message died before it knew which one it is.
    if (messageId === null && (row.text !== null || over)) return this.#end(sessionId);
    if (status === 'stopping') return false; // the last bytes are being settled
    const text = await this.#text(row, over);
    if (text === row.text) return over ? this.#end(sessionId) : false;
    const { delivery, messageId: sentAs } = await this.#deliveries.send({
      chatId: Number(row.chat_id),
      text,
      kind: 'live_status',
      dropAfterMs: DROP_AFTER_MS,
      silent: true,
      // Sent twice, one of them would say for ever that somebody shares.
      ...(messageId === null ? { once: true } : { editId: Number(messageId) }),
    });
    if (delivery === 'sent') await this.#sent(sessionId, { text, messageId: sentAs, over });
    else if (delivery === 'unreachable' || delivery === 'failed' || delivery === 'unknown')
      await this.#end(sessionId); // the chat or the message is gone
    else if (messageId === null)
      await this.#deps.pool.query('UPDATE bot_live_messages SET text = NULL WHERE session_id = $1', [
        sessionId,
      ]);
    return true;
  }

  async #text(row: Row, over: boolean): Promise<string> {
    const { pool, rules } = this.#deps;
    const user = await findUser(pool, row.user_id);
    if (user === null) throw new Error(`a session of nobody: ${row.session_id}`);
    const figures = {
      device: row.model ?? row.device_id,
      megabytes: megabytes(row.bytes),
      earned: dollars(row.earned_micros),
    };
    if (over) return textIn(user.language, 'live-ended', figures);
    const devices = await readDevices(this.#deps, user, await rules());
    const what = devices.find(({ device_id }) => device_id === row.device_id)?.state.what ?? '';
    const gained = Number(row.bytes - row.previous_bytes);
    const speed = row.elapsed_s > 0 && gained > 0 ? (gained * 8) / row.elapsed_s / 1e6 : 0;
    return textIn(user.language, 'live-status', { ...figures, speed: speed.toFixed(1), what }).trim();
  }

  async #sent(
    sessionId: string,
    { text, messageId, over }: { text: string; messageId: number | null; over: boolean },
  ): Promise<void> {
    await this.#deps.pool.query(
      `UPDATE bot_live_messages SET text = $2, message_id = coalesce(message_id, $3),
              ended_at = CASE WHEN $4 THEN now() END WHERE session_id = $1`,
      [sessionId, text, messageId, over],
    );
  }

  async #end(sessionId: string): Promise<false> {
    await this.#deps.pool.query('UPDATE bot_live_messages SET ended_at = now() WHERE session_id = $1', [
      sessionId,
    ]);
    return false;
  }
}
