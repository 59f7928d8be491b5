import { Composer } from 'grammy';
import { recordAudit } from '../../audit/audit.js';
import { BUYER_START_PREFIX, confirmBuyerLink, findBuyerLinkOwner } from '../../buyers/telegrams.js';
import { confirmLink, findLinkOwner, START_PREFIX } from '../../people/telegrams.js';
import type { Keyboard } from '../../telegram/telegram-queue.js';
import { textIn } from '../../texts/fluent.js';
import { findConsent } from '../../users/consent.js';
import { findOrCreateUser, findReferrer, type UserRow } from '../../users/users.js';
import type { BotContext, BotPart } from '../context.js';
import { noteBlocked } from '../guests.js';
import { sayTerms } from './consent.js';

export interface StartPartDeps {
  /** The terms in force. */
  rules: () => Promise<{ termsVersion: string }>;
  /** The Mini App; null: there is none. */
  appUrl: string | null;
  /** The person's list of commands may be another one now. */
  onSeen: (ctx: BotContext, user: UserRow | null) => Promise<void>;
}

const LINK_REFUSED = {
  link_expired: 'link-expired',
  telegram_taken: 'link-taken',
  too_many_telegrams: 'link-too-many',
  forbidden: 'link-forbidden',
} as const;
const BUYER_LINK_REFUSED = {
  link_expired: 'buyer-link-expired',
  telegram_taken: 'buyer-link-taken',
  too_many_telegrams: 'buyer-link-too-many',
  forbidden: 'buyer-link-forbidden',
} as const;

/**
 * `/start`: makes the user on first sight, and asks them for consent. Its payload says what led here: `link_…` another
 * Telegram account of a user, `buyer_…` a buyer's, anything else is a referral code (one that nobody has is passed over).
 * A link joins nobody by being opened: whoever sent it may not be whom the person takes them for. They are told whose it
 * is, and press a button.
 */
export function startPart(deps: StartPartDeps): BotPart {
  const part = new Composer<BotContext>();
  part.chatType('private').command('start', async (ctx) => {
    const payload = ctx.match.trim();
    const account = accountOf(ctx.from);
    if (payload.startsWith(START_PREFIX)) return askToLink(ctx, payload.slice(START_PREFIX.length));
    if (payload.startsWith(BUYER_START_PREFIX))
      return askToLinkBuyer(ctx, payload.slice(BUYER_START_PREFIX.length));
    return welcome(deps, ctx, payload, account);
  });
  part
    .chatType('private')
    .callbackQuery(/^link:([\w-]+)$/, (ctx) => linkUser(ctx, ctx.match[1] as string, accountOf(ctx.from)));
  part
    .chatType('private')
    .callbackQuery(/^buyer:([\w-]+)$/, (ctx) => linkBuyer(ctx, ctx.match[1] as string, accountOf(ctx.from)));
  part.chatType('private').callbackQuery('link-not', (ctx) => ctx.edit(ctx.t('cancelled')));
  return part;
}

interface Account {
  telegramId: number;
  username: string | null;
}

function accountOf(from: { id: number; username?: string | undefined }): Account {
  return { telegramId: from.id, username: from.username ?? null };
}

/** Yes carries the token in 64 bytes of callback data. */
const linkKeyboard = (ctx: BotContext, yes: string): Keyboard => [
  [
    { text: ctx.t('link-yes'), callback_data: yes },
    { text: ctx.t('withdraw-no'), callback_data: 'link-not' },
  ],
];

async function askToLink(ctx: BotContext, token: string): Promise<void> {
  const owner = await findLinkOwner(ctx.db, token);
  if (owner === null) return ctx.say(ctx.t('link-expired'));
  ctx.say(ctx.t('link-ask', { owner }), { keyboard: linkKeyboard(ctx, `link:${token}`) });
}

async function askToLinkBuyer(ctx: BotContext, token: string): Promise<void> {
  const buyer = await findBuyerLinkOwner(ctx.db, token);
  if (buyer === null) return ctx.say(ctx.t('buyer-link-expired'));
  ctx.say(ctx.t('buyer-link-ask', { buyer }), { keyboard: linkKeyboard(ctx, `buyer:${token}`) });
}

async function linkUser(ctx: BotContext, token: string, account: Account): Promise<void> {
  const linked = await confirmLink(ctx.db, token, account);
  if (!linked.ok) return ctx.edit(ctx.t(LINK_REFUSED[linked.code]));
  if (linked.fresh)
    await recordAudit(ctx.db, {
      actor: { role: 'bot' },
      action: 'telegram_linked',
      objectType: 'user',
      objectId: linked.userId,
      after: { telegram_id: account.telegramId },
    });
  ctx.edit(ctx.t('linked'));
}

async function linkBuyer(ctx: BotContext, token: string, account: Account): Promise<void> {
  const linked = await confirmBuyerLink(ctx.db, token, account);
  if (!linked.ok) return ctx.edit(ctx.t(BUYER_LINK_REFUSED[linked.code]));
  if (linked.fresh)
    await recordAudit(ctx.db, {
      actor: { role: 'bot' },
      action: 'buyer_telegram_linked',
      objectType: 'buyer',
      objectId: linked.buyerId,
      after: { telegram_id: account.telegramId },
    });
  ctx.edit(ctx.t('buyer-linked', { buyer: linked.name }));
}

async function welcome(
  deps: StartPartDeps,
  ctx: BotContext,
  referralCode: string,
  account: Account,
): Promise<void> {
  const referredBy = referralCode === '' ? null : await findReferrer(ctx.db, referralCode);
  const { user, created } = await findOrCreateUser(ctx.db, {
    ...account,
    language: ctx.language,
    isVerified: true, // Telegram says who it is
    referredBy,
  });
  if (user.status === 'banned') return ctx.say(textIn(user.language, 'banned'));
  if (!user.is_verified)
    await ctx.db.query('UPDATE users SET is_verified = true, updated_at = now() WHERE id = $1', [user.id]);
  // Somebody who came back can be written to again.
  await noteBlocked(ctx.db, account.telegramId, false);
  if (created)
    await recordAudit(ctx.db, {
      actor: { role: 'bot' },
      action: 'user_registered',
      objectType: 'user',
      objectId: user.id,
      after: { telegram_id: account.telegramId, referred_by: referredBy },
    });
  const { termsVersion: version } = await deps.rules();
  const consent = await findConsent(ctx.db, user.id);
  const greeting = textIn(user.language, created ? 'welcome' : 'welcome-back');
  if (consent?.terms_version === version) ctx.say(greeting);
  else await sayTerms(ctx, user.language, { version, appUrl: deps.appUrl, greeting });
  await deps.onSeen(ctx, user);
}
