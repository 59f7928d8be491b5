import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { clientAddress } from '../http/client-address.js';
import { actorOf } from '../http/roles.js';
import { Nullable, problemResponses, TelegramId, Timestamp, Uuid } from '../http/schemas.js';
import { findUser, findUserByTelegramId } from '../users/users.js';
import { type AdminTokenSettings, lockFirstAdmin, makeAdmin, signInAdmin } from './admin-access.js';
import { AdminTokenSchema, LoginWidgetBody } from './schemas.js';
import { secretsEqual } from './secrets.js';
import type { TelegramSignIn } from './telegram-sign-in.js';

export interface AdminAuthDeps {
  pool: pg.Pool;
  clock: Clock;
  telegramSignIn: TelegramSignIn;
  adminIpAllowed: (ip: string) => boolean;
  settings: AdminTokenSettings & { bootstrapSecret: string | null };
}

/** Signing in as an admin: `/api/admin/auth/*` and the first admin. */
export const adminAuthPlugin: FastifyPluginAsyncTypebox<AdminAuthDeps> = async (app, deps) => {
  const { pool, clock, settings } = deps;

  async function signIn(
    client: Queryable,
    request: Parameters<typeof auditContext>[0],
    userId: string,
    action: 'admin_login' | 'superadmin_created',
  ) {
    const { ip, requestId } = auditContext(request);
    const userAgent = request.headers['user-agent'] ?? null;
    return signInAdmin(
      client,
      settings,
      { userId, ip, userAgent, audit: { action, requestId } },
      clock.nowMs(),
    );
  }

  app.post(
    '/api/admin/auth/login',
    {
      config: { roles: ['none'], rateLimit: { max: 30, timeWindow: 60_000 } },
      schema: {
        tags: ['Admin'],
        summary: 'Sign in as an admin',
        description: "The Login Widget's fields of a Telegram account that is an admin.",
        body: LoginWidgetBody,
        response: { 200: AdminTokenSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const telegramId = deps.telegramSignIn.identify(request.body);
      const user = await findUserByTelegramId(pool, telegramId);
      const from = clientAddress(request);
      const refusal =
        // An account that was linked to an admin's opens what is theirs as a provider, not the console.
        user?.telegram_id !== BigInt(telegramId) || !user.is_admin || user.status !== 'active'
          ? 'forbidden'
          : deps.adminIpAllowed(from)
            ? null
            : 'ip_not_allowed';
      if (refusal !== null || user === null) {
        await recordAudit(pool, {
          ...auditContext(request),
          action: 'admin_login_refused',
          objectType: 'user',
          objectId: user?.id ?? null,
          after: { telegram_id: telegramId, code: refusal },
        });
        throw new Problem(refusal ?? 'forbidden');
      }
      return withTransaction(pool, (client) => signIn(client, request, user.id, 'admin_login'));
    },
  );

  app.get(
    '/api/admin/auth/me',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Who am I',
        description: 'The admin the token belongs to.',
        response: {
          200: Type.Object({
            id: Uuid,
            telegram_id: Nullable(TelegramId),
            username: Nullable(Type.String()),
            role: Type.Literal('admin'),
            created_at: Timestamp,
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const user = await findUser(pool, userId);
      if (user === null) throw new Problem('invalid_token');
      return {
        id: user.id,
        telegram_id: user.telegram_id === null ? null : Number(user.telegram_id),
        username: user.username,
        role: 'admin' as const,
        created_at: user.created_at.toISOString(),
      };
    },
  );

  app.post(
    '/api/admin/create_superadmin',
    {
      config: { roles: ['none'], rateLimit: { max: 10, timeWindow: 60_000 } },
      schema: {
        tags: ['Admin'],
        summary: 'Make the first admin',
        description:
          'Once, while there is no admin. `secret` is TS_BOOTSTRAP_SECRET; it may also come in X-Bootstrap-Secret.',
        headers: Type.Object({ 'x-bootstrap-secret': Type.Optional(Type.String()) }),
        body: Type.Object(
          {
            telegram_id: TelegramId,
            username: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
            secret: Type.Optional(Type.String({ maxLength: 400 })),
          },
          {
            additionalProperties: false,
            examples: [{ telegram_id: 4_217_338, secret: 'the bootstrap secret of this server' }],
          },
        ),
        response: { 201: AdminTokenSchema, ...problemResponses(401, 403, 409) },
      },
    },
    async (request, reply) => {
      const given = request.body.secret ?? request.headers['x-bootstrap-secret'];
      const secret = settings.bootstrapSecret;
      if (secret === null || given === undefined || !secretsEqual(given, secret))
        throw new Problem('invalid_secret');
      const { telegram_id: telegramId, username } = request.body;
      const answer = await withTransaction(pool, async (client) => {
        if (!(await lockFirstAdmin(client))) throw new Problem('superadmin_exists');
        const made = await makeAdmin(client, { telegramId, username });
        if (!made.ok) throw new Problem('forbidden', 'This account can not be an admin.');
        return signIn(client, request, made.userId, 'superadmin_created');
      });
      return reply.code(201).send(answer);
    },
  );
};
