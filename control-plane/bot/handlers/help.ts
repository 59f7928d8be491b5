import { Composer } from 'grammy';
import { ADMIN_COMMANDS, COMMANDS } from '../commands.js';
import type { BotContext, BotPart } from '../context.js';
import { isAdmin } from './who.js';

/** `/help`, and whatever no other part took. The last part. */
export function helpPart(): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');
  chat.command('help', (ctx) => {
    const line = (command: string) => `/${command} · ${ctx.t(`cmd-${command}`)}`;
    const text = [ctx.t('help-head'), ...COMMANDS.map(line)];
    if (isAdmin(ctx.user, ctx.from.id)) text.push('', ctx.t('help-admin'), ...ADMIN_COMMANDS.map(line));
    ctx.say(text.join('\n'));
  });
  chat.on('message:text', (ctx) => ctx.say(ctx.t('not-understood')));
  part.on('callback_query', (ctx) => ctx.answer(ctx.t('button-old')));
  return part;
}
