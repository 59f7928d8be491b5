import type { Queryable } from '../db/pool.js';

/** Steps of a payout that its provider is told of. `sent`: Cryptomus has named its transaction on the chain. */
export type PayoutStep = 'requested' | 'processing' | 'sent' | 'completed' | 'failed' | 'cancelled';

/** A step with what is said of it. Amounts as text: JSON has no bigint. */
export interface PayoutStepContent {
  step: PayoutStep;
  amountMicros: string;
  network: string;
  address: string;
  transaction: string | null;
  reason: string | null;
}

/** What happened to a buyer: a warning, fewer connections a second, no connections at all, or the end of these two. */
export type BuyerNoticeKind = 'warned' | 'throttled' | 'suspended' | 'lifted';

/** What a buyer is told of abuse that was seen or reported (`abuse/notice-text.ts`). */
export interface BuyerAbuseContent {
  kind: 'buyer_abuse';
  what: BuyerNoticeKind;
  /** Of detection, or `reported`. */
  rule: string;
  /** The buyer's. */
  account: string;
  /** An admin's own words. */
  message: string | null;
  /** How to reach us. */
  contact: string | null;
}

/** What a user is told by the bot, beside answers. The words are the bot's (`bot/notice-sender.ts`). */
export type NoticeContent =
  /** A traffic session is over and settled. */
  | { kind: 'session_completed'; bytes: string; earnedMicros: string }
  /** A payout was requested elsewhere than here, released, sent, paid, has failed or was cancelled. */
  | ({ kind: 'payout_step' } & PayoutStepContent)
  /** An admin answered a support thread; `closed`: it takes nothing more. */
  | { kind: 'support_reply'; threadId: string; subject: string; message: string; closed: boolean }
  /** Devices of the user run an older version. */
  | { kind: 'update_available'; version: string; devices: number }
  | BuyerAbuseContent;

/** Amounts and bytes as text: JSON has no bigint. */
export interface Notice {
  userId: string;
  /** The same key of one kind is told once. */
  key: string;
  content: NoticeContent;
}

/**
 * Puts notices in, in the caller's transaction: there is no notice of what did not happen. They are sent at least once,
 * to who can be written to: who has no Telegram account or blocked the bot is passed over, and of all but payouts and
 * answers of support who turned notifications off.
 */
export async function putNotices(client: Queryable, notices: readonly Notice[]): Promise<void> {
  if (notices.length === 0) return;
  await client.query(
    `INSERT INTO bot_notices (kind, key, user_id, payload)
     SELECT kind, key, user_id, payload::jsonb
       FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[]) AS n (kind, key, user_id, payload)
     ON CONFLICT (kind, key) DO NOTHING`,
    [
      notices.map(({ content }) => content.kind),
      notices.map(({ key }) => key),
      notices.map(({ userId }) => userId),
      notices.map(({ content }) => JSON.stringify(content)),
    ],
  );
}

/** Puts a notice to a buyer in, likewise: one for each Telegram account that the buyer has linked by now. */
export async function putBuyerNotice(
  client: Queryable,
  buyerId: string,
  key: string,
  content: BuyerAbuseContent,
): Promise<void> {
  await client.query(
    `INSERT INTO bot_notices (kind, key, buyer_telegram_id, payload)
     SELECT $1, $2 || ':' || telegram_id, telegram_id, $3::jsonb FROM buyer_telegrams WHERE buyer_id = $4
     ON CONFLICT (kind, key) DO NOTHING`,
    [content.kind, key, JSON.stringify(content), buyerId],
  );
}
