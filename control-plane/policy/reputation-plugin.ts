import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { isCidr } from '../../gateway/runtime/addresses.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { Ok, problemResponses, Timestamp } from '../http/schemas.js';
import { VERDICTS, writeReputations } from './reputation.js';

export interface ReputationDeps {
  pool: pg.Pool;
}

/** Updates of one call. */
const UPDATES_MAX = 1_000;

/** IP reputation, from services of our own: `/api/webhook/ipintel`. */
export const reputationPlugin: FastifyPluginAsyncTypebox<ReputationDeps> = async (app, { pool }) => {
  app.post(
    '/api/webhook/ipintel',
    {
      config: { roles: ['internal'], idempotency: {} },
      schema: {
        tags: ['System'],
        summary: 'Updates of IP reputation',
        description:
          'Devices on networks with another verdict than `clean` may not start sharing (`vpn_detected`; `abuse`: ' +
          '`denylisted`), at once. The narrowest network that is known decides; what was said of a network before is ' +
          'replaced.',
        body: Type.Object(
          {
            source: Type.String({ pattern: '^[A-Za-z0-9._-]{1,60}$', examples: ['ipintel'] }),
            updates: Type.Array(
              Type.Object(
                {
                  network: Type.String({
                    pattern: '^[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?$',
                    examples: ['203.0.113.0/24'],
                  }),
                  verdict: Type.Enum([...VERDICTS]),
                  expires_at: Type.Optional(Timestamp),
                },
                { additionalProperties: false },
              ),
              { minItems: 1, maxItems: UPDATES_MAX },
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: Ok, ...problemResponses(401, 403, 409) },
      },
    },
    async (request) => {
      const { source, updates } = request.body;
      const wrong = updates.flatMap(({ network }, i) =>
        isCidr(network)
          ? []
          : [{ path: `/body/updates/${i}/network`, message: 'must be an address or a CIDR' }],
      );
      if (wrong.length > 0) throw new Problem('validation_failed', undefined, { errors: wrong });
      await withTransaction(pool, async (client) => {
        await writeReputations(
          client,
          source,
          updates.map(({ network, verdict, expires_at: expiresAt = null }) => ({
            network,
            verdict,
            expiresAt,
          })),
        );
        await recordAudit(client, {
          ...auditContext(request),
          action: 'reputation_updated',
          objectType: 'policy',
          objectId: 'ip_reputation',
          after: { source, updates },
        });
      });
      return { ok: true as const };
    },
  );
};
