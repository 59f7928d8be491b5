import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { GatewayCommand } from '../../gateway/live/records.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { Ok, problemResponses } from '../http/schemas.js';

export interface KillDeps {
  pool: pg.Pool;
  /** Tells every gateway; tried again until Redis has it. */
  live: { command(command: GatewayCommand): Promise<void> };
}

const Reason = Type.String({ minLength: 1, maxLength: 500, description: 'for the audit log' });

/** The brake: `/api/admin/kill`. */
export const killPlugin: FastifyPluginAsyncTypebox<KillDeps> = async (app, { pool, live }) => {
  app.post(
    '/api/admin/kill',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Cut streams now',
        description:
          'Ends the live streams of a buyer, provider, device or destination, or all of them, on every gateway ' +
          'within a second. It does not keep them from coming back: suspend, ban or deny for that.',
        body: Type.Union([
          Type.Object({ scope: Type.Literal('all'), reason: Reason }, { additionalProperties: false }),
          Type.Object(
            {
              scope: Type.Enum(['buyer', 'provider', 'device', 'destination']),
              id: Type.String({ minLength: 1, maxLength: 254 }),
              reason: Reason,
            },
            { additionalProperties: false },
          ),
        ]),
        response: { 200: Ok, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { body } = request;
      const id = body.scope === 'all' ? null : body.id;
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'kill',
        objectType: body.scope,
        objectId: id,
        after: { reason: body.reason },
      });
      await live.command({ kind: 'kill', scope: body.scope, id });
      return { ok: true as const };
    },
  );
};
