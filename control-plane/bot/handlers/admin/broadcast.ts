import { Composer } from 'grammy';
import { recordAudit } from '../../../audit/audit.js';
import {
  type BroadcastMove,
  cancelBroadcast,
  createBroadcast,
  startBroadcast,
} from '../../../broadcasts/broadcasts.js';
import type { Keyboard } from '../../../telegram/telegram-queue.js';
import { LANGUAGES } from '../../../users/users.js';
import type { BotContext, BotPart } from '../../context.js';
import { endConversation, keepConversation, readConversation } from '../../conversations.js';
import { actingAdmin, forAdmins, isAdmin } from '../who.js';

const KIND = 'broadcast';

/** `/broadcast`: to whom, what, and a button that sends it. The draft is the domain's, so it is started once. */
export function broadcastPart(): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');

  const targetName = (ctx: BotContext, target: string): string => {
    const [kind, language] = target.split(':') as [string, string | undefined];
    if (language !== undefined) return ctx.t('broadcast-language', { language });
    if (kind === 'active') return ctx.t('broadcast-active');
    return ctx.t(kind === 'admins' ? 'broadcast-admins' : 'broadcast-all');
  };

  chat.command(
    'broadcast',
    forAdmins(async (ctx) => {
      const button = (target: string) => ({
        text: targetName(ctx, target),
        callback_data: `broadcast:to:${target}`,
      });
      const keyboard: Keyboard = [
        [button('all'), button('active'), button('admins')],
        LANGUAGES.map((language) => button(`language:${language}`)),
      ];
      ctx.say(ctx.t('broadcast-target'), { keyboard });
    }),
  );

  chat.callbackQuery(
    /^broadcast:to:(all|active|admins|language:(?:en|ru|uz))$/,
    forAdmins(async (ctx) => {
      await keepConversation(ctx.db, ctx.from.id, { kind: KIND, state: { target: ctx.match[1] } });
      ctx.edit(ctx.t('broadcast-text'));
    }),
  );

  chat.on('message:text', async (ctx, next) => {
    const talk = await readConversation(ctx.db, ctx.from.id);
    const { user } = ctx;
    if (talk?.kind !== KIND) return next();
    await endConversation(ctx.db, ctx.from.id);
    if (!isAdmin(user, ctx.from.id)) return ctx.say(ctx.t('admin-only'));
    const fields = { target: String(talk.state.target), message: ctx.message.text };
    const { id } = await createBroadcast(ctx.db, { ...fields, adminId: user.id });
    await recordAudit(ctx.db, {
      actor: actingAdmin(user),
      action: 'broadcast_created',
      objectType: 'broadcast',
      objectId: id,
      after: { ...fields, by: 'bot' },
    });
    const shown = { target: targetName(ctx, fields.target), message: fields.message };
    ctx.say(ctx.t('broadcast-confirm', shown), {
      keyboard: [
        [
          { text: ctx.t('broadcast-send'), callback_data: `broadcast:go:${id}` },
          { text: ctx.t('withdraw-no'), callback_data: `broadcast:no:${id}` },
        ],
      ],
    });
  });

  chat.callbackQuery(
    /^broadcast:(go|no):([0-9a-f-]{36})$/,
    forAdmins(async (ctx, admin) => {
      const [, what, id] = ctx.match as unknown as [string, 'go' | 'no', string];
      const moved: BroadcastMove = await (what === 'go' ? startBroadcast : cancelBroadcast)(ctx.db, id);
      if (!moved.ok) return ctx.answer(ctx.t('button-old'), true);
      const { recipients } = moved;
      await recordAudit(ctx.db, {
        actor: actingAdmin(admin),
        action: what === 'go' ? 'broadcast_started' : 'broadcast_cancelled',
        objectType: 'broadcast',
        objectId: id,
        after: { recipients, by: 'bot' },
      });
      ctx.edit(what === 'go' ? ctx.t('broadcast-started', { recipients }) : ctx.t('cancelled'));
    }),
  );
  return part;
}
