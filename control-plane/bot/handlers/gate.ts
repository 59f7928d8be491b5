import { Composer } from 'grammy';
import type { BotContext, BotPart } from '../context.js';
import { endConversation } from '../conversations.js';
import { countOne, noteBlocked } from '../guests.js';

/**
 * What every update passes first: who blocked the bot or came back is noted; who writes too much is told so once a
 * minute and not heard; a command ends the conversation under way. Payments are never held up.
 */
export function gatePart(): BotPart {
  const part = new Composer<BotContext>();

  part.chatType('private').on('my_chat_member', (ctx) => {
    const { status } = ctx.myChatMember.new_chat_member;
    return noteBlocked(ctx.db, ctx.from.id, status === 'kicked' || status === 'left');
  });

  part.on(['message:text', 'callback_query'], async (ctx, next) => {
    const { over, first } = await countOne(ctx.db, ctx.from.id, 'update');
    if (!over) return next();
    if (ctx.callbackQuery !== undefined) ctx.answer(ctx.t('slow-down'));
    else if (first) ctx.say(ctx.t('slow-down'));
  });

  part.chatType('private').command('cancel', async (ctx) => {
    const ended = await endConversation(ctx.db, ctx.from.id);
    ctx.say(ctx.t(ended ? 'cancelled' : 'nothing-to-cancel'));
  });

  part.chatType('private').on('message::bot_command', async (ctx, next) => {
    if (ctx.message.text?.startsWith('/')) await endConversation(ctx.db, ctx.from.id);
    return next();
  });
  return part;
}
