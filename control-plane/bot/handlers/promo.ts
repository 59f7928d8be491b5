import { Composer } from 'grammy';
import { recordAudit } from '../../audit/audit.js';
import { formatMicros } from '../../ledger/money.js';
import { redeemPromoCode } from '../../promo/promo-codes.js';
import { dollars } from '../../texts/words.js';
import type { UserRow } from '../../users/users.js';
import type { BotContext, BotPart } from '../context.js';
import { endConversation, keepConversation, readConversation } from '../conversations.js';
import { countOne } from '../guests.js';
import { orNothing } from '../savepoint.js';
import { actingUser, type FromSomebody, forUsers } from './who.js';

const KIND = 'promo';
/** Longest code there is. */
const CODE_MAX = 32;

const REFUSED = {
  unknown_promo_code: 'promo-unknown',
  promo_expired: 'promo-expired',
  promo_used_up: 'promo-used-up',
  promo_redeemed: 'promo-redeemed-before',
  banned: 'banned',
} as const;

/** `/promo CODE`, or `/promo` and then the code. */
export function promoPart(): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');

  chat.command(
    'promo',
    forUsers(async (ctx, user) => {
      const code = ctx.match.trim();
      if (code !== '') return redeem(ctx, user, code);
      await keepConversation(ctx.db, ctx.from.id, { kind: KIND, state: {} });
      ctx.say(ctx.t('promo-ask'));
    }),
  );

  chat.on('message:text', async (ctx, next) => {
    const talk = await readConversation(ctx.db, ctx.from.id);
    if (talk?.kind !== KIND || ctx.user === null) return next();
    await redeem(ctx, ctx.user, ctx.message.text.trim());
  });
  return part;
}

/** A wrong code leaves the conversation open: it may have been a slip. */
async function redeem(ctx: FromSomebody, user: UserRow, code: string): Promise<void> {
  if ((await countOne(ctx.db, ctx.from.id, 'promo')).over) return ctx.say(ctx.t('too-many-tries'));
  const redeemed = await orNothing(ctx.db, () =>
    code.length > CODE_MAX
      ? Promise.resolve({ ok: false as const, code: 'unknown_promo_code' as const })
      : redeemPromoCode(ctx.db, code, user.id),
  );
  if (!redeemed.ok) return ctx.say(ctx.t(REFUSED[redeemed.code]));
  const { promo, transactionId } = redeemed;
  await endConversation(ctx.db, ctx.from.id);
  await recordAudit(ctx.db, {
    actor: actingUser(user),
    action: 'promo_redeemed',
    objectType: 'promo_code',
    objectId: promo.id,
    after: { transaction_id: transactionId, bonus: formatMicros(promo.bonus_micros), by: 'bot' },
  });
  ctx.say(ctx.t('promo-redeemed', { bonus: dollars(promo.bonus_micros) }));
}
