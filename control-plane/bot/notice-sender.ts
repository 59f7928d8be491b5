import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { buyerAbuseText } from '../abuse/notice-text.js';
import type { NoticeContent } from '../notices/notices.js';
import { payoutStepText } from '../payouts/step-text.js';
import { Deliveries } from '../telegram/deliveries.js';
import type { MessageSender } from '../telegram/message-sender.js';
import type { Delivery } from '../telegram/telegram-queue.js';
import { type Say, textIn } from '../texts/fluent.js';
import { dollars, megabytes } from '../texts/words.js';
import type { Language } from '../users/users.js';
import { supportKeyboard } from './support-button.js';

export interface NoticeSenderDeps {
  pool: pg.Pool;
  log: Log;
  telegram: MessageSender;
  /** How often it is looked for notices, ms; default 1000. */
  intervalMs?: number;
}

const INTERVAL_MS = 1_000;
/** Notices under way at once: some of a second's worth, so that answers and login codes come through. */
const BATCH = 10;
/** A claim whose sender wrote nothing down runs out after this. */
const CLAIM_S = 120;
/** Time a notice may wait for Telegram in one try; shorter than its claim. */
const DROP_AFTER_MS = 60_000;
/** Tries, and the wait before the second; it doubles. */
const ATTEMPTS_MAX = 6;
const RETRY_FIRST_S = 60;
/** Longest text Telegram takes. */
const TEXT_MAX = 4_096;

interface Claimed {
  id: bigint;
  payload: NoticeContent;
  telegram_id: bigint | null;
  language: Language;
}

/** What the notice says. */
export function noticeText(language: Language, content: NoticeContent): string {
  const t: Say = (id, args) => textIn(language, id, args);
  switch (content.kind) {
    case 'session_completed':
      return t('notice-session-completed', {
        megabytes: megabytes(BigInt(content.bytes)),
        earned: dollars(BigInt(content.earnedMicros)),
      });
    case 'update_available':
      return t('notice-update', { version: content.version, devices: content.devices });
    case 'payout_step':
      return payoutStepText(language, content).body;
    case 'support_reply':
      return supportReplyText(t, content);
    case 'buyer_abuse':
      return buyerAbuseText(language, content);
  }
}

/** An answer of support, cut where Telegram would not take it: it is in the inbox as well. */
function supportReplyText(t: Say, content: NoticeContent & { kind: 'support_reply' }): string {
  const head = `${t('support-answer', { subject: content.subject })}\n\n`;
  const foot = content.closed ? `\n\n${t('support-answer-closed')}` : '';
  const room = TEXT_MAX - head.length - foot.length;
  if (content.message.length <= room) return head + content.message + foot;
  const cut = `…\n\n${t('support-answer-cut')}`;
  return head + content.message.slice(0, room - cut.length) + cut + foot;
}

/**
 * Sends what `notices/` put in, at least once: a notice is claimed for two minutes, and what came of it is written
 * down. Several control planes share the work.
 */
export class NoticeSender {
  readonly #deps: NoticeSenderDeps;
  readonly #job: Periodic;
  readonly #deliveries: Deliveries;
  #stopping = false;

  constructor(deps: NoticeSenderDeps) {
    this.#deps = deps;
    this.#deliveries = new Deliveries(deps.telegram);
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'notices_not_sent'),
    });
  }

  start(): void {
    this.#job.start();
  }

  /** Takes back what waits; resolves when what is under way is written down. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#deliveries.stop();
    await this.#job.stop();
  }

  /** Sends what is due; resolves to how many notices ended. */
  async runOnce(): Promise<number> {
    let ended = 0;
    while (!this.#stopping) {
      const batch = await this.#claim();
      if (batch.length === 0) break;
      const outcomes = await Promise.all(batch.map((notice) => this.#send(notice)));
      ended += outcomes.filter((outcome) => outcome !== 'again').length;
      await this.#record(batch, outcomes);
      if (outcomes.every((outcome) => outcome === 'again')) break;
    }
    return ended;
  }

  async #claim(): Promise<Claimed[]> {
    const { rows } = await this.#deps.pool.query<Claimed>(
      `WITH due AS (
         SELECT id, user_id, buyer_telegram_id FROM bot_notices WHERE state = 'waiting' AND due_at <= now()
          ORDER BY due_at, id LIMIT ${BATCH} FOR UPDATE SKIP LOCKED)
       UPDATE bot_notices n SET attempts = attempts + 1, due_at = now() + make_interval(secs => ${CLAIM_S})
         FROM due LEFT JOIN users u ON u.id = due.user_id
                  LEFT JOIN bot_people p ON p.telegram_id = due.buyer_telegram_id
                  LEFT JOIN users o ON o.telegram_id = due.buyer_telegram_id
        WHERE n.id = due.id
       RETURNING n.id, n.payload, coalesce(u.language, o.language, p.language, 'en') AS language,
                 CASE WHEN n.buyer_telegram_id IS NOT NULL THEN n.buyer_telegram_id
                      WHEN u.status <> 'deleted' AND u.telegram_blocked_at IS NULL
                       AND (n.kind IN ('payout_step', 'support_reply')
                            OR u.settings->'notifications' IS DISTINCT FROM 'false'::jsonb)
                      THEN u.telegram_id END AS telegram_id`,
    );
    return rows.sort((a, b) => Number(a.id - b.id));
  }

  async #send({ payload, telegram_id: telegramId, language }: Claimed): Promise<Outcome> {
    if (telegramId === null) return 'dropped';
    const { delivery } = await this.#deliveries.send({
      chatId: Number(telegramId),
      text: noticeText(language, payload),
      kind: payload.kind,
      ...(payload.kind === 'support_reply' &&
        !payload.closed && { keyboard: supportKeyboard(language, payload.threadId) }),
      dropAfterMs: DROP_AFTER_MS,
    });
    return OUTCOMES[delivery];
  }

  async #record(batch: readonly Claimed[], outcomes: readonly Outcome[]): Promise<void> {
    await this.#deps.pool.query(
      `UPDATE bot_notices n
          SET state = CASE WHEN o.outcome <> 'again' THEN o.outcome
                           WHEN n.attempts >= ${ATTEMPTS_MAX} THEN 'dropped' ELSE 'waiting' END,
              due_at = now() + make_interval(secs => ${RETRY_FIRST_S} * 2 ^ (n.attempts - 1)),
              ended_at = CASE WHEN o.outcome <> 'again' OR n.attempts >= ${ATTEMPTS_MAX} THEN now() END
         FROM unnest($1::bigint[], $2::text[]) AS o (id, outcome)
        WHERE n.id = o.id AND n.state = 'waiting'`,
      [batch.map(({ id }) => id.toString()), outcomes],
    );
  }
}

type Outcome = 'sent' | 'dropped' | 'again';
const OUTCOMES: Readonly<Record<Delivery, Outcome>> = {
  sent: 'sent',
  unreachable: 'dropped',
  failed: 'again',
  expired: 'again',
  unknown: 'again',
  queue_full: 'again',
  stopped: 'again',
};
