import { Composer } from 'grammy';
import type pg from 'pg';
import type { Clock } from '../../../gateway/runtime/clock.js';
import { issueCode } from '../../auth/login-codes.js';
import type { LoginCodeSender } from '../../telegram/login-code-sender.js';
import type { MessageSender } from '../../telegram/message-sender.js';
import type { BotContext, BotPart } from '../context.js';
import { forUsers } from './who.js';

export interface LoginPartDeps {
  pool: pg.Pool;
  clock: Clock;
  codeSender: LoginCodeSender;
  telegram: MessageSender;
  settings: { jwtSecret: string; loginCodeTtlS: number; codesPerIdPerHour: number };
}

/** Time the answer that there is no code may wait. */
const DROP_AFTER_MS = 60_000;

/** `/login`: a code to sign in with, as the app would ask for; it comes to the Telegram account that asks. */
export function loginPart({ pool, clock, codeSender, telegram, settings }: LoginPartDeps): BotPart {
  const part = new Composer<BotContext>();
  part.chatType('private').command(
    'login',
    forUsers((ctx, user) => {
      const telegramId = ctx.from.id;
      const { language } = user;
      const limited = { chatId: telegramId, text: ctx.t('login-code-limit'), kind: 'bot' };
      // A code is drawn in a transaction of its own, and is worth nothing when it is not sent.
      ctx.after(async () => {
        const code = await issueCode(pool, settings, user.id, clock.nowMs());
        if (code === null) return telegram.push({ ...limited, dropAfterMs: DROP_AFTER_MS });
        codeSender.send({ telegramId, code, language, ttlS: settings.loginCodeTtlS });
      });
    }),
  );
  return part;
}
