import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { clientAddress } from '../http/client-address.js';
import { limitBy } from '../http/rate-limit.js';
import { actorOf } from '../http/roles.js';
import { Ok, optionalBody, problemResponses, Uuid } from '../http/schemas.js';
import type { LoginCodeSender } from '../telegram/login-code-sender.js';
import { findOrCreateUser, findReferrer, findUserByTelegramId } from '../users/users.js';
import { issueCode, tryCode } from './login-codes.js';
import {
  insertLogin,
  issuePair,
  refresh,
  revokeLogins,
  type TokenPair,
  type TokenSettings,
} from './logins.js';
import {
  InitDataBody,
  LoginWidgetBody,
  LogoutBody,
  RefreshBody,
  RegisterBody,
  TelegramIdBody,
  TokenPairSchema,
  VerifyCodeBody,
} from './schemas.js';
import type { TelegramSignIn } from './telegram-sign-in.js';

export interface AuthDeps {
  pool: pg.Pool;
  clock: Clock;
  codeSender: LoginCodeSender;
  telegramSignIn: TelegramSignIn;
  settings: TokenSettings & {
    loginCodeTtlS: number;
    codesPerIdPerHour: number;
    codeCallsPerIpPerHour: number;
    codeTriesPerIpPerHour: number;
  };
}

const HOUR_MS = 3_600_000;
/** Code tries for one Telegram id in an hour; five tries a code make brute force hopeless long before. */
const TRIES_PER_ID_PER_HOUR = 30;

/**
 * Asking for a code is answered no sooner than this, ms: a code takes a transaction that an unknown id does not, and the
 * time would tell one from the other.
 */
export const CODE_ANSWER_MS_MIN = 60;

/** What the work comes to, no sooner than CODE_ANSWER_MS_MIN from now. */
async function inEvenTime<T>(work: Promise<T>): Promise<T> {
  const [result] = await Promise.all([
    work,
    new Promise((resolve) => setTimeout(resolve, CODE_ANSWER_MS_MIN)),
  ]);
  return result;
}

/** Signing in as a provider: `/api/auth/*`. */
export const authPlugin: FastifyPluginAsyncTypebox<AuthDeps> = async (app, deps) => {
  const { pool, clock, settings, codeSender } = deps;
  const perIp = (max: number) => ({ rateLimit: { max, timeWindow: HOUR_MS } });
  // Counted by the id that is named, whether it exists or not: the answer must not tell.
  const codesPerId = limitBy(app, {
    name: 'code',
    max: settings.codesPerIdPerHour,
    windowMs: HOUR_MS,
    key: (request) => String((request.body as { telegram_id: number }).telegram_id),
  });
  const triesPerId = limitBy(app, {
    name: 'code-try',
    max: TRIES_PER_ID_PER_HOUR,
    windowMs: HOUR_MS,
    key: (request) => String((request.body as { telegram_id: number }).telegram_id),
  });

  async function sendCode(telegramId: number, user: { id: string; language: string }): Promise<void> {
    const code = await issueCode(pool, settings, user.id, clock.nowMs());
    if (code !== null)
      codeSender.send({ telegramId, code, language: user.language, ttlS: settings.loginCodeTtlS });
  }

  /** Opens a login and audits it, in one transaction. */
  async function signIn(
    request: Parameters<typeof auditContext>[0],
    userId: string,
    how: string,
  ): Promise<TokenPair> {
    return withTransaction(pool, async (client) => {
      const loginId = await insertLogin(client, {
        userId,
        ip: clientAddress(request),
        userAgent: request.headers['user-agent'] ?? null,
      });
      await recordAudit(client, {
        ...auditContext(request),
        actor: { role: 'user', userId, loginId },
        action: 'login',
        objectType: 'login',
        objectId: loginId,
        after: { how },
      });
      return issuePair(client, settings, { userId, loginId }, clock.nowMs());
    });
  }

  app.post(
    '/api/auth/register',
    {
      config: { roles: ['none'], ...perIp(settings.codeCallsPerIpPerHour) },
      preHandler: codesPerId,
      schema: {
        tags: ['Auth'],
        summary: 'Register a provider',
        description:
          'Makes an unverified user and sends a login code through the bot. The answer is the same when the ' +
          'Telegram id is registered already; nothing of the existing user changes.',
        body: RegisterBody,
        response: {
          201: Type.Object({ user_id: Uuid, message: Type.Literal('verification_sent') }),
          ...problemResponses(422),
        },
      },
    },
    async (request, reply) => {
      const { telegram_id: telegramId, phone, username, referral_code: referralCode } = request.body;
      // Looked up in either case, so that a wrong code is answered alike for known and unknown ids.
      const referredBy = referralCode === undefined ? null : await findReferrer(pool, referralCode);
      if (referralCode !== undefined && referredBy === null) throw new Problem('unknown_referral_code');
      const user = await inEvenTime(
        findOrCreateUser(pool, { telegramId, phone, username, referredBy }).then(async (found) => {
          await sendCode(telegramId, found.user);
          return found.user;
        }),
      );
      return reply.code(201).send({ user_id: user.id, message: 'verification_sent' });
    },
  );

  app.post(
    '/api/auth/request_login_code',
    {
      config: { roles: ['none'], ...perIp(settings.codeCallsPerIpPerHour) },
      preHandler: codesPerId,
      schema: {
        tags: ['Auth'],
        summary: 'Ask for a login code',
        description:
          'The bot sends it to that Telegram account, if it is registered. The answer never tells.',
        body: TelegramIdBody,
        response: { 200: Ok, ...problemResponses() },
      },
    },
    async (request) => {
      const { telegram_id: telegramId } = request.body;
      await inEvenTime(
        findUserByTelegramId(pool, telegramId).then((user) => user && sendCode(telegramId, user)),
      );
      return { ok: true as const };
    },
  );

  app.post(
    '/api/auth/verify_code',
    {
      config: { roles: ['none'], ...perIp(settings.codeTriesPerIpPerHour) },
      preHandler: triesPerId,
      schema: {
        tags: ['Auth'],
        summary: 'Sign in with a code',
        description: 'A code lives five minutes, is good once and dies after five tries.',
        body: VerifyCodeBody,
        response: { 200: TokenPairSchema, ...problemResponses(401) },
      },
    },
    async (request) => {
      const { telegram_id: telegramId, code } = request.body;
      const user = await findUserByTelegramId(pool, telegramId);
      if (!(await tryCode(pool, settings.jwtSecret, user?.id ?? null, code, clock.nowMs())) || user === null)
        throw new Problem('invalid_code');
      if (!user.is_verified)
        await pool.query('UPDATE users SET is_verified = true, updated_at = now() WHERE id = $1', [user.id]);
      return signIn(request, user.id, 'code');
    },
  );

  app.post(
    '/api/auth/refresh',
    {
      config: { roles: ['none'] },
      schema: {
        tags: ['Auth'],
        summary: 'Trade a refresh token for a new pair',
        description: 'Each refresh token is good once. Using one again revokes the whole login.',
        body: RefreshBody,
        response: { 200: TokenPairSchema, ...problemResponses(401) },
      },
    },
    async (request) => {
      const result = await refresh(pool, settings, request.body.refresh_token, clock.nowMs());
      if (result.ok) return result.pair;
      if (result.code === 'refresh_token_reused')
        await recordAudit(pool, {
          ...auditContext(request),
          action: 'refresh_token_reused',
          objectType: 'login',
          objectId: result.loginId,
        });
      throw new Problem(result.code);
    },
  );

  app.post(
    '/api/auth/logout',
    {
      config: { roles: ['user', 'admin'] },
      schema: {
        tags: ['Auth'],
        summary: 'Sign out',
        description: 'Revokes this login and its tokens at once; with `all`, every login of mine.',
        body: optionalBody(LogoutBody),
        response: { 200: Ok, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { userId, loginId } = actorOf(request, 'user', 'admin');
      const all = request.body?.all === true;
      await withTransaction(pool, async (client) => {
        if (!all && loginId === null) return; // Mini App init data has no login to revoke
        await revokeLogins(client, userId, all ? 'all' : (loginId ?? 'all'));
        await recordAudit(client, {
          ...auditContext(request),
          action: all ? 'logout_all' : 'logout',
          objectType: 'login',
          objectId: loginId,
        });
      });
      return { ok: true as const };
    },
  );

  app.post(
    '/api/auth/telegram',
    {
      config: { roles: ['none'] },
      schema: {
        tags: ['Auth'],
        summary: 'Sign in with what Telegram signed',
        description:
          "A Mini App's init data or the Login Widget's fields, at most 24 hours old. Makes the user on first " +
          'sight; the start parameter of the Mini App carries the referral code.',
        body: Type.Union([InitDataBody, LoginWidgetBody]),
        response: { 200: TokenPairSchema, ...problemResponses(401) },
      },
    },
    async (request) => {
      const { body } = request;
      const mini = 'init_data' in body;
      const { user } = mini
        ? await deps.telegramSignIn.withInitData(body.init_data)
        : await deps.telegramSignIn.withLoginWidget(body);
      return signIn(request, user.id, mini ? 'mini_app' : 'login_widget');
    },
  );
};
