import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Nullable, Ok, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { findUser, LANGUAGES } from '../users/users.js';
import { changeNews, createNews, findNews, listNews, type NewsRow, removeNews } from './news.js';

const Text = Type.Object(
  {
    title: Type.String({ minLength: 1, maxLength: 200 }),
    body: Type.String({ minLength: 1, maxLength: 4_000 }),
  },
  { additionalProperties: false },
);
const Texts = Type.Object({ uz: Text, ru: Text, en: Text }, { additionalProperties: false });
const SomeTexts = Type.Object(
  { uz: Type.Optional(Text), ru: Type.Optional(Text), en: Type.Optional(Text) },
  { additionalProperties: false, minProperties: 1 },
);
const LanguageSchema = Type.Enum([...LANGUAGES]);

const NewsSchema = Type.Object({
  id: Uuid,
  texts: Texts,
  publish_at: Timestamp,
  expires_at: Nullable(Timestamp),
  created_at: Timestamp,
  updated_at: Timestamp,
});
const Params = Type.Object({ id: Uuid }, { additionalProperties: false });
const example = { title: 'Hello', body: 'A new version is out.' };

function newsJson(row: NewsRow): Static<typeof NewsSchema> {
  return {
    id: row.id,
    texts: row.texts,
    publish_at: row.publish_at.toISOString(),
    expires_at: row.expires_at?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

/** One announcement in one language. */
export const NewsItemSchema = Type.Object({
  id: Uuid,
  language: LanguageSchema,
  title: Type.String(),
  body: Type.String(),
  published_at: Timestamp,
});

/** The announcement in this language. */
export const newsItemJson = (
  row: NewsRow,
  language: Static<typeof LanguageSchema>,
): Static<typeof NewsItemSchema> => ({
  id: row.id,
  language,
  ...row.texts[language],
  published_at: row.publish_at.toISOString(),
});

/** Announcements: `/api/news` for everyone, `/api/admin/news`. */
export const newsPlugin: FastifyPluginAsyncTypebox<{ pool: pg.Pool }> = async (app, { pool }) => {
  app.get(
    '/api/news',
    {
      config: { roles: ['none', 'user', 'device', 'buyer', 'admin', 'bot', 'internal'] },
      schema: {
        tags: ['User'],
        summary: 'News',
        description:
          'Announcements shown now, latest first, in `language`; without it in that of the user who asks, else ' +
          'in English.',
        querystring: Type.Object(
          { language: Type.Optional(LanguageSchema), ...pageQuery },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(NewsItemSchema), ...problemResponses(401) },
      },
    },
    async (request) => {
      const { actor } = request;
      const user = 'userId' in actor && !request.query.language ? await findUser(pool, actor.userId) : null;
      const language = request.query.language ?? user?.language ?? 'en';
      const page = await listNews(pool, true, request.query);
      return { items: page.rows.map((row) => newsItemJson(row, language)), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/news',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'All news',
        description: 'Those of the future and those that have expired as well, in every language.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(NewsSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listNews(pool, false, request.query);
      return { items: page.rows.map(newsJson), next_cursor: page.nextCursor };
    },
  );

  app.post(
    '/api/admin/news',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Announce something',
        description: 'In all three languages; shown from `publish_at` (left out: now) until `expires_at`.',
        body: Type.Object(
          {
            texts: Texts,
            publish_at: Type.Optional(Timestamp),
            expires_at: Type.Optional(Nullable(Timestamp)),
          },
          { additionalProperties: false, examples: [{ texts: { uz: example, ru: example, en: example } }] },
        ),
        response: { 201: NewsSchema, ...problemResponses(401, 403, 409) },
      },
    },
    async (request, reply) => {
      const { userId } = actorOf(request, 'admin');
      const { texts, publish_at: publishAt = null, expires_at: expiresAt = null } = request.body;
      const row = await withTransaction(pool, async (client) => {
        const made = await createNews(client, { texts, publishAt, expiresAt }, userId);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'news_created',
          objectType: 'news',
          objectId: made.id,
          after: request.body,
        });
        return made;
      });
      return reply.code(201).send(newsJson(row));
    },
  );

  app.get(
    '/api/admin/news/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One announcement',
        description: 'In every language.',
        params: Params,
        response: { 200: NewsSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const row = await findNews(pool, request.params.id);
      if (row === null) throw new Problem('not_found');
      return newsJson(row);
    },
  );

  app.patch(
    '/api/admin/news/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Change an announcement',
        description: 'Only what is given changes; of `texts`, only the languages given.',
        params: Params,
        body: Type.Object(
          {
            texts: Type.Optional(SomeTexts),
            publish_at: Type.Optional(Timestamp),
            expires_at: Type.Optional(Nullable(Timestamp)),
          },
          { additionalProperties: false, minProperties: 1, examples: [{ texts: { en: example } }] },
        ),
        response: { 200: NewsSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { texts, publish_at: publishAt, expires_at: expiresAt } = request.body;
      const row = await withTransaction(pool, async (client) => {
        const before = await findNews(client, request.params.id, true);
        const after = await changeNews(client, request.params.id, {
          ...(texts && { texts }),
          ...(publishAt !== undefined && { publishAt }),
          ...(expiresAt !== undefined && { expiresAt }),
        });
        if (before === null || after === null) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'news_changed',
          objectType: 'news',
          objectId: after.id,
          before: newsJson(before),
          after: request.body,
        });
        return after;
      });
      return newsJson(row);
    },
  );

  app.delete(
    '/api/admin/news/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Take an announcement back',
        description: 'It is gone; the audit log keeps what it said.',
        params: Params,
        response: { 200: Ok, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { id } = request.params;
      await withTransaction(pool, async (client) => {
        const before = await findNews(client, id, true);
        if (before === null || !(await removeNews(client, id))) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'news_removed',
          objectType: 'news',
          objectId: id,
          before: newsJson(before),
        });
      });
      return { ok: true as const };
    },
  );
};
