import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { Nullable, pageOf, pageQuery, problemResponses, Timestamp } from '../http/schemas.js';
import { type AuditRow, searchAudit } from './search.js';

export interface AuditPluginDeps {
  pool: pg.Pool;
}

const Word = Type.String({ pattern: '^[a-z_]{1,60}$' });
const Id = Type.String({ pattern: '^[!-~]{1,254}$' });
const Anything = Type.Unsafe<unknown>({ description: 'JSON, without secrets' });

const AuditSchema = Type.Object({
  id: Type.String(),
  at: Timestamp,
  actor_role: Type.String(),
  actor_id: Nullable(Type.String()),
  action: Type.String(),
  object_type: Type.String(),
  object_id: Nullable(Type.String()),
  before: Anything,
  after: Anything,
  ip: Nullable(Type.String()),
  request_id: Nullable(Type.String()),
});

const rowJson = (row: AuditRow) => ({
  id: row.id.toString(),
  at: row.at.toISOString(),
  actor_role: row.actor_role,
  actor_id: row.actor_id,
  action: row.action,
  object_type: row.object_type,
  object_id: row.object_id,
  before: row.before,
  after: row.after,
  ip: row.ip,
  request_id: row.request_id,
});

/** Who did what: `/api/admin/audit/search`. */
export const auditPlugin: FastifyPluginAsyncTypebox<AuditPluginDeps> = async (app, { pool }) => {
  app.get(
    '/api/admin/audit/search',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Search the audit log',
        description:
          'Rows that fit all filters, latest first; from `from` up to, and without, `to`. `object_id` goes with ' +
          '`object_type`. The log is append-only and hash-chained: `traffic-share audit verify` proves it.',
        querystring: Type.Object(
          {
            actor_id: Type.Optional(Id),
            actor_role: Type.Optional(
              Type.Enum(['none', 'user', 'device', 'buyer', 'admin', 'bot', 'internal', 'system']),
            ),
            action: Type.Optional(Type.String({ pattern: '^[a-z_]{1,60}$', examples: ['policy_changed'] })),
            object_type: Type.Optional(Word),
            object_id: Type.Optional(Id),
            from: Type.Optional(Timestamp),
            to: Type.Optional(Timestamp),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(AuditSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { limit, cursor, ...query } = request.query;
      if (query.object_id !== undefined && query.object_type === undefined)
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/querystring/object_type', message: 'is required with object_id' }],
        });
      const [atUs = '', id = ''] =
        cursor === undefined ? [] : decodeCursor(cursor, [cursorPart.integer, cursorPart.integer]);
      const rows = await searchAudit(
        pool,
        {
          actorRole: query.actor_role,
          actorId: query.actor_id,
          action: query.action,
          objectType: query.object_type,
          objectId: query.object_id,
          from: query.from,
          to: query.to,
        },
        cursor === undefined ? null : { atUs, id },
        limit + 1,
      );
      const page = cutPage(rows, limit, (row) => [row.at_us, row.id]);
      return { items: page.rows.map(rowJson), next_cursor: page.nextCursor };
    },
  );
};
