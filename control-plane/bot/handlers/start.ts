import { Composer } from 'grammy';
import { recordAudit } from '../../audit/audit.js';
import { BUYER_START_PREFIX, confirmBuyerLink } from '../../buyers/telegrams.js';
import { confirmLink, START_PREFIX } from '../../people/telegrams.js';
import { findOrCreateUser, findReferrer } from '../../users/users.js';
import type { BotContext, BotPart } from '../context.js';
import { TEXTS } from '../texts.js';

/**
 * `/start`: makes the user on first sight. Its payload says what led here: `link_…` another Telegram account
 * of a user, `buyer_…` a buyer's, anything else is a referral code (one that nobody has is passed over).
 */
export function startPart(): BotPart {
  const part = new Composer<BotContext>();
  part.chatType('private').command('start', async (ctx) => {
    const payload = ctx.match.trim();
    const { from } = ctx;
    const account = { telegramId: from.id, username: from.username ?? null };
    if (payload.startsWith(START_PREFIX)) return linkUser(ctx, payload.slice(START_PREFIX.length), account);
    if (payload.startsWith(BUYER_START_PREFIX))
      return linkBuyer(ctx, payload.slice(BUYER_START_PREFIX.length), account);
    return welcome(ctx, payload, account);
  });
  return part;
}

interface Account {
  telegramId: number;
  username: string | null;
}

async function linkUser(ctx: BotContext, token: string, account: Account): Promise<void> {
  const texts = TEXTS[ctx.language];
  const linked = await confirmLink(ctx.db, token, account);
  if (!linked.ok) return ctx.say(texts.linkRefused[linked.code]);
  if (linked.fresh)
    await recordAudit(ctx.db, {
      actor: { role: 'bot' },
      action: 'telegram_linked',
      objectType: 'user',
      objectId: linked.userId,
      after: { telegram_id: account.telegramId },
    });
  ctx.say(texts.linked);
}

async function linkBuyer(ctx: BotContext, token: string, account: Account): Promise<void> {
  const texts = TEXTS[ctx.language];
  const linked = await confirmBuyerLink(ctx.db, token, account);
  if (!linked.ok) return ctx.say(texts.buyerLinkRefused[linked.code]);
  if (linked.fresh)
    await recordAudit(ctx.db, {
      actor: { role: 'bot' },
      action: 'buyer_telegram_linked',
      objectType: 'buyer',
      objectId: linked.buyerId,
      after: { telegram_id: account.telegramId },
    });
  ctx.say(texts.buyerLinked(linked.name));
}

async function welcome(ctx: BotContext, referralCode: string, account: Account): Promise<void> {
  const referredBy = referralCode === '' ? null : await findReferrer(ctx.db, referralCode);
  const { user, created } = await findOrCreateUser(ctx.db, {
    ...account,
    language: ctx.from?.language_code ?? null,
    isVerified: true, // Telegram says who it is
    referredBy,
  });
  const texts = TEXTS[user.language];
  if (user.status === 'banned') return ctx.say(texts.banned);
  if (!user.is_verified)
    await ctx.db.query('UPDATE users SET is_verified = true, updated_at = now() WHERE id = $1', [user.id]);
  // Somebody who came back can be written to again.
  await ctx.db.query(
    'UPDATE users SET telegram_blocked_at = NULL WHERE id = $1 AND telegram_blocked_at IS NOT NULL',
    [user.id],
  );
  if (created)
    await recordAudit(ctx.db, {
      actor: { role: 'bot' },
      action: 'user_registered',
      objectType: 'user',
      objectId: user.id,
      after: { telegram_id: account.telegramId, referred_by: referredBy },
    });
  ctx.say(created ? texts.welcome : texts.welcomeBack);
}
