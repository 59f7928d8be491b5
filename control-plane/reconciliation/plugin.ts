import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { jsonBytes, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import { compareSessions } from './compare.js';
import { readFlags } from './flags.js';
import { MeterSchema, ReconciliationSchema, reconciliationJson } from './schemas.js';

export interface ReconciliationDeps {
  pool: pg.Pool;
}

/** A page compares each of its sessions down to the ledger: fewer of them than in other lists. */
const PAGE_MAX = 50;

const OPEN_FLAGS = 'SELECT f.session_id FROM reconciliation_flags f WHERE f.resolved_at IS NULL';
/** The condition of each value of `flagged`: with an open flag, without, or either. */
const FLAGGED: Record<string, string> = {
  true: `s.id IN (${OPEN_FLAGS})`,
  false: `NOT EXISTS (${OPEN_FLAGS} AND f.session_id = s.id)`,
  undefined: 'true',
};

/** What was reported, metered and booked, side by side: for admins. */
export const reconciliationPlugin: FastifyPluginAsyncTypebox<ReconciliationDeps> = async (app, { pool }) => {
  /** The sessions as they are now, in the order of `ids`. */
  async function sideBySide(ids: readonly string[]) {
    const [found, flags] = await Promise.all([compareSessions(pool, ids), readFlags(pool, ids)]);
    const byId = new Map(found.map((c) => [c.sessionId, c]));
    return ids.flatMap((id) => {
      const comparison = byId.get(id);
      return comparison ? [reconciliationJson(comparison, flags.get(id) ?? [])] : [];
    });
  }

  app.get(
    '/api/admin/reconciliation',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Reported, metered and booked, side by side',
        description:
          'One line a traffic session, latest first, compared now. `flagged=true`: those with a difference that stands ' +
          '(reports above the tolerance of the settings, books off by anything); false: those without one.',
        querystring: Type.Object(
          {
            flagged: Type.Optional(Type.Boolean()),
            session_id: Type.Optional(Uuid),
            from: Type.Optional(Timestamp),
            to: Type.Optional(Timestamp),
            ...pageQuery,
            limit: Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: 20 }),
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(ReconciliationSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { flagged, session_id: sessionId, from, to, limit, cursor } = request.query;
      const after =
        cursor === undefined ? [null, null] : decodeCursor(cursor, [cursorPart.timestamp, cursorPart.uuid]);
      const { rows } = await pool.query<{ id: string; at: string }>(
        `SELECT s.id, to_char(s.started_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at FROM traffic_sessions s
          WHERE ${FLAGGED[String(flagged)]}
            AND ($1::uuid IS NULL OR s.id = $1)
            AND ($2::timestamptz IS NULL OR s.started_at >= $2) AND ($3::timestamptz IS NULL OR s.started_at < $3)
            AND ($4::timestamptz IS NULL OR (s.started_at, s.id) < ($4, $5::uuid))
          ORDER BY s.started_at DESC, s.id DESC LIMIT $6`,
        [sessionId ?? null, from ?? null, to ?? null, after[0], after[1], limit + 1],
      );
      const page = cutPage(rows, limit, (row) => [row.at, row.id]);
      return { items: await sideBySide(page.rows.map((row) => row.id)), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/sessions/:id/reconciliation',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One traffic session, side by side, with each meter',
        params: Type.Object({ id: Uuid }, { additionalProperties: false }),
        response: {
          200: Type.Object({ ...ReconciliationSchema.properties, meter_list: Type.Array(MeterSchema) }),
          ...problemResponses(401, 403, 404),
        },
      },
    },
    async (request) => {
      const [found] = await sideBySide([request.params.id]);
      if (found === undefined) throw new Problem('not_found');
      const { rows } = await pool.query<{
        id: bigint;
        gateway_id: string;
        epoch: string;
        allocation_id: string;
        provider_price_micros_per_gb: bigint;
        buyer_price_micros_per_gb: bigint;
        bytes_up: bigint;
        bytes_down: bigint;
        charged_micros: bigint;
        earned_micros: bigint;
        final: boolean;
        written_off_at: Date | null;
        opened_at: Date;
        updated_at: Date;
      }>(
        `SELECT id, gateway_id, epoch, allocation_id, provider_price_micros_per_gb, buyer_price_micros_per_gb, bytes_up,
                bytes_down, charged_micros, earned_micros, final, written_off_at, opened_at, updated_at
           FROM meters WHERE session_id = $1 ORDER BY opened_at, id`,
        [request.params.id],
      );
      return {
        ...found,
        meter_list: rows.map((m) => ({
          id: m.id.toString(),
          gateway_id: m.gateway_id,
          epoch: m.epoch,
          allocation_id: m.allocation_id,
          provider_price_per_gb: formatMicros(m.provider_price_micros_per_gb),
          buyer_price_per_gb: formatMicros(m.buyer_price_micros_per_gb),
          bytes_up: jsonBytes(m.bytes_up),
          bytes_down: jsonBytes(m.bytes_down),
          charged: formatMicros(m.charged_micros),
          earned: formatMicros(m.earned_micros),
          final: m.final,
          written_off_at: m.written_off_at?.toISOString() ?? null,
          opened_at: m.opened_at.toISOString(),
          updated_at: m.updated_at.toISOString(),
        })),
      };
    },
  );
};
