import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { actorOf } from '../http/roles.js';
import { Nullable, pageOf, pageQuery, problemResponses, Timestamp } from '../http/schemas.js';
import { countUnread, markRead, readInbox } from './inbox.js';

const Id = Type.String({ pattern: '^[1-9][0-9]{0,17}$' });
/** Ids in one call; `all` is for more. */
const IDS_MAX = 200;

/** The in-app inbox. */
export const inboxPlugin: FastifyPluginAsyncTypebox<{ pool: pg.Pool }> = async (app, { pool }) => {
  app.get(
    '/api/notifications',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'My inbox',
        description: 'Newest first, with how many are unread in all.',
        querystring: Type.Object(
          {
            unread: Type.Optional(Type.Boolean({ description: 'only those' })),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            ...pageOf(
              Type.Object({
                id: Id,
                kind: Type.String(),
                title: Type.String(),
                body: Type.String(),
                created_at: Timestamp,
                read_at: Nullable(Timestamp),
              }),
            ).properties,
            unread: Type.Integer(),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const { unread = false, ...page } = request.query;
      const [inbox, count] = await Promise.all([
        readInbox(pool, userId, { unread, ...page }),
        countUnread(pool, userId),
      ]);
      return {
        items: inbox.rows.map((row) => ({
          id: row.id.toString(),
          kind: row.kind,
          title: row.title,
          body: row.body,
          created_at: row.created_at.toISOString(),
          read_at: row.read_at?.toISOString() ?? null,
        })),
        next_cursor: inbox.nextCursor,
        unread: count,
      };
    },
  );

  app.post(
    '/api/notifications/read',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Mark as read',
        description: 'Some by their ids, or all. Ids that are not mine are passed over.',
        body: Type.Union([
          Type.Object(
            { ids: Type.Array(Id, { minItems: 1, maxItems: IDS_MAX }) },
            { additionalProperties: false },
          ),
          Type.Object({ all: Type.Literal(true) }, { additionalProperties: false }),
        ]),
        response: {
          200: Type.Object({
            ok: Type.Literal(true),
            marked: Type.Integer(),
            unread: Type.Integer({ description: 'left' }),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const marked = await markRead(pool, userId, 'ids' in request.body ? request.body.ids : 'all');
      return { ok: true as const, marked, unread: await countUnread(pool, userId) };
    },
  );
};
