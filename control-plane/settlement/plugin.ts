import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readGatewayPresence } from '../../gateway/live/presence.js';
import { runOf } from '../../gateway/live/records.js';
import { auditContext } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { live } from '../db/redis.js';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { actorOf } from '../http/roles.js';
import {
  Bytes,
  jsonBytes,
  Money,
  Nullable,
  pageOf,
  pageQuery,
  problemResponses,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import { type MeterRow, readMeterRows } from './meters.js';
import { runsOf, type WriteOffScope, writeOffMeters } from './write-off.js';

export interface SettlementPluginDeps {
  pool: pg.Pool;
  redis: LiveRedis;
}

const GatewayId = Type.String({ pattern: '^[A-Za-z0-9.-]{1,64}$' });

const MeterSchema = Type.Object({
  id: Type.String(),
  session_id: Uuid,
  allocation_id: Uuid,
  buyer_id: Uuid,
  sub_user_id: Nullable(Uuid),
  gateway_id: Type.String(),
  run: Type.String({ description: 'one start of that gateway' }),
  epoch: Type.String(),
  provider_price_per_gb: Money,
  buyer_price_per_gb: Money,
  bytes_up: Bytes,
  bytes_down: Bytes,
  charged: Money,
  earned: Money,
  currency: Type.Literal('USD'),
  final: Type.Boolean({ description: 'counts never grow again' }),
  opened_at: Timestamp,
  updated_at: Type.String({ format: 'date-time', description: 'when it was last booked' }),
  written_off_at: Nullable(Timestamp),
  written_off_by: Nullable(Uuid),
  booked_after_write_off: Type.Union(Bytes.anyOf, {
    description: 'bytes that came although it had been written off; they are booked and charged',
  }),
});

const meterJson = (m: MeterRow) => ({
  id: m.id.toString(),
  session_id: m.session_id,
  allocation_id: m.allocation_id,
  buyer_id: m.buyer_id,
  sub_user_id: m.sub_user_id,
  gateway_id: m.gateway_id,
  run: runOf(m.epoch),
  epoch: m.epoch,
  provider_price_per_gb: formatMicros(m.provider_price_micros_per_gb),
  buyer_price_per_gb: formatMicros(m.buyer_price_micros_per_gb),
  bytes_up: jsonBytes(m.bytes_up),
  bytes_down: jsonBytes(m.bytes_down),
  charged: formatMicros(m.charged_micros),
  earned: formatMicros(m.earned_micros),
  currency: 'USD' as const,
  final: m.final,
  opened_at: m.opened_at.toISOString(),
  updated_at: m.updated_at.toISOString(),
  written_off_at: m.written_off_at?.toISOString() ?? null,
  written_off_by: m.written_off_by,
  booked_after_write_off: jsonBytes(m.bytes_after_write_off),
});

/** What is metered and not settled, and giving up what a lost gateway owes. For admins. */
export const settlementPlugin: FastifyPluginAsyncTypebox<SettlementPluginDeps> = async (app, deps) => {
  const { pool, redis } = deps;

  app.get(
    '/api/admin/meters',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Meters as they are booked',
        description:
          'Newest first. `open=true`: those whose gateway still owes its FINAL, with since when. ' +
          '`booked_after_write_off=true`: those that got bytes after they had been written off.',
        querystring: Type.Object(
          {
            session_id: Type.Optional(Uuid),
            gateway_id: Type.Optional(GatewayId),
            open: Type.Optional(Type.Boolean()),
            booked_after_write_off: Type.Optional(Type.Boolean()),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(MeterSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { session_id: sessionId, gateway_id: gatewayId, open, limit, cursor } = request.query;
      const late = request.query.booked_after_write_off;
      const before = cursor === undefined ? null : (decodeCursor(cursor, [cursorPart.integer])[0] ?? null);
      const rows = await readMeterRows(pool, { sessionId, gatewayId, open, late }, before, limit + 1);
      const page = cutPage(rows, limit, (m) => [m.id]);
      return { items: page.rows.map(meterJson), next_cursor: page.nextCursor };
    },
  );

  app.post(
    '/api/admin/gateways/:gateway_id/write_off',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Give up what a lost gateway owes',
        description:
          'No FINAL is waited for any more of the meters of one `run`, `epoch` or `session_id` (name one): their ' +
          'sessions complete, and what was set aside for the run is given back. Bytes that come all the same are ' +
          'booked and listed. Refused while the run is alive.',
        params: Type.Object({ gateway_id: GatewayId }, { additionalProperties: false }),
        body: Type.Object(
          {
            run: Type.Optional(Type.String({ pattern: '^[0-9a-f]{24}$' })),
            epoch: Type.Optional(Type.String({ pattern: '^[0-9a-f]{32}$' })),
            session_id: Type.Optional(Uuid),
            reason: Type.String({ minLength: 3, maxLength: 500, description: 'for the audit log' }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            meters: Type.Integer(),
            sessions: Type.Integer(),
            holds_closed: Type.Integer({ description: 'wallet holds given back' }),
          }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const { gateway_id: gatewayId } = request.params;
      const { run, epoch, session_id: sessionId, reason } = request.body;
      const scopes: WriteOffScope[] = [
        ...(run === undefined ? [] : [{ gatewayId, run }]),
        ...(epoch === undefined ? [] : [{ gatewayId, epoch }]),
        ...(sessionId === undefined ? [] : [{ gatewayId, sessionId }]),
      ];
      const [scope] = scopes;
      if (scope === undefined || scopes.length > 1)
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body', message: 'name one of run, epoch and session_id' }],
        });
      const presence = await live(readGatewayPresence(redis, gatewayId));
      const { ip, requestId } = auditContext(request);
      const result = await withTransaction(pool, async (client) => {
        const runs = await runsOf(client, scope);
        if (presence !== null && runs.includes(runOf(presence.epoch)))
          throw new Problem('gateway_run_alive', undefined, { run: runOf(presence.epoch) });
        return writeOffMeters(client, scope, userId, reason, { ip, requestId });
      });
      return { meters: result.meters, sessions: result.sessions, holds_closed: result.holdsClosed };
    },
  );
};
