import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { limitBy } from '../http/rate-limit.js';
import { actorOf } from '../http/roles.js';
import { pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { notify } from '../inbox/inbox.js';
import { putNotices } from '../notices/notices.js';
import { findUser, type Language } from '../users/users.js';
import {
  continueThread,
  listThreads,
  type Message,
  OPEN_THREADS_MAX,
  openThread,
  readThread,
  replyToThread,
  type Thread,
} from './threads.js';

export interface SupportDeps {
  pool: pg.Pool;
}

/** Messages of one user in an hour; above it 429. */
const MESSAGES_PER_HOUR = 60;
const HOUR_MS = 3_600_000;

const Text = Type.String({ minLength: 1, maxLength: 4_000 });
const Status = Type.Enum(['open', 'answered', 'closed']);
const Params = Type.Object({ id: Uuid }, { additionalProperties: false });
const ThreadSchema = Type.Object({
  id: Uuid,
  user_id: Uuid,
  subject: Type.String(),
  status: Type.Enum(['open', 'answered', 'closed'], { description: 'open: waits for an answer' }),
  messages: Type.Integer({ description: 'how many there are' }),
  last_message: Type.String(),
  created_at: Timestamp,
  updated_at: Timestamp,
});
const ThreadDetail = Type.Object({
  ...ThreadSchema.properties,
  items: Type.Array(
    Type.Object({
      id: Type.String(),
      author: Type.Enum(['user', 'admin']),
      body: Type.String(),
      created_at: Timestamp,
    }),
    { description: 'the messages, oldest first' },
  ),
});

const threadJson = (t: Thread): Static<typeof ThreadSchema> => ({
  id: t.id,
  user_id: t.user_id,
  subject: t.subject,
  status: t.status,
  messages: t.messages,
  last_message: t.last_message,
  created_at: t.created_at.toISOString(),
  updated_at: t.updated_at.toISOString(),
});
const detailJson = (found: { thread: Thread; messages: Message[] }): Static<typeof ThreadDetail> => ({
  ...threadJson(found.thread),
  items: found.messages.map((m) => ({
    id: m.id.toString(),
    author: m.author,
    body: m.body,
    created_at: m.created_at.toISOString(),
  })),
});

const TITLES: Record<Language, string> = {
  en: 'Support answered',
  ru: 'Ответ поддержки',
  uz: 'Yordam xizmati javobi',
};

/** Support threads: `/api/support`, `/api/admin/support`. */
export const supportPlugin: FastifyPluginAsyncTypebox<SupportDeps> = async (app, { pool }) => {
  async function detail(threadId: string) {
    const found = await readThread(pool, threadId);
    if (found === null) throw new Problem('not_found');
    return detailJson(found);
  }

  app.post(
    '/api/support',
    {
      config: { roles: ['user'], idempotency: {} },
      preHandler: limitBy(app, {
        name: 'support',
        max: MESSAGES_PER_HOUR,
        windowMs: HOUR_MS,
        key: (request) => actorOf(request, 'user').userId,
      }),
      schema: {
        tags: ['User'],
        summary: 'Write to support',
        description:
          `A new thread, or with \`thread_id\` a further message in one of mine. At most ${OPEN_THREADS_MAX} threads that ` +
          'are not closed. A banned user may write, too.',
        body: Type.Object(
          {
            message: Text,
            subject: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
            thread_id: Type.Optional(Uuid),
          },
          { additionalProperties: false, examples: [{ subject: 'Payout', message: 'Where is it?' }] },
        ),
        response: { 201: ThreadDetail, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request, reply) => {
      const { userId } = actorOf(request, 'user');
      const { message, thread_id: threadId } = request.body;
      const subject = request.body.subject ?? message.slice(0, 80);
      const id = await withTransaction(pool, async (client) => {
        if (threadId !== undefined) {
          const added = await continueThread(client, threadId, userId, message);
          if (!added.ok) throw new Problem(added.code);
        }
        const open = threadId ?? (await openThread(client, userId, { subject, message }));
        if (open === null) throw new Problem('too_many_threads', `At most ${OPEN_THREADS_MAX}.`);
        await recordAudit(client, {
          ...auditContext(request),
          action: threadId === undefined ? 'support_opened' : 'support_continued',
          objectType: 'support_thread',
          objectId: open,
        });
        return open;
      });
      return reply.code(201).send(await detail(id));
    },
  );

  app.get(
    '/api/support',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'My support threads',
        description: 'Those with the latest message first.',
        querystring: Type.Object(
          { status: Type.Optional(Status), ...pageQuery },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(ThreadSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const page = await listThreads(pool, { userId, status: request.query.status }, request.query);
      return { items: page.rows.map(threadJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/support/:id',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'One support thread of mine',
        description: 'With its messages.',
        params: Params,
        response: { 200: ThreadDetail, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const thread = await detail(request.params.id);
      if (thread.user_id !== userId) throw new Problem('forbidden');
      return thread;
    },
  );

  app.get(
    '/api/admin/support',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Support threads',
        description: 'Those with the latest message first; `status=open` are those that wait for an answer.',
        querystring: Type.Object(
          { status: Type.Optional(Status), user_id: Type.Optional(Uuid), ...pageQuery },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(ThreadSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { status, user_id: userId } = request.query;
      const page = await listThreads(pool, { userId, status }, request.query);
      return { items: page.rows.map(threadJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/support/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One support thread',
        description: 'With its messages.',
        params: Params,
        response: { 200: ThreadDetail, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => detail(request.params.id),
  );

  app.post(
    '/api/admin/support/:id/reply',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Answer a support thread',
        description:
          'The answer goes into the user’s inbox and through the bot. With `close` the thread ends.',
        params: Params,
        body: Type.Object(
          { message: Text, close: Type.Optional(Type.Boolean()) },
          { additionalProperties: false, examples: [{ message: 'It was paid today.' }] },
        ),
        response: { 201: ThreadDetail, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request, reply) => {
      const { userId: adminId } = actorOf(request, 'admin');
      const { id } = request.params;
      const { message, close = false } = request.body;
      await withTransaction(pool, async (client) => {
        const added = await replyToThread(client, id, { adminId, body: message, close });
        if (!added.ok) throw new Problem(added.code);
        const owner = await findUser(client, added.userId);
        const title = `${TITLES[owner?.language ?? 'en']}: ${added.subject}`;
        await notify(client, { userId: added.userId, kind: 'support_reply', title, body: message });
        const { userId, subject, messageId } = added;
        const content = { kind: 'support_reply' as const, threadId: id, subject, message, closed: close };
        await putNotices(client, [{ userId, key: messageId.toString(), content }]);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'support_replied',
          objectType: 'support_thread',
          objectId: id,
          after: { close },
        });
      });
      return reply.code(201).send(await detail(id));
    },
  );
};
