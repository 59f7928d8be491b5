import type { User } from 'grammy/types';
import type { Actor } from '../../http/actor.js';
import type { UserRow } from '../../users/users.js';
import type { BotContext } from '../context.js';

/** A handler's context in which somebody wrote or pressed. */
export type FromSomebody = BotContext & { from: User };

/** Runs `handle` for people who are users; others are told to press /start. */
export function forUsers<C extends FromSomebody>(
  handle: (ctx: C, user: UserRow) => unknown,
): (ctx: C) => Promise<void> {
  return async (ctx) => {
    if (ctx.user === null) return refuse(ctx, ctx.t('not-a-user'));
    await handle(ctx, ctx.user);
  };
}

/**
 * Runs `handle` for admins; others are refused. As in the console the main account counts alone: another one can be
 * linked from a provider's session.
 */
export function forAdmins<C extends FromSomebody>(
  handle: (ctx: C, admin: UserRow) => unknown,
): (ctx: C) => Promise<void> {
  return async (ctx) => {
    const { user } = ctx;
    if (!isAdmin(user, ctx.from.id)) return refuse(ctx, ctx.t('admin-only'));
    await handle(ctx, user);
  };
}

/** Whether this user is an admin and this their main Telegram account. */
export function isAdmin(user: UserRow | null, telegramId: number): user is UserRow {
  return user?.is_admin === true && user.status === 'active' && Number(user.telegram_id) === telegramId;
}

function refuse(ctx: BotContext, text: string): void {
  if (ctx.callbackQuery === undefined) ctx.say(text);
  else ctx.answer(text, true);
}

/** For the audit log: a user who acts through the bot. */
export const actingUser = (user: UserRow): Actor => ({ role: 'user', userId: user.id, loginId: null });

/** For the audit log: an admin who acts through the bot. */
export const actingAdmin = (admin: UserRow): Actor => ({
  role: 'admin',
  userId: admin.id,
  loginId: 'telegram',
});
