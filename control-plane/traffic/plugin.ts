import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { sendPersonalCsv } from '../audit/personal-csv.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { clientAddress } from '../http/client-address.js';
import { columnsOf, csvResponse } from '../http/csv-export.js';
import { limitBy } from '../http/rate-limit.js';
import { actorOf, subjectUserId } from '../http/roles.js';
import {
  Bytes,
  IpAddress,
  jsonBytes,
  Money,
  Nullable,
  optionalBody,
  pageOf,
  pageQuery,
  problemResponses,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { SettingsStore } from '../settings/settings.js';
import { CLIENT_VERSION_PATTERN } from '../system/version.js';
import { readSessionDestinations } from '../usage/destinations.js';
import { DestinationSchema, destinationJson } from '../usage/schemas.js';
import { OwnerRulesSchema, readOwnerRules } from '../users/owner-rules.js';
import { addReports } from './reports.js';
import { findSession, listSessions, SessionSchema, SessionStatus, sessionJson } from './session-view.js';
import { type OriginCheck, startSession } from './start.js';
import { FiguresSchema, POINTS_DEFAULT, PointSchema, series, summary } from './statistics.js';
import { announceStops, type StopChannel, stopSessions } from './stop.js';

export interface TrafficDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  live: StopChannel;
  settings: SettingsStore;
  originCheck: OriginCheck;
  tunnelUrl: string;
  ticketTtlS: number;
  /** Time a stop waits for settlement before it answers with what is booked. */
  stopWaitMs: number;
}

const DeviceId = Type.String({ pattern: '^[A-Za-z0-9._-]{8,64}$' });
const Count = Type.Integer({ minimum: 0, maximum: 1e15 });
/** Reports in one call. */
const REPORTS_MAX = 500;
/** How often a waiting stop looks whether its session is completed. */
const STOP_POLL_MS = 100;

const Report = Type.Object(
  {
    session_id: Uuid,
    bytes_tx: Count,
    bytes_rx: Count,
    interval_seconds: Type.Number({ minimum: 0, maximum: 86_400 }),
  },
  { additionalProperties: false, description: 'what the device counted in the interval' },
);

const range = {
  from: Type.Optional(Timestamp),
  to: Type.Optional(Timestamp),
};
const userId = { user_id: Type.Optional(Uuid) };
const sessionFilters = { ...userId, ...range, status: Type.Optional(SessionStatus) };
const page = { page: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })) };

/** Destinations told with one session; the rest is for `GET /api/traffic/destinations`. */
const SESSION_DESTINATIONS_MAX = 200;
const HistorySchema = Type.Object({
  ...SessionSchema.properties,
  destinations: Type.Optional(
    Type.Array(DestinationSchema, {
      description: 'of the one session asked for, those with most bytes first',
    }),
  ),
  destination_count: Type.Optional(Type.Integer({ description: 'how many there are' })),
});

/** Starts of one device a minute; above it 429. An agent that lost its gateway tries about every three seconds. */
const STARTS_PER_DEVICE_MAX = 60;
/**
 * Starts from one address a minute; above it 429. Thousands of phones may share an address (carrier-grade NAT), and all
 * of them come at once when a gateway was lost.
 */
const STARTS_PER_ADDRESS_MAX = 6_000;

/** Sharing: start, stop, the device's reports, history and figures. */
export const trafficPlugin: FastifyPluginAsyncTypebox<TrafficDeps> = async (app, deps) => {
  const { pool, clock } = deps;

  app.post(
    '/api/traffic/start',
    {
      config: {
        roles: ['user', 'device'],
        rateLimit: { max: STARTS_PER_ADDRESS_MAX, timeWindow: 60_000 },
        idempotency: { omit: ['tunnel.ticket'] },
      },
      preHandler: limitBy<FastifyRequest<{ Body: { device_id: string } }>>(app, {
        name: 'traffic-start',
        max: STARTS_PER_DEVICE_MAX,
        windowMs: 60_000,
        // With the caller: nobody uses up the starts of somebody else's device.
        key: (request) => `${actorOf(request, 'user', 'device').userId}:${request.body.device_id}`,
      }),
      schema: {
        tags: ['Traffic'],
        summary: 'Start sharing on a device',
        description:
          'Looks at the address the request is seen to come from; claimed addresses are advice. Starting again ' +
          'from the same address gives a new ticket for the same session; from another address it replaces the ' +
          'session. `detail` of a refusal says which rule.',
        body: Type.Object(
          {
            device_id: DeviceId,
            client_version: Type.String({ pattern: CLIENT_VERSION_PATTERN }),
            network_type: Type.Optional(Type.Enum(['wifi', 'mobile', 'ethernet', 'unknown'])),
            local_ip: Type.Optional(IpAddress),
            public_ip: Type.Optional(IpAddress),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            session_id: Uuid,
            ok: Type.Literal(true),
            rules: OwnerRulesSchema,
            tunnel: Type.Object({
              url: Type.String({ description: 'WebSocket' }),
              ticket: Nullable(
                Type.String({
                  description:
                    'opens one tunnel: Authorization: Bearer <ticket>; shown once: null in a replay',
                }),
              ),
              expires_in: Type.Integer({ description: 'seconds to open the tunnel' }),
            }),
          }),
          ...problemResponses(401, 403, 404, 409),
        },
      },
    },
    async (request) => {
      const actor = actorOf(request, 'user', 'device');
      const { body } = request;
      if (actor.role === 'device' && actor.deviceId !== body.device_id) throw new Problem('forbidden');
      const started = await startSession(deps, {
        userId: actor.userId,
        deviceId: body.device_id,
        exitIp: clientAddress(request),
        clientVersion: body.client_version,
        networkType: body.network_type ?? null,
        localIp: body.local_ip ?? null,
        claimedPublicIp: body.public_ip ?? null,
      });
      return {
        session_id: started.sessionId,
        ok: true as const,
        rules: started.rules,
        tunnel: { url: deps.tunnelUrl, ticket: started.ticket, expires_in: deps.ticketTtlS },
      };
    },
  );

  for (const url of ['/api/traffic/update', '/api/traffic/report'])
    app.post(
      url,
      {
        config: { roles: ['user', 'device'] },
        schema: {
          tags: ['Traffic'],
          summary: "Report the device's own count",
          description: `One interval, or up to ${REPORTS_MAX} in \`reports\`. Advice: compared with the meter, never paid.`,
          body: Type.Union([
            Report,
            Type.Object(
              { reports: Type.Array(Report, { minItems: 1, maxItems: REPORTS_MAX }) },
              { additionalProperties: false },
            ),
          ]),
          response: {
            200: Type.Object({ ok: Type.Literal(true), rules: OwnerRulesSchema }),
            ...problemResponses(401, 403, 404),
          },
        },
      },
      async (request) => {
        const actor = actorOf(request, 'user', 'device');
        const { body } = request;
        const deviceId = actor.role === 'device' ? actor.deviceId : null;
        await addReports(pool, { userId: actor.userId, deviceId }, 'reports' in body ? body.reports : [body]);
        const rules = await readOwnerRules(pool, actor.userId);
        if (rules === null) throw new Problem('not_found');
        return { ok: true as const, rules };
      },
    );

  const StopBody = Type.Object(
    {
      session_id: Type.Optional(Uuid),
      final_bytes_tx: Type.Optional(Count),
      final_bytes_rx: Type.Optional(Count),
    },
    {
      additionalProperties: false,
      examples: [
        {
          session_id: '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11',
          final_bytes_tx: 1_200_000,
          final_bytes_rx: 40_000_000,
        },
      ],
    },
  );
  app.post(
    '/api/traffic/stop',
    {
      config: { roles: ['user', 'device'] },
      schema: {
        tags: ['Traffic'],
        summary: 'Stop sharing',
        description:
          'Closes the tunnel and waits up to a few seconds for the last bytes to be booked. `status` is `stopping` ' +
          'when they were not all in yet; asking again tells the rest. Repeating it is harmless.',
        querystring: Type.Object({ session_id: Type.Optional(Uuid) }, { additionalProperties: false }),
        body: optionalBody(StopBody),
        response: {
          200: Type.Object({ ok: Type.Literal(true), bytes: Bytes, earned: Money, status: SessionStatus }),
          ...problemResponses(401, 403, 404),
        },
      },
    },
    async (request) => {
      const actor = actorOf(request, 'user', 'device');
      const sessionId = request.body?.session_id ?? request.query.session_id;
      if (sessionId === undefined)
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/session_id', message: 'is required here or in the query' }],
        });
      const session = await findSession(pool, sessionId);
      if (session === null) throw new Problem('not_found');
      if (session.user_id !== actor.userId) throw new Problem('forbidden');
      if (actor.role === 'device' && session.device_id !== actor.deviceId) throw new Problem('forbidden');
      const stopped = await withTransaction(pool, async (client) => {
        const ids = await stopSessions(client, { sessionId }, 'stopped');
        await client.query(
          `UPDATE traffic_sessions SET reported_bytes_tx = coalesce($2, reported_bytes_tx),
                                       reported_bytes_rx = coalesce($3, reported_bytes_rx)
           WHERE id = $1 AND status = 'stopping'`,
          [sessionId, request.body?.final_bytes_tx ?? null, request.body?.final_bytes_rx ?? null],
        );
        return ids;
      });
      await announceStops(deps.live, stopped, 'stopped');
      const end = await waitForCompletion(pool, sessionId, clock.monotonicMs() + deps.stopWaitMs, clock);
      return {
        ok: true as const,
        bytes: jsonBytes(end.bytes_up + end.bytes_down),
        earned: formatMicros(end.earned_micros),
        status: end.status,
      };
    },
  );

  app.get(
    '/api/traffic/history',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'Sharing history',
        description:
          'Traffic sessions, latest first. With `page` the total comes along, with `session_id` where its traffic ' +
          `went: up to ${SESSION_DESTINATIONS_MAX} destinations.`,
        querystring: Type.Object(
          { ...userId, ...range, ...page, session_id: Type.Optional(Uuid), ...pageQuery },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(HistorySchema), ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { user_id, session_id: sessionId, from, to } = request.query;
      const subject = subjectUserId(request, user_id);
      if (sessionId !== undefined) {
        const session = await findSession(pool, sessionId);
        if (session === null) throw new Problem('not_found');
        if (session.user_id !== subject) throw new Problem('forbidden');
      }
      const list = await listSessions(pool, { userId: subject, sessionId, from, to }, request.query);
      if (sessionId === undefined) return list;
      const { destinations, count } = await readSessionDestinations(
        pool,
        sessionId,
        SESSION_DESTINATIONS_MAX,
        deps.settings.current().destinationRetentionDays,
      );
      const items = list.items.map((item) => ({
        ...item,
        destinations: destinations.map(destinationJson),
        destination_count: count,
      }));
      return { ...list, items };
    },
  );

  app.get(
    '/api/sessions',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'Traffic sessions',
        description: 'Latest first. An admin sees those of everyone, or of `user_id`.',
        querystring: Type.Object(
          { ...sessionFilters, ...page, ...pageQuery },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(SessionSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { user_id, status, from, to } = request.query;
      const everyone = request.actor.role === 'admin' && user_id === undefined;
      const subject = everyone ? undefined : subjectUserId(request, user_id);
      return listSessions(pool, { userId: subject, status, from, to }, request.query);
    },
  );

  app.get(
    '/api/admin/export/sessions',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'Traffic sessions as CSV',
        description: 'All that the list would page through, latest first. Who took it is in the audit log.',
        querystring: Type.Object(sessionFilters, { additionalProperties: false }),
        response: csvResponse,
      },
    },
    ({ query: { user_id, status, from, to } }, reply) =>
      sendPersonalCsv(pool, reply, 'sessions', columnsOf(SessionSchema), (page) =>
        listSessions(pool, { userId: user_id, status, from, to }, page),
      ),
  );
  app.get(
    '/api/sessions/:id',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'One traffic session',
        description: 'With its bytes and earnings as booked so far.',
        params: Type.Object({ id: Uuid }),
        response: { 200: SessionSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const actor = actorOf(request, 'user', 'device', 'admin');
      const session = await findSession(pool, request.params.id);
      if (session === null) throw new Problem('not_found');
      if (actor.role !== 'admin' && session.user_id !== actor.userId) throw new Problem('forbidden');
      return sessionJson(session);
    },
  );

  app.get(
    '/api/traffic/summary',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'Today, this week, this month, all time',
        description:
          'As booked by settlement, UTC days, weeks from Monday. An admin without `user_id`: everyone.',
        querystring: Type.Object(userId, { additionalProperties: false }),
        response: {
          200: Type.Object({
            day: FiguresSchema,
            week: FiguresSchema,
            month: FiguresSchema,
            all: FiguresSchema,
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => summary(pool, subjectOrEveryone(request, request.query.user_id), clock.nowMs()),
  );

  app.get(
    '/api/stats/:period',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'A series for charts',
        description:
          'daily, weekly or monthly; oldest first, without gaps, the last point is the one now lies in.',
        params: Type.Object({ period: Type.Enum(['daily', 'weekly', 'monthly']) }),
        querystring: Type.Object(
          { ...userId, points: Type.Optional(Type.Integer({ minimum: 1, maximum: 366 })) },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            period: Type.Enum(['daily', 'weekly', 'monthly']),
            items: Type.Array(PointSchema),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { period } = request.params;
      const points = request.query.points ?? POINTS_DEFAULT[period];
      const subject = subjectOrEveryone(request, request.query.user_id);
      return { period, items: await series(pool, subject, period, points, clock.nowMs()) };
    },
  );
};

/** An admin who names nobody means everyone (null). */
function subjectOrEveryone(
  request: Parameters<typeof subjectUserId>[0],
  queried: string | undefined,
): string | null {
  return request.actor.role === 'admin' && queried === undefined ? null : subjectUserId(request, queried);
}

/** The session once it is completed, or as it is at the deadline. */
async function waitForCompletion(pool: pg.Pool, sessionId: string, deadlineMs: number, clock: Clock) {
  for (;;) {
    const session = await findSession(pool, sessionId);
    if (session === null) throw new Error('a session vanished');
    if (session.status !== 'stopping' || clock.monotonicMs() >= deadlineMs) return session;
    await new Promise((resolve) => setTimeout(resolve, STOP_POLL_MS));
  }
}
