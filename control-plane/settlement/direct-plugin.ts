import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { type MeterReport, meterKey } from '../../gateway/live/records.js';
import { problemResponses } from '../http/schemas.js';
import type { SettlementWorker } from './worker.js';

/** Reports in one request; more belong into the next one. */
const REPORTS_MAX = 1_000;
/** About half a kilobyte a report. */
const BODY_BYTES_MAX = 1_048_576;
/** Requests of one gateway's address a minute: Redis being away, all its meters come this way. */
const REQUESTS_PER_MINUTE = 6_000;

/** The gateways' way to settlement that does not lead through Redis. Off while there is no TS_INTERNAL_SECRET. */
export const directMetersPlugin: FastifyPluginAsyncTypebox<{
  settlement: Pick<SettlementWorker, 'bookReports'>;
}> = async (app, { settlement }) => {
  app.post(
    '/internal/meters',
    {
      config: {
        roles: ['internal'],
        rateLimit: { max: REQUESTS_PER_MINUTE, timeWindow: 60_000 },
      },
      bodyLimit: BODY_BYTES_MAX,
      schema: {
        tags: ['Internal'],
        hide: true,
        summary: 'Book meters now',
        description:
          'Takes what a gateway would have put into Redis, checks it the same way and books it. The answer says what ' +
          'is committed of each meter; one that is missing could not be booked. May be repeated.',
        body: Type.Object(
          {
            gateway_id: Type.String({ pattern: '^[A-Za-z0-9.-]{1,64}$' }),
            reports: Type.Array(Type.Object({}, { additionalProperties: true }), { maxItems: REPORTS_MAX }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            marks: Type.Array(
              Type.Object({
                key: Type.String(),
                bytes_up: Type.Integer(),
                bytes_down: Type.Integer(),
                final: Type.Boolean(),
              }),
            ),
          }),
          ...problemResponses(401, 403, 413),
        },
      },
    },
    async (request) => {
      const { gateway_id: gatewayId, reports } = request.body;
      const byKey = new Map(reports.map((r) => [meterKey(r as MeterReport), JSON.stringify(r)]));
      const marks = await settlement.bookReports(gatewayId, byKey);
      return {
        marks: marks.map((m) => ({
          key: m.key,
          bytes_up: m.bytesUp,
          bytes_down: m.bytesDown,
          final: m.final,
        })),
      };
    },
  );
};
