import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { issueCode } from '../auth/login-codes.js';
import { readProviderBalance } from '../balance/balance.js';
import { BalanceSchema, balanceJson } from '../balance/schemas.js';
import { DeviceSchema, readDevices } from '../devices/device-list.js';
import { Problem } from '../errors.js';
import { Bytes, jsonBytes, Money, Ok, problemResponses, TelegramId } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { SettingsStore } from '../settings/settings.js';
import type { AdminChannel } from '../telegram/admin-channel.js';
import type { LoginCodeSender } from '../telegram/login-code-sender.js';
import { type MessageSender, tryPush } from '../telegram/message-sender.js';
import { textIn } from '../texts/fluent.js';
import { megabytes } from '../texts/words.js';
import { findUserByTelegramId, type UserRow } from '../users/users.js';

export interface BotCallsDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  codeSender: LoginCodeSender;
  telegram: MessageSender;
  admins: AdminChannel;
  settings: { jwtSecret: string; loginCodeTtlS: number; codesPerIdPerHour: number };
  /** Terms and oldest version in force. */
  rules: Pick<SettingsStore, 'read'>;
}

/** Figures older than this are not worth sending. */
const FIGURES_DROP_AFTER_MS = 60_000;

/** When to ask again for a code that was one too many: the limit is of a sliding hour. */
const RETRY_CODE_AFTER_S = 600;

const Who = Type.Object({ telegram_id: TelegramId }, { additionalProperties: false });
const Queued = Type.Literal(true, { description: 'a message waits for Telegram' });

/** What the bot asks of the server: `/api/bot/*`. Every message is queued; no call waits for Telegram. */
export const botCallsPlugin: FastifyPluginAsyncTypebox<BotCallsDeps> = async (app, deps) => {
  const { pool, telegram } = deps;

  async function userOf(telegramId: number): Promise<UserRow> {
    const user = await findUserByTelegramId(pool, telegramId);
    if (user === null) throw new Problem('not_found', 'Nobody has this Telegram account.');
    return user;
  }

  function say(chatId: number, kind: string, text: string): true {
    if (!tryPush(telegram, { chatId, text, kind, dropAfterMs: FIGURES_DROP_AFTER_MS }))
      throw new Problem('bot_queue_full');
    return true;
  }

  app.post(
    '/api/bot/send_login_code',
    {
      config: { roles: ['bot'] },
      schema: {
        tags: ['Bot'],
        summary: 'Send a login code',
        description:
          'To the Telegram account that asked the bot for one. Earlier codes are dead then. 429 above the codes a ' +
          'Telegram id may have in an hour.',
        body: Who,
        response: { 200: Ok, ...problemResponses(401, 403, 404) },
      },
    },
    async (request, reply) => {
      const { telegram_id: telegramId } = request.body;
      const user = await userOf(telegramId);
      const code = await issueCode(pool, deps.settings, user.id, deps.clock.nowMs());
      if (code === null) {
        reply.header('retry-after', RETRY_CODE_AFTER_S);
        throw new Problem('rate_limited', 'This user has had enough codes for an hour.');
      }
      deps.codeSender.send({ telegramId, code, language: user.language, ttlS: deps.settings.loginCodeTtlS });
      return { ok: true as const };
    },
  );

  app.post(
    '/api/bot/notify_admin',
    {
      config: { roles: ['bot'] },
      schema: {
        tags: ['Bot'],
        summary: 'Tell the admins',
        description: 'In their channel (TS_ADMIN_CHAT_ID), or each of them when there is none.',
        body: Type.Object(
          {
            message: Type.String({ minLength: 1, maxLength: 4_096 }),
            kind: Type.Optional(Type.String({ pattern: '^[a-z_]{1,40}$', description: 'for the log' })),
          },
          { additionalProperties: false, examples: [{ message: 'A user writes to the bot in vain.' }] },
        ),
        response: {
          200: Type.Object({ ok: Type.Literal(true), queued: Type.Integer({ description: 'messages' }) }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { message, kind = 'bot_notice' } = request.body;
      const queued = await deps.admins.notify(message, kind);
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'admins_notified',
        objectType: 'bot',
        objectId: null,
        after: { kind, queued },
      });
      return { ok: true as const, queued };
    },
  );

  app.post(
    '/api/bot/update_balance',
    {
      config: { roles: ['bot'] },
      schema: {
        tags: ['Bot'],
        summary: 'Send the balance',
        description: 'Into the chat, in the user’s language; the answer has it, too.',
        body: Who,
        response: {
          200: Type.Object({ ok: Queued, balance: BalanceSchema }),
          ...problemResponses(401, 403, 404),
        },
      },
    },
    async (request) => {
      const { telegram_id: telegramId } = request.body;
      const user = await userOf(telegramId);
      const balance = balanceJson(await readProviderBalance(pool, user.id));
      const text = textIn(user.language, 'balance-short', {
        available: balance.available,
        pending: balance.pending,
      });
      return { ok: say(telegramId, 'balance', text), balance };
    },
  );

  app.post(
    '/api/bot/live_traffic',
    {
      config: { roles: ['bot'] },
      schema: {
        tags: ['Bot'],
        summary: 'Send the live traffic',
        description:
          'Bytes and earnings of the sessions that run, and why a device earns or not, into the chat; the answer ' +
          'has them, too.',
        body: Who,
        response: {
          200: Type.Object({
            ok: Queued,
            sessions: Type.Integer(),
            bytes: Bytes,
            earned: Money,
            devices: Type.Array(DeviceSchema),
          }),
          ...problemResponses(401, 403, 404),
        },
      },
    },
    async (request) => {
      const { telegram_id: telegramId } = request.body;
      const user = await userOf(telegramId);
      const [{ rows }, devices] = await Promise.all([
        pool.query<{ sessions: number; bytes: bigint; earned_micros: bigint }>(
          `SELECT count(*)::int AS sessions, coalesce(sum(bytes_up + bytes_down), 0)::bigint AS bytes,
                  coalesce(sum(earned_micros), 0)::bigint AS earned_micros
             FROM traffic_sessions WHERE user_id = $1 AND status = 'active'`,
          [user.id],
        ),
        deps.rules.read().then((rules) => readDevices(deps, user, rules)),
      ]);
      const {
        sessions,
        bytes,
        earned_micros: earnedMicros,
      } = rows[0] ?? {
        sessions: 0,
        bytes: 0n,
        earned_micros: 0n,
      };
      const earned = formatMicros(earnedMicros);
      const states = [...new Set(devices.map(({ state }) => state.what))].join('\n');
      const text = textIn(user.language, 'live-short', {
        megabytes: megabytes(bytes),
        earned,
        state: states,
      }).trim();
      return {
        ok: say(telegramId, 'live_traffic', text),
        sessions,
        bytes: jsonBytes(bytes),
        earned,
        devices,
      };
    },
  );
};
