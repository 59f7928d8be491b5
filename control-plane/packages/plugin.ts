import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { sendPersonalCsv } from '../audit/personal-csv.js';
import { type ProxyAddress, ProxySchema, proxyJson } from '../buyers/schemas.js';
import { readBuyerStanding, trafficRefusal } from '../buyers/standing.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { columnsOf, csvResponse } from '../http/csv-export.js';
import { limitBy } from '../http/rate-limit.js';
import { actorOf } from '../http/roles.js';
import {
  Bytes,
  IpAddress,
  jsonBytes,
  Nullable,
  optionalBody,
  pageOf,
  pageQuery,
  problemResponses,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import type { LiveState } from '../live-state/live-state.js';
import { type AllocateDeps, type AllocatedPackage, allocatePackages, type PackageTaker } from './allocate.js';
import { cleanUpAllStale } from './keeper.js';
import { listPackages, type PackageRecord, readPackageHistory } from './list.js';
import { forgetAllocation, reportStatus, revokePackage } from './moves.js';
import { PullQueue } from './pull-queue.js';
import { countriesOf } from './regions.js';

export interface PackagesDeps extends AllocateDeps {
  live: Pick<LiveState, 'command'>;
  proxy: ProxyAddress;
  /** How long a pulled package may stay unused, ms. */
  pullTtlMs: number;
  /** Pulls of one token: so many a second in the long run, so many at once. */
  pullRate: { perSecond: number; burst: number };
  /** What becomes of a pulled package that was not used in its time (setting `stale_packages_become`). */
  staleBecome: () => Promise<'available' | 'revoked'>;
  /** Size of the package a session is offered with again, bytes. */
  offerBytes: () => number;
}

/** Packages in one pull. */
const PULL_COUNT_MAX = 100;

const Status = Type.Enum(['available', 'allocated', 'in_progress', 'completed', 'failed', 'revoked']);
const PackageParams = Type.Object({ id: Uuid }, { additionalProperties: false });

/** What the list and its export can be narrowed to. */
const packageFilters = {
  status: Type.Optional(Status),
  buyer_id: Type.Optional(Uuid),
  user_id: Type.Optional(Uuid),
  ip: Type.Optional(IpAddress),
};

const filterOf = (query: { status?: string; buyer_id?: string; user_id?: string; ip?: string }) => ({
  status: query.status,
  buyerId: query.buyer_id,
  userId: query.user_id,
  ip: query.ip,
});

const PackageSchema = Type.Object({
  uuid: Uuid,
  user_id: Uuid,
  ip: Type.String(),
  country: Nullable(Type.String()),
  city: Nullable(Type.String()),
  asn: Nullable(Type.Integer()),
  size_bytes: Bytes,
  status: Status,
  origin: Type.Enum(['offer', 'ingest']),
  session_id: Nullable(Uuid),
  buyer_id: Nullable(Uuid),
  created_at: Timestamp,
  updated_at: Timestamp,
});

const packageJson = (p: PackageRecord) => ({
  uuid: p.id,
  user_id: p.userId,
  ip: p.exitIp,
  country: p.country,
  city: p.city,
  asn: p.asn === null ? null : Number(p.asn),
  size_bytes: jsonBytes(p.sizeBytes),
  status: p.status,
  origin: p.origin,
  session_id: p.sessionId,
  buyer_id: p.buyerId,
  created_at: p.createdAt.toISOString(),
  updated_at: p.updatedAt.toISOString(),
});

const PulledSchema = Type.Object({
  uuid: Uuid,
  user_id: Uuid,
  ip: Type.String(),
  country: Nullable(Type.String()),
  size_bytes: Bytes,
  assigned_at: Timestamp,
  expires_at: Timestamp,
  proxy: Nullable(ProxySchema),
});

/** Packages: assignment and lists for admins, pulling and reporting for buyers. */
export const packagesPlugin: FastifyPluginAsyncTypebox<PackagesDeps> = async (app, deps) => {
  const { pool, redis, live, proxy, pullTtlMs, pullRate, offerBytes } = deps;
  const pulls = new PullQueue(deps, pullTtlMs);

  /** The buyer, who must be allowed to have traffic. */
  async function taker(buyerId: string): Promise<PackageTaker> {
    const buyer = await readBuyerStanding(pool, buyerId);
    if (buyer === null) throw new Problem('not_found', 'There is no such buyer.');
    const refusal = trafficRefusal(buyer);
    if (refusal !== null) throw new Problem(refusal);
    return { buyerId, account: buyer.account };
  }

  const pulledJson = (p: AllocatedPackage) => ({
    uuid: p.packageId,
    user_id: p.userId,
    ip: p.exitIp,
    country: p.country,
    size_bytes: jsonBytes(p.sizeBytes),
    assigned_at: new Date(p.assignedAtMs).toISOString(),
    expires_at: new Date(p.expiresAtMs).toISOString(),
    proxy: proxyJson(proxy, p.username, p.password),
  });

  app.post(
    '/api/buyer/packets/pull',
    {
      config: { roles: ['buyer'], idempotency: { omit: ['packages.proxy'] } },
      preHandler: limitBy(app, {
        name: 'pull',
        max: pullRate.burst,
        windowMs: Math.ceil((pullRate.burst * 1_000) / pullRate.perSecond),
        key: (request) => actorOf(request, 'buyer').tokenId,
      }),
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Pull packages',
        description:
          'Up to `max_count` available packages, oldest first, each with proxy credentials of its own (shown once). ' +
          '204 when nothing fits. `region`: a country code, or EU. Each token may pull ' +
          `${pullRate.perSecond} a second, ${pullRate.burst} in a burst; above it 429. With an \`Idempotency-Key\` a call that ` +
          'is repeated takes no further packages; `proxy` is then null, and the account’s own password with ' +
          '`-package-<uuid>` in the username opens them.',
        body: Type.Object(
          {
            max_count: Type.Integer({ minimum: 1, maximum: PULL_COUNT_MAX, default: 1 }),
            region: Type.Optional(Type.String({ pattern: '^[A-Za-z]{2}$' })),
            city: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
            asn: Type.Optional(Type.Integer({ minimum: 1, maximum: 4_294_967_295 })),
            min_bytes: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000_000_000 })),
          },
          { additionalProperties: false, examples: [{ max_count: 2, region: 'DE' }] },
        ),
        response: {
          200: Type.Object({ packages: Type.Array(PulledSchema) }),
          204: Type.Null({ description: 'nothing fits now' }),
          ...problemResponses(401, 402, 403, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const who = await taker(actorOf(request, 'buyer').buyerId);
      const filter = {
        countries: body.region === undefined ? null : countriesOf(body.region),
        city: body.city?.replaceAll('_', ' ') ?? null,
        asn: body.asn ?? null,
        bytesMin: body.min_bytes === undefined ? null : BigInt(body.min_bytes),
        packageId: null,
      };
      const pulled = await pulls.pull(who, filter, body.max_count);
      if (pulled.length === 0) return reply.code(204).send(null);
      return reply.send({ packages: pulled.map(pulledJson) });
    },
  );

  app.post(
    '/api/buyer/packets/:uuid/status',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Report on a pulled package',
        description:
          'allocated → in_progress → completed, or failed from either; `accepted` changes nothing. Repeating a report ' +
          'is harmless, any other move is 409. `bytes_sent` is advice: the meter decides money.',
        params: Type.Object({ uuid: Uuid }, { additionalProperties: false }),
        body: Type.Object(
          {
            status: Type.Enum(['accepted', 'in_progress', 'completed', 'failed']),
            bytes_sent: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({ uuid: Uuid, status: Status }),
          ...problemResponses(401, 403, 404, 409),
        },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { status, bytes_sent: bytesSent = null } = request.body;
      const { uuid } = request.params;
      const moved = await withTransaction(pool, (client) =>
        reportStatus(client, { packageId: uuid, buyerId, status, bytesSent, offerBytes: offerBytes() }),
      );
      if (!moved.ok) {
        if (moved.code === 'unknown') throw new Problem('not_found');
        throw new Problem('illegal_move', `It is ${moved.from}.`, { from: moved.from });
      }
      if (moved.ended) await forgetAllocation(redis, live, moved.ended);
      return { uuid, status: moved.status };
    },
  );

  app.get(
    '/api/admin/packages',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Packages',
        description: 'Newest first. `buyer_id`: in the hands of that buyer, now or at the end.',
        querystring: Type.Object({ ...packageFilters, ...pageQuery }, { additionalProperties: false }),
        response: { 200: pageOf(PackageSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listPackages(pool, filterOf(request.query), request.query);
      return { items: page.rows.map(packageJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/export/packages',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Packages as CSV',
        description: 'All that the list would page through, newest first.',
        querystring: Type.Object(packageFilters, { additionalProperties: false }),
        response: csvResponse,
      },
    },
    ({ query }, reply) =>
      sendPersonalCsv(pool, reply, 'packages', columnsOf(PackageSchema), async (page) => {
        const { rows, nextCursor } = await listPackages(pool, filterOf(query), page);
        return { items: rows.map(packageJson), next_cursor: nextCursor };
      }),
  );

  app.get(
    '/api/admin/packages/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'One package with its history',
        params: PackageParams,
        response: {
          200: Type.Object({
            ...PackageSchema.properties,
            allocations: Type.Array(
              Type.Object({
                id: Uuid,
                buyer_id: Uuid,
                via: Type.String(),
                status: Type.String(),
                bytes_up: Bytes,
                bytes_down: Bytes,
                reported_bytes: Nullable(Bytes),
                assigned_at: Timestamp,
                expires_at: Nullable(Timestamp),
                ended_at: Nullable(Timestamp),
              }),
            ),
            audit: Type.Array(
              Type.Object({ at: Timestamp, action: Type.String(), actor_id: Nullable(Type.String()) }),
            ),
          }),
          ...problemResponses(401, 403, 404),
        },
      },
    },
    async (request) => {
      const found = await readPackageHistory(pool, request.params.id);
      if (found === null) throw new Problem('not_found');
      return {
        ...packageJson(found.package),
        allocations: found.allocations.map((a) => ({
          id: a.id,
          buyer_id: a.buyer_id,
          via: a.via,
          status: a.status,
          bytes_up: jsonBytes(a.bytes_up),
          bytes_down: jsonBytes(a.bytes_down),
          reported_bytes: a.reported_bytes === null ? null : jsonBytes(a.reported_bytes),
          assigned_at: a.assigned_at.toISOString(),
          expires_at: a.expires_at?.toISOString() ?? null,
          ended_at: a.ended_at?.toISOString() ?? null,
        })),
        audit: found.audit.map((x) => ({ at: x.at.toISOString(), action: x.action, actor_id: x.actor_id })),
      };
    },
  );

  app.post(
    '/api/admin/packages/:id/assign',
    {
      config: { roles: ['admin'], idempotency: { omit: ['proxy'] } },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Give a package to a buyer',
        description: 'As if the buyer had pulled it; the credentials are shown once.',
        params: PackageParams,
        body: Type.Object({ buyer_id: Uuid }, { additionalProperties: false }),
        response: { 200: PulledSchema, ...problemResponses(401, 402, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      const found = await readPackageHistory(pool, id);
      if (found === null) throw new Problem('not_found');
      const { status } = found.package;
      if (status !== 'available') throw new Problem('illegal_move', `It is ${status}.`, { from: status });
      const who = await taker(request.body.buyer_id);
      const filter = { countries: null, city: null, asn: null, bytesMin: null, packageId: id };
      const [given] = await allocatePackages(deps, who, filter, 1, pullTtlMs, async (client, [allocated]) => {
        await recordAudit(client, {
          ...auditContext(request),
          action: 'package_assigned',
          objectType: 'package',
          objectId: id,
          after: { buyer_id: who.buyerId, allocation_id: allocated?.allocationId },
        });
      });
      if (given === undefined) throw new Problem('package_in_use');
      return pulledJson(given);
    },
  );

  app.post(
    '/api/admin/packages/:id/revoke',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Take a package back',
        description: 'Its streams end within a second. With `reset` it becomes available again.',
        params: PackageParams,
        body: optionalBody(
          Type.Object({ reset: Type.Optional(Type.Boolean()) }, { additionalProperties: false }),
        ),
        response: {
          200: Type.Object({ uuid: Uuid, status: Status }),
          ...problemResponses(401, 403, 404, 409),
        },
      },
    },
    async (request) => {
      const { id } = request.params;
      const revoked = await withTransaction(pool, async (client) => {
        const result = await revokePackage(client, id, request.body?.reset === true);
        if (!result.ok) {
          if (result.code === 'unknown') throw new Problem('not_found');
          throw new Problem('illegal_move', `It is ${result.from}.`, { from: result.from });
        }
        await recordAudit(client, {
          ...auditContext(request),
          action: 'package_revoked',
          objectType: 'package',
          objectId: id,
          before: { status: result.before },
          after: { status: result.status },
        });
        return result;
      });
      if (revoked.ended) await forgetAllocation(redis, live, revoked.ended);
      return { uuid: id, status: revoked.status };
    },
  );

  app.post(
    '/api/admin/packages/cleanup_stale_allocations',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Take back packages that were not used in time',
        description:
          'Also done by itself every five minutes (job `cleanup`). `to`: what becomes of them, by default the setting ' +
          '`stale_packages_become`.',
        body: optionalBody(
          Type.Object(
            { to: Type.Optional(Type.Enum(['available', 'revoked'])) },
            { additionalProperties: false },
          ),
        ),
        response: { 200: Type.Object({ cleaned: Type.Integer() }), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const cleaned = await cleanUpAllStale(deps, request.body?.to ?? (await deps.staleBecome()));
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'stale_allocations_cleaned',
        objectType: 'package',
        objectId: null,
        after: { cleaned },
      });
      return { cleaned };
    },
  );
};
