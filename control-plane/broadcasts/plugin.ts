import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Nullable, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import {
  type Broadcast,
  type Counters,
  cancelBroadcast,
  countRecipients,
  createBroadcast,
  listBroadcasts,
  listRecipients,
  RECIPIENT_STATES,
  readBroadcast,
  settleUnknown,
  startBroadcast,
} from './broadcasts.js';
import { TARGET_DESCRIPTION, TARGET_PATTERN } from './targets.js';

const Params = Type.Object({ id: Uuid }, { additionalProperties: false });
const State = Type.Enum([...RECIPIENT_STATES]);

const BroadcastSchema = Type.Object({
  id: Uuid,
  target: Type.String(),
  message: Type.String(),
  status: Type.Enum(['draft', 'sending', 'done', 'cancelled']),
  recipients: Type.Integer(),
  counters: Type.Object(
    Object.fromEntries(RECIPIENT_STATES.map((state) => [state, Type.Integer()])) as Record<
      keyof Counters,
      ReturnType<typeof Type.Integer>
    >,
    {
      description:
        'recipients in each state; `unknown` may have it or not: have it sent to them again, or leave them (`given_up`)',
    },
  ),
  created_by: Nullable(Uuid),
  created_at: Timestamp,
  started_at: Nullable(Timestamp),
  ended_at: Nullable(Timestamp),
});

const Body = Type.Object(
  {
    target: Type.String({ pattern: TARGET_PATTERN, description: TARGET_DESCRIPTION }),
    message: Type.String({ minLength: 1, maxLength: 4_096, description: 'plain text' }),
  },
  { additionalProperties: false, examples: [{ target: 'region:US', message: 'A new version is out.' }] },
);

function broadcastJson(b: Broadcast, counters: Counters): Static<typeof BroadcastSchema> {
  return {
    id: b.id,
    target: b.target,
    message: b.message,
    status: b.status,
    recipients: Object.values(counters).reduce((sum, n) => sum + n, 0),
    counters,
    created_by: b.created_by,
    created_at: b.created_at.toISOString(),
    started_at: b.started_at?.toISOString() ?? null,
    ended_at: b.ended_at?.toISOString() ?? null,
  };
}

/** Messages to many: `/api/admin/broadcasts`, `/api/admin/notify`. Sent by `sender.ts`, in the background. */
export const broadcastsPlugin: FastifyPluginAsyncTypebox<{ pool: pg.Pool }> = async (app, { pool }) => {
  async function answer(id: string) {
    const broadcast = await readBroadcast(pool, id);
    const counters = (await countRecipients(pool, [id])).get(id);
    if (broadcast === null || counters === undefined) throw new Problem('not_found');
    return broadcastJson(broadcast, counters);
  }

  const audit = (client: Queryable, request: FastifyRequest, action: string, id: string, after: object) =>
    recordAudit(client, { ...auditContext(request), action, objectType: 'broadcast', objectId: id, after });

  /** Makes a draft; its id. */
  async function create(client: Queryable, request: FastifyRequest, body: Static<typeof Body>) {
    const { userId: adminId } = actorOf(request, 'admin');
    const { id } = await createBroadcast(client, { ...body, adminId });
    await audit(client, request, 'broadcast_created', id, body);
    return id;
  }

  async function start(client: Queryable, request: FastifyRequest, id: string) {
    const started = await startBroadcast(client, id);
    if (!started.ok) throw new Problem(started.code);
    await audit(client, request, 'broadcast_started', id, { recipients: started.recipients });
  }

  app.post(
    '/api/admin/broadcasts',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Draft a broadcast',
        description: 'Nothing is sent before it is started.',
        body: Body,
        response: { 201: BroadcastSchema, ...problemResponses(401, 403, 409) },
      },
    },
    async (request, reply) => {
      const id = await withTransaction(pool, (client) => create(client, request, request.body));
      return reply.code(201).send(await answer(id));
    },
  );

  app.post(
    '/api/admin/notify',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Send a message to many',
        description:
          'A broadcast that is started at once: into the inboxes now, and through the bot at 25 messages a second. ' +
          'Users who turned notifications off get none; those who blocked the bot are passed over for 30 days.',
        body: Body,
        response: { 201: BroadcastSchema, ...problemResponses(401, 403, 409) },
      },
    },
    async (request, reply) => {
      const id = await withTransaction(pool, async (client) => {
        const made = await create(client, request, request.body);
        await start(client, request, made);
        return made;
      });
      return reply.code(201).send(await answer(id));
    },
  );

  app.get(
    '/api/admin/broadcasts',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Broadcasts',
        description: 'Newest first, with their counters.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(BroadcastSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listBroadcasts(pool, request.query);
      const counters = await countRecipients(
        pool,
        page.rows.map((row) => row.id),
      );
      return {
        items: page.rows.map((row) => broadcastJson(row, counters.get(row.id) as Counters)),
        next_cursor: page.nextCursor,
      };
    },
  );

  app.get(
    '/api/admin/broadcasts/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One broadcast',
        description: 'With how many recipients are in each state.',
        params: Params,
        response: { 200: BroadcastSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => answer(request.params.id),
  );

  app.get(
    '/api/admin/broadcasts/:id/recipients',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Recipients of a broadcast',
        description: 'Each with its state.',
        params: Params,
        querystring: Type.Object(
          { state: Type.Optional(State), ...pageQuery },
          { additionalProperties: false },
        ),
        response: {
          200: pageOf(
            Type.Object({
              user_id: Uuid,
              state: State,
              claimed_at: Nullable(Timestamp),
              ended_at: Nullable(Timestamp),
            }),
          ),
          ...problemResponses(401, 403, 404),
        },
      },
    },
    async (request) => {
      const { id } = request.params;
      if ((await readBroadcast(pool, id)) === null) throw new Problem('not_found');
      const page = await listRecipients(pool, id, { state: request.query.state }, request.query);
      return {
        items: page.rows.map((row) => ({
          user_id: row.user_id,
          state: row.state,
          claimed_at: row.claimed_at?.toISOString() ?? null,
          ended_at: row.ended_at?.toISOString() ?? null,
        })),
        next_cursor: page.nextCursor,
      };
    },
  );

  app.post(
    '/api/admin/broadcasts/:id/start',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Start a broadcast',
        description:
          'Writes down who gets it, puts it into their inboxes, and sends it at 25 messages a second; after a crash ' +
          'it goes on where it was. Nobody is sent it twice: whose call to Telegram was under way in a crash, or was not ' +
          'answered, is `unknown` until an admin decides (`…/unknown`). The Bot API can not be asked whether it sent ' +
          'something.',
        params: Params,
        response: { 200: BroadcastSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      await withTransaction(pool, (client) => start(client, request, id));
      return answer(id);
    },
  );

  app.post(
    '/api/admin/broadcasts/:id/cancel',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Cancel a broadcast',
        description:
          'Whoever has not been sent it does not get it; calls to Telegram that have begun are ended.',
        params: Params,
        response: { 200: BroadcastSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      await withTransaction(pool, async (client) => {
        const cancelled = await cancelBroadcast(client, id);
        if (!cancelled.ok) throw new Problem(cancelled.code);
        await audit(client, request, 'broadcast_cancelled', id, { recipients: cancelled.recipients });
      });
      return answer(id);
    },
  );

  app.post(
    '/api/admin/broadcasts/:id/unknown',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Decide on recipients of unknown outcome',
        description:
          'All who are `unknown`: `send_again` sends it to them once more, so that everybody has it once at least and some ' +
          'may have it twice; `leave` gives them up. A broadcast that was cancelled sends nothing any more. Repeating it ' +
          'is harmless.',
        params: Params,
        body: Type.Object(
          { decision: Type.Enum(['send_again', 'leave']) },
          { additionalProperties: false, examples: [{ decision: 'send_again' }] },
        ),
        response: { 200: BroadcastSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      const { decision } = request.body;
      await withTransaction(pool, async (client) => {
        const settled = await settleUnknown(client, id, decision);
        if (!settled.ok) throw new Problem(settled.code);
        const { recipients } = settled;
        await audit(client, request, 'broadcast_unknown_settled', id, { decision, recipients });
      });
      return answer(id);
    },
  );
};
