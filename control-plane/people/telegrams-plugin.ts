import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { pageOfAll } from '../http/pagination.js';
import { actorOf } from '../http/roles.js';
import {
  Nullable,
  pageOf,
  pageQuery,
  problemResponses,
  TelegramId,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import { findUser } from '../users/users.js';
import { telegramJson } from './admin-plugin.js';
import { listPeople } from './people.js';
import { TelegramAccountSchema, UserSchema } from './schemas.js';
import {
  confirmLink,
  createLinkToken,
  LINK_TTL_S,
  readTelegrams,
  readTelegramsOf,
  START_PREFIX,
  TELEGRAMS_MAX,
  unlinkTelegrams,
} from './telegrams.js';

export interface TelegramsDeps {
  pool: pg.Pool;
  /** Name of the bot without @; null: links can not be made into addresses. */
  botUsername: string | null;
}

const Accounts = Type.Object({ items: Type.Array(TelegramAccountSchema) });
const Index = Type.Integer({ minimum: 0, maximum: 1_000_000 });

/** Several Telegram accounts on one user. */
export const telegramsPlugin: FastifyPluginAsyncTypebox<TelegramsDeps> = async (app, deps) => {
  const { pool } = deps;
  const accounts = async (userId: string) => ({
    items: (await readTelegrams(pool, userId)).map(telegramJson),
  });

  async function unlink(request: FastifyRequest, userId: string, which: number | 'all_but_last') {
    await withTransaction(pool, async (client) => {
      const result = await unlinkTelegrams(client, userId, which);
      if (!result.ok) throw new Problem(result.code);
      if (result.removed.length > 0)
        await recordAudit(client, {
          ...auditContext(request),
          action: 'telegram_unlinked',
          objectType: 'user',
          objectId: userId,
          before: { telegram_ids: result.removed.map((account) => account.telegramId) },
        });
    });
    return accounts(userId);
  }

  app.get(
    '/api/user/telegrams',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'My Telegram accounts',
        description: 'In the order they were linked. Each of them signs me in; messages go to the main one.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(TelegramAccountSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => pageOfAll((await accounts(actorOf(request, 'user').userId)).items, request.query),
  );

  app.post(
    '/api/user/telegrams/link',
    {
      config: {
        roles: ['user'],
        rateLimit: { max: 20, timeWindow: 60_000 },
        idempotency: { omit: ['token', 'start', 'url'] },
      },
      schema: {
        tags: ['User'],
        summary: 'Link a Telegram account',
        description:
          `Open \`url\` in the other Telegram account and press Start: the bot confirms it. One use, good for ${LINK_TTL_S / 60} ` +
          `minutes. At most ${TELEGRAMS_MAX} accounts; an account that belongs to another user is refused there.`,
        response: {
          200: Type.Object({
            token: Nullable(
              Type.String({ description: 'shown once: null in a replay, as what is made of it' }),
            ),
            start: Nullable(Type.String({ description: 'start parameter for the bot' })),
            url: Type.Union([Type.String(), Type.Null()], {
              description: 'deep link; null also while no bot name is configured',
            }),
            expires_in: Type.Integer({ description: 'seconds' }),
          }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const user = await findUser(pool, userId);
      if (user?.status !== 'active') throw new Problem('banned');
      if (user.is_admin) throw new Problem('is_admin', 'An admin has one Telegram account.');
      const token = await withTransaction(pool, async (client) => {
        if ((await readTelegrams(client, userId)).length >= TELEGRAMS_MAX)
          throw new Problem('too_many_telegrams', `At most ${TELEGRAMS_MAX}.`);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'telegram_link_created',
          objectType: 'user',
          objectId: userId,
        });
        return createLinkToken(client, userId);
      });
      const start = `${START_PREFIX}${token}`;
      return {
        token,
        start,
        url: deps.botUsername === null ? null : `https://t.me/${deps.botUsername}?start=${start}`,
        expires_in: LINK_TTL_S,
      };
    },
  );

  app.delete(
    '/api/user/telegrams/:index',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Unlink a Telegram account',
        description:
          'By its `index`. The last one can not be unlinked. Logins stay: revoke them where that matters.',
        params: Type.Object({ index: Index }, { additionalProperties: false }),
        response: { 200: Accounts, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => unlink(request, actorOf(request, 'user').userId, request.params.index),
  );

  app.delete(
    '/api/user/telegrams',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Unlink all but the last',
        description: 'The one linked last stays, and is the main one then. Repeating it is harmless.',
        response: { 200: Accounts, ...problemResponses(401, 403, 409) },
      },
    },
    async (request) => unlink(request, actorOf(request, 'user').userId, 'all_but_last'),
  );

  app.post(
    '/api/bot/confirm_link',
    {
      config: { roles: ['bot'] },
      schema: {
        tags: ['Bot'],
        summary: 'Confirm a link',
        description:
          'The bot was started with a link token by this Telegram account: it becomes one of the user’s who made ' +
          'the link. Of an account that is theirs already nothing changes.',
        body: Type.Object(
          {
            token: Type.String({
              pattern: `^(${START_PREFIX})?[A-Za-z0-9_-]{20,100}$`,
              description: 'with or without `link_`',
            }),
            telegram_id: TelegramId,
            username: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
          },
          {
            additionalProperties: false,
            examples: [
              { token: `${START_PREFIX}q7Zr2mXc9vLk4tWb8nYp3s`, telegram_id: 4_217_339, username: 'ann_two' },
            ],
          },
        ),
        response: {
          200: Type.Object({ ok: Type.Literal(true), user_id: Uuid, index: Type.Integer() }),
          ...problemResponses(401, 403, 409, 422),
        },
      },
    },
    async (request) => {
      const { telegram_id: telegramId, username = null } = request.body;
      const token = request.body.token.replace(new RegExp(`^${START_PREFIX}`), '');
      const linked = await withTransaction(pool, async (client) => {
        const result = await confirmLink(client, token, { telegramId, username });
        if (!result.ok) throw new Problem(result.code);
        if (result.fresh)
          await recordAudit(client, {
            ...auditContext(request),
            action: 'telegram_linked',
            objectType: 'user',
            objectId: result.userId,
            after: { telegram_id: telegramId },
          });
        return result;
      });
      return { ok: true as const, user_id: linked.userId, index: linked.index };
    },
  );

  app.get(
    '/api/admin/users-with-telegrams',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Users with their Telegram accounts',
        description: 'Newest first; `query` as at /api/admin/users.',
        querystring: Type.Object(
          { query: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })), ...pageQuery },
          { additionalProperties: false },
        ),
        response: {
          200: pageOf(
            Type.Object({
              id: Uuid,
              username: UserSchema.properties.username,
              status: UserSchema.properties.status,
              created_at: Timestamp,
              telegrams: Type.Array(TelegramAccountSchema),
            }),
          ),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const page = await listPeople(
        pool,
        { query: request.query.query },
        { ...request.query, sort: '-created_at' },
      );
      const telegrams = await readTelegramsOf(
        pool,
        page.rows.map((person) => person.id),
      );
      return {
        items: page.rows.map((person) => ({
          id: person.id,
          username: person.username,
          status: person.status,
          created_at: person.created_at.toISOString(),
          telegrams: (telegrams.get(person.id) ?? []).map(telegramJson),
        })),
        next_cursor: page.nextCursor,
      };
    },
  );

  app.delete(
    '/api/admin/users/:id/telegrams/:index',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Unlink a Telegram account of a user',
        description: 'By its `index`. The last one can not be unlinked.',
        params: Type.Object({ id: Uuid, index: Index }, { additionalProperties: false }),
        response: { 200: Accounts, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => unlink(request, request.params.id, request.params.index),
  );
};
