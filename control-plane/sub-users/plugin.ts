import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { asCidrProblem, CidrText, normalSubUserLimits, SubUserLimits } from '../buyers/limits.js';
import { type ProxyAddress, ProxySchema, proxyJson } from '../buyers/schemas.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import {
  Bytes,
  jsonBytes,
  Nullable,
  Ok,
  pageOf,
  pageQuery,
  problemResponses,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import type { LiveState } from '../live-state/live-state.js';
import {
  changeSubUser,
  closeSubUser,
  createSubUser,
  listSubUsers,
  readSubUser,
  type SubUser,
  type SubUserFields,
} from './sub-users.js';

export interface SubUsersDeps {
  pool: pg.Pool;
  live: Pick<LiveState, 'accountsChanged'>;
  proxy: ProxyAddress;
  /** Sub-users one buyer may have. */
  countMax: () => Promise<number>;
}

const Params = Type.Object({ id: Uuid }, { additionalProperties: false });
const Name = Type.String({ minLength: 1, maxLength: 200 });
const BytesMax = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const AllowedIps = Type.Array(CidrText, { maxItems: 100 });
const Status = Type.Enum(['active', 'suspended']);

const SubUserSchema = Type.Object({
  id: Uuid,
  account: Type.String({ description: 'the proxy username' }),
  name: Type.String(),
  status: Type.Enum(['active', 'suspended', 'closed']),
  bytes_max: Nullable(Bytes),
  bytes_used: Bytes,
  allowed_ips: Type.Array(Type.String()),
  limits: SubUserLimits,
  created_at: Timestamp,
  updated_at: Timestamp,
});
const WithProxy = Type.Object({ ...SubUserSchema.properties, proxy: Nullable(ProxySchema) });

const subUserJson = (s: SubUser) => ({
  id: s.id,
  account: s.account,
  name: s.name,
  status: s.status,
  bytes_max: s.bytesMax === null ? null : jsonBytes(s.bytesMax),
  bytes_used: jsonBytes(s.bytesUsed),
  allowed_ips: s.allowedIps,
  limits: s.limits,
  created_at: s.createdAt.toISOString(),
  updated_at: s.updatedAt.toISOString(),
});

const bytesMaxOf = (bytes: number | null) => (bytes === null ? null : BigInt(bytes));
const asProblem = (error: unknown): never => {
  throw asCidrProblem(error);
};

/** A buyer's own proxy users: `/api/buyer/sub_users`. */
export const subUsersPlugin: FastifyPluginAsyncTypebox<SubUsersDeps> = async (app, deps) => {
  const { pool, live, proxy, countMax } = deps;

  app.post(
    '/api/buyer/sub_users',
    {
      config: { roles: ['buyer'], idempotency: { omit: ['proxy'] } },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Create a sub-user',
        description:
          'With an account and password of its own, shown once, for your money and at your price. `bytes_max` bounds ' +
          'what it relays in all; null: your balance alone does.',
        body: Type.Object(
          {
            name: Name,
            bytes_max: Type.Optional(Nullable(BytesMax)),
            allowed_ips: Type.Optional(AllowedIps),
            limits: Type.Optional(SubUserLimits),
          },
          {
            additionalProperties: false,
            examples: [
              {
                name: 'team-7',
                bytes_max: 5_000_000_000,
                limits: { bandwidth_bytes_per_second_max: 1_250_000 },
              },
            ],
          },
        ),
        response: { 201: WithProxy, ...problemResponses(401, 403, 409) },
      },
    },
    async (request, reply) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { name, bytes_max: bytesMax = null, allowed_ips: allowedIps = [] } = request.body;
      const limits = normalSubUserLimits(request.body.limits ?? {});
      const subUsersMax = await countMax();
      const made = await withTransaction(pool, async (client) => {
        const created = await createSubUser(
          client,
          buyerId,
          { name, bytesMax: bytesMaxOf(bytesMax), allowedIps, limits },
          subUsersMax,
        );
        if (!created.ok) throw new Problem('too_many_sub_users', `At most ${subUsersMax}.`);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'sub_user_created',
          objectType: 'sub_user',
          objectId: created.subUser.id,
          after: subUserJson(created.subUser),
        });
        return created;
      }).catch(asProblem);
      await live.accountsChanged([buyerId]);
      return reply.code(201).send({
        ...subUserJson(made.subUser),
        proxy: proxyJson(proxy, made.subUser.account, made.password),
      });
    },
  );

  app.get(
    '/api/buyer/sub_users',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My sub-users',
        description: 'Newest first, with the bytes booked so far.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(SubUserSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listSubUsers(pool, actorOf(request, 'buyer').buyerId, request.query);
      return { items: page.rows.map(subUserJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/buyer/sub_users/:id',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'One sub-user',
        params: Params,
        response: { 200: SubUserSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const found = await readSubUser(pool, actorOf(request, 'buyer').buyerId, request.params.id);
      if (found === null) throw new Problem('not_found');
      return subUserJson(found);
    },
  );

  app.patch(
    '/api/buyer/sub_users/:id',
    {
      config: { roles: ['buyer'], idempotency: { omit: ['proxy'] } },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Change a sub-user',
        description:
          'In force on every gateway within a second, for open streams, too: those that are not allowed any more are ' +
          'cut. `limits` replaces all limits. `bytes_max` may fall below what is used: no more is given then. ' +
          '`rotate_password` ends the old password at once and answers with the new one, shown once.',
        params: Params,
        body: Type.Object(
          {
            name: Type.Optional(Name),
            status: Type.Optional(Status),
            bytes_max: Type.Optional(Nullable(BytesMax)),
            allowed_ips: Type.Optional(AllowedIps),
            limits: Type.Optional(SubUserLimits),
            rotate_password: Type.Optional(Type.Boolean()),
          },
          { additionalProperties: false, minProperties: 1, examples: [{ bytes_max: 10_000_000_000 }] },
        ),
        response: { 200: WithProxy, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { body, params } = request;
      const changes: Partial<SubUserFields> = {};
      if (body.name !== undefined) changes.name = body.name;
      if (body.status !== undefined) changes.status = body.status;
      if (body.bytes_max !== undefined) changes.bytesMax = bytesMaxOf(body.bytes_max);
      if (body.allowed_ips !== undefined) changes.allowedIps = body.allowed_ips;
      if (body.limits !== undefined) changes.limits = normalSubUserLimits(body.limits);
      const changed = await withTransaction(pool, async (client) => {
        const result = await changeSubUser(
          client,
          buyerId,
          params.id,
          changes,
          body.rotate_password === true,
        );
        if (result === null) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'sub_user_changed',
          objectType: 'sub_user',
          objectId: params.id,
          before: subUserJson(result.before),
          after: { ...subUserJson(result.after), password_rotated: result.password !== null },
        });
        return result;
      }).catch(asProblem);
      await live.accountsChanged([buyerId]);
      const { after, password } = changed;
      return {
        ...subUserJson(after),
        proxy: password === null ? null : proxyJson(proxy, after.account, password),
      };
    },
  );

  app.delete(
    '/api/buyer/sub_users/:id',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Remove a sub-user',
        description: 'For good, on every gateway within a second. What it used stays booked.',
        params: Params,
        response: { 200: Ok, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { id } = request.params;
      await withTransaction(pool, async (client) => {
        if (!(await closeSubUser(client, buyerId, id))) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'sub_user_removed',
          objectType: 'sub_user',
          objectId: id,
        });
      });
      await live.accountsChanged([buyerId]);
      return { ok: true as const };
    },
  );
};
