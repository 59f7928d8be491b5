import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Money, problemResponses, Uuid } from '../http/schemas.js';
import type { JobRunner } from '../jobs/runner.js';
import { formatMicros } from '../ledger/money.js';
import type { LiveState } from '../live-state/live-state.js';
import { isHeldByTraffic } from '../wallets/held.js';
import { askStarRefund } from './star-refunds.js';

export interface StarRefundDeps {
  pool: pg.Pool;
  jobs: Pick<JobRunner, 'runNow'>;
  live: Pick<LiveState, 'accountsChanged'>;
}

/** An admin gives a top-up in Telegram Stars back. */
export const starRefundPlugin: FastifyPluginAsyncTypebox<StarRefundDeps> = async (
  app,
  { pool, jobs, live },
) => {
  app.post(
    '/api/admin/payments/:id/refund',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Give a top-up in Telegram Stars back',
        description:
          'What was credited leaves the balance at once; the Stars are given back in the background, and the top-up ' +
          'then has `refunded_at`. 422 when the buyer has spent it or running traffic holds it. Of other payments: 404.',
        params: Type.Object({ id: Uuid }, { additionalProperties: false }),
        body: Type.Object(
          { reason: Type.String({ minLength: 3, maxLength: 500 }) },
          { additionalProperties: false, examples: [{ reason: 'Paid by mistake' }] },
        ),
        response: {
          202: Type.Object({ payment_id: Uuid, refunding: Money }),
          ...problemResponses(401, 403, 404, 409, 422),
        },
      },
    },
    async (request, reply) => {
      const { userId: adminId } = actorOf(request, 'admin');
      const { id } = request.params;
      const { reason } = request.body;
      const asked = await withTransaction(pool, async (client) => {
        const result = await askStarRefund(client, id, adminId, reason);
        if (!result.ok) throw new Problem(result.code);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'star_refund_asked',
          objectType: 'topup',
          objectId: id,
          after: { charge_id: result.chargeId, amount: formatMicros(result.amountMicros), reason },
        });
        await jobs.runNow(client, 'notifications'); // which empties the outbox
        return result;
      }).catch((error: unknown) => {
        throw isHeldByTraffic(error) ? new Problem('held_by_traffic') : error;
      });
      await live.accountsChanged([asked.buyerId]);
      return reply.code(202).send({ payment_id: id, refunding: formatMicros(asked.amountMicros) });
    },
  );
};
