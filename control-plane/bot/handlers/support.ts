import { Composer } from 'grammy';
import { recordAudit } from '../../audit/audit.js';
import {
  continueThread,
  listThreads,
  OPEN_THREADS_MAX,
  openThread,
  readThread,
  type Thread,
} from '../../support/threads.js';
import type { Keyboard } from '../../telegram/telegram-queue.js';
import type { UserRow } from '../../users/users.js';
import type { BotContext, BotPart } from '../context.js';
import { keepConversation, readConversation } from '../conversations.js';
import { countOne } from '../guests.js';
import { SUPPORT_BUTTON } from '../support-button.js';
import { actingUser, type FromSomebody, forUsers } from './who.js';

const KIND = 'support';
const SUBJECT_MAX = 80;
/** Earlier requests that can be chosen. */
const CHOICES_MAX = 4;
/** Longest text of a button. */
const BUTTON_CHARS_MAX = 40;

const STATUSES = { open: 'support-open', answered: 'support-answered', closed: 'support-closed' } as const;

/** Where texts go: into a thread, or null: into a new one. */
interface Talk {
  thread: string | null;
}

/**
 * `/support`: what is written next goes into the latest thread that is not closed, into another one by its button, or
 * opens one; and so does what is written after that, up to the next command. The answers come through the bot; a reply to
 * one goes to its thread, at any time.
 */
export function supportPart(): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');

  const keep = (ctx: FromSomebody, talk: Talk) =>
    keepConversation(ctx.db, ctx.from.id, { kind: KIND, state: { ...talk } });

  chat.command(
    'support',
    forUsers(async (ctx, user) => {
      const { rows } = await listThreads(ctx.db, { userId: user.id }, { limit: OPEN_THREADS_MAX * 2 });
      const [latest] = rows;
      const open = rows.filter(({ status }) => status !== 'closed');
      const [thread, ...others] = open;
      await keep(ctx, { thread: thread?.id ?? null });
      const shown = thread ?? latest;
      if (shown === undefined) return ctx.say(ctx.t('support-ask'));
      const status = ctx.t(STATUSES[shown.status]);
      const ask = ctx.t(thread === undefined ? 'support-ask' : 'support-ask-on');
      ctx.say(`${ctx.t('support-latest', { subject: shown.subject, status })}\n\n${ask}`, {
        keyboard: thread === undefined ? undefined : choices(ctx, others),
      });
    }),
  );

  chat.callbackQuery(
    'support:new',
    forUsers(async (ctx) => {
      await keep(ctx, { thread: null });
      ctx.say(ctx.t('support-ask'));
    }),
  );

  chat.callbackQuery(
    SUPPORT_BUTTON,
    forUsers(async (ctx, user) => {
      const found = await readThread(ctx.db, ctx.match[1] as string);
      if (found?.thread.user_id !== user.id) return ctx.answer(ctx.t('button-old'), true);
      const { id, subject, status } = found.thread;
      if (status === 'closed') return ctx.answer(ctx.t('support-answer-closed'), true);
      await keep(ctx, { thread: id });
      ctx.say(ctx.t('support-to', { subject }));
    }),
  );

  chat.on('message:text', async (ctx, next) => {
    const { user } = ctx;
    if (user === null) return next();
    const replied = repliedThread(ctx);
    const talk = await readConversation(ctx.db, ctx.from.id);
    const isHere = talk?.kind === KIND;
    if (replied === null && !isHere) return next();
    const to = replied === null ? (talk?.state as unknown as Talk) : { thread: replied };
    const written = await write(ctx, user, to);
    // A reply in the middle of something else leaves that where it is.
    if (written !== null && (talk === null || isHere)) await keep(ctx, { thread: written });
  });

  /** Resolves to the thread that has it now; null: none. */
  async function write(ctx: FromSomebody, user: UserRow, talk: Talk): Promise<string | null> {
    if ((await countOne(ctx.db, ctx.from.id, 'support')).over) {
      ctx.say(ctx.t('too-many-tries'));
      return null;
    }
    const message = ctx.message?.text ?? '';
    // One that was closed meanwhile takes nothing more: nothing of what was written is lost.
    const continued =
      talk.thread !== null && (await continueThread(ctx.db, talk.thread, user.id, message)).ok
        ? talk.thread
        : null;
    const subject = message.slice(0, SUBJECT_MAX);
    const thread = continued ?? (await openThread(ctx.db, user.id, { subject, message }));
    if (thread === null) {
      ctx.say(ctx.t('support-too-many', { max: OPEN_THREADS_MAX }));
      return null;
    }
    await recordAudit(ctx.db, {
      actor: actingUser(user),
      action: continued === null ? 'support_opened' : 'support_continued',
      objectType: 'support_thread',
      objectId: thread,
    });
    ctx.say(ctx.t('support-sent'));
    return thread;
  }
  return part;
}

/** Another request, or a new one. */
function choices(ctx: BotContext, others: readonly Thread[]): Keyboard {
  return [
    ...others
      .slice(0, CHOICES_MAX)
      .map(({ id, subject }) => [
        { text: subject.slice(0, BUTTON_CHARS_MAX), callback_data: `support:to:${id}` },
      ]),
    [{ text: ctx.t('support-new'), callback_data: 'support:new' }],
  ];
}

/** The thread of the answer that this message replies to: its button says which. Null: it replies to none. */
function repliedThread(ctx: BotContext): string | null {
  const buttons = ctx.message?.reply_to_message?.reply_markup?.inline_keyboard.flat() ?? [];
  for (const button of buttons) {
    const id = 'callback_data' in button ? SUPPORT_BUTTON.exec(button.callback_data)?.[1] : undefined;
    if (id !== undefined) return id;
  }
  return null;
}
