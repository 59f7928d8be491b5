import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readGatewayPresence, readGatewayPresences } from '../../gateway/live/presence.js';
import { type GatewayPresence, runOf } from '../../gateway/live/records.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { live } from '../db/redis.js';
import { Problem } from '../errors.js';
import { pageOfAll } from '../http/pagination.js';
import { pageOf, pageQuery, problemResponses, Timestamp } from '../http/schemas.js';
import type { LiveState } from '../live-state/live-state.js';

export interface GatewaysPluginDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  live: Pick<LiveState, 'command'>;
}

const GatewaySchema = Type.Object({
  id: Type.String(),
  run: Type.String({ description: 'one start of that gateway' }),
  started_at: Timestamp,
  tunnels: Type.Integer({ description: 'devices connected' }),
  streams: Type.Integer({ description: 'connections relayed now' }),
  draining: Type.Boolean(),
});

const gatewayJson = (gateway: GatewayPresence) => ({
  id: gateway.gatewayId,
  run: runOf(gateway.epoch),
  started_at: new Date(gateway.startedAtMs).toISOString(),
  tunnels: gateway.tunnels,
  streams: gateway.streams,
  draining: gateway.draining,
});

/** The fleet: `/api/admin/gateways`. */
export const gatewaysPlugin: FastifyPluginAsyncTypebox<GatewaysPluginDeps> = async (
  app,
  { pool, redis, live: liveState },
) => {
  app.get(
    '/api/admin/gateways',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Gateways that are there',
        description:
          'As they last said themselves, some seconds ago at most, in the order of their ids; one that is away is not listed.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(GatewaySchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const gateways = (await live(readGatewayPresences(redis))).map(gatewayJson);
      return pageOfAll(
        gateways.sort((a, b) => (a.id < b.id ? -1 : 1)),
        request.query,
      );
    },
  );

  app.post(
    '/api/admin/gateways/:id/drain',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Drain a gateway',
        description:
          'As at SIGTERM: it takes no more connections, asks devices to move, lets live streams finish within ' +
          'TS_DRAIN_MS, settles, and its process ends with 0, for the supervisor to start the next version. Only the ' +
          'run that is there now is meant.',
        params: Type.Object(
          { id: Type.String({ pattern: '^[A-Za-z0-9.-]{1,64}$' }) },
          { additionalProperties: false },
        ),
        response: {
          202: Type.Object({ id: Type.String(), run: Type.String() }),
          ...problemResponses(401, 403, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const gateway = await live(readGatewayPresence(redis, request.params.id));
      if (gateway === null) throw new Problem('not_found', 'There is no gateway of this id.');
      if (gateway.draining) throw new Problem('gateway_draining');
      const [id, run] = [gateway.gatewayId, runOf(gateway.epoch)];
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'gateway_drained',
        objectType: 'gateway',
        objectId: id,
        after: { run },
      });
      await liveState.command({ kind: 'drain', gatewayId: id, run });
      return reply.code(202).send({ id, run });
    },
  );
};
