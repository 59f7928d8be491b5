import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { cursorPart, cutPage, dayNumber, dayOfNumber, decodeCursor } from '../http/pagination.js';
import { subjectUserId } from '../http/roles.js';
import { IpAddress, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { notTooMuch } from './answer.js';
import { destinationRowJson, readProviderDestinations, searchDestinations } from './destinations.js';
import {
  DayDestinationSchema,
  DestinationRowSchema,
  daysQuery,
  destinationJson,
  shownFrom,
  usageDays,
} from './schemas.js';

export interface UsagePluginDeps {
  pool: pg.Pool;
  clock: Clock;
  /** Days that usage by destination is kept. */
  keptDays: () => number;
}

const HOST_PATTERN = '^[!-~]{1,255}$';
const hostOf = (host: string | undefined) => host?.toLowerCase();
/** How far a search looks back when it does not say from when. */
const SEARCH_DEFAULT_MS = 30 * 86_400_000;

/** Where traffic went: to providers what passed their devices, to admins who sent it. */
export const usagePlugin: FastifyPluginAsyncTypebox<UsagePluginDeps> = async (
  app,
  { pool, clock, keptDays },
) => {
  app.get(
    '/api/traffic/destinations',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'What went through my devices',
        description:
          'Bytes and connections by UTC day, latest first, and destination, of the last 30 days unless the query ' +
          'says otherwise. Some seconds behind, and kept for `destination_retention_days`. Whose traffic it was is ' +
          'not told.',
        querystring: Type.Object(
          {
            user_id: Type.Optional(Uuid),
            ...daysQuery,
            session_id: Type.Optional(Uuid),
            host: Type.Optional(Type.String({ pattern: HOST_PATTERN, description: 'this one only' })),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(DayDestinationSchema), ...problemResponses(401, 403, 422) },
      },
    },
    async (request) => {
      const { user_id, session_id: sessionId, host, limit, cursor } = request.query;
      // Another's session id finds nothing: rows are looked for under the caller's own id.
      const userId = subjectUserId(request, user_id);
      const days = usageDays(request.query, clock.nowMs());
      days.from = shownFrom(days.from, keptDays(), clock.nowMs());
      const parts = [cursorPart.day, new RegExp(HOST_PATTERN), cursorPart.port];
      const [day = '', lastHost = '', port = ''] = cursor === undefined ? [] : decodeCursor(cursor, parts);
      const rows = await notTooMuch(
        readProviderDestinations(
          pool,
          { userId, sessionId, host: hostOf(host), ...days },
          cursor === undefined ? null : { day: dayOfNumber(day), host: lastHost, port: Number(port) },
          limit + 1,
        ),
      );
      const page = cutPage(rows, limit, (r) => [dayNumber(r.day), r.host, r.port]);
      return {
        items: page.rows.map((r) => ({ day: r.day, ...destinationJson(r) })),
        next_cursor: page.nextCursor,
      };
    },
  );

  app.get(
    '/api/admin/destinations',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Who reached which destination',
        description:
          'For abuse handling: buyer, time, host and port, bytes and exit address, latest day first; kept for ' +
          '`destination_retention_days`. `host` is one host, or with a leading dot all below it; from `from` up to, ' +
          'and without, `to`, the last 30 days unless said otherwise. Each search is in the audit log.',
        querystring: Type.Object(
          {
            host: Type.Optional(
              Type.String({ pattern: HOST_PATTERN, examples: ['example.com', '.example.com'] }),
            ),
            buyer_id: Type.Optional(Uuid),
            user_id: Type.Optional(Type.String({ format: 'uuid', description: 'the provider' })),
            session_id: Type.Optional(Uuid),
            exit_ip: Type.Optional(IpAddress),
            from: Type.Optional(Timestamp),
            to: Type.Optional(Timestamp),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(DestinationRowSchema), ...problemResponses(401, 403, 422) },
      },
    },
    async (request) => {
      const { limit, cursor, ...query } = request.query;
      const toMs = query.to === undefined ? clock.nowMs() : Date.parse(query.to);
      const to = query.to ?? new Date(toMs + 60_000).toISOString(); // what a gateway ahead of us noticed, too
      const from = query.from ?? new Date(toMs - SEARCH_DEFAULT_MS).toISOString();
      const [day = '', id = ''] =
        cursor === undefined ? [] : decodeCursor(cursor, [cursorPart.day, cursorPart.integer]);
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'destinations_searched',
        objectType: 'destination_usage',
        objectId: null,
        after: { ...query, from, to },
      });
      const rows = await notTooMuch(
        searchDestinations(
          pool,
          {
            host: hostOf(query.host),
            buyerId: query.buyer_id,
            userId: query.user_id,
            sessionId: query.session_id,
            exitIp: query.exit_ip,
            from,
            to,
          },
          cursor === undefined ? null : { day: dayOfNumber(day), id },
          limit + 1,
        ),
      );
      const page = cutPage(rows, limit, (r) => [dayNumber(r.day), r.id]);
      return { items: page.rows.map(destinationRowJson), next_cursor: page.nextCursor };
    },
  );
};
