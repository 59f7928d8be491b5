import { randomUUID } from 'node:crypto';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { readBuyer } from '../buyers/buyers.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Bytes, Money, problemResponses, Uuid } from '../http/schemas.js';
import { readBalances } from '../ledger/ledger.js';
import { formatMicros, MONEY_PATTERN, parseMicros } from '../ledger/money.js';
import type { LiveState } from '../live-state/live-state.js';
import { type RefundRefusal, refundSession } from './refunds.js';
import { grantTrial } from './trial.js';

export interface CreditsDeps {
  pool: pg.Pool;
  live: Pick<LiveState, 'accountsChanged'>;
  /** In force now: bytes of the trial, and the price of a buyer without one of their own. */
  trial: () => Promise<{ trialBytes: number; defaultPriceMicrosPerGb: bigint }>;
}

function problemOf(refusal: RefundRefusal): Problem {
  switch (refusal.code) {
    case 'unknown_session':
      return new Problem('not_found');
    case 'several_buyers':
      return new Problem('several_buyers', undefined, { buyer_ids: refusal.buyerIds });
    case 'above_charged':
      return new Problem('above_charged', `Left to refund: ${formatMicros(refusal.leftMicros)}.`, {
        left: formatMicros(refusal.leftMicros),
      });
    case 'ledger_conflict':
      return new Problem('ledger_conflict');
  }
}

/** Money buyers are given: refunds of traffic sessions and the trial. */
export const creditsPlugin: FastifyPluginAsyncTypebox<CreditsDeps> = async (app, { pool, live, trial }) => {
  const balanceOf = async (buyerId: string) =>
    formatMicros((await readBalances(pool, 'buyer_prepaid', [buyerId])).get(buyerId)?.balanceMicros ?? 0n);

  app.post(
    '/api/admin/sessions/:id/refund',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Refund a traffic session to a buyer',
        description:
          'Everything the session was charged to the buyer, or `amount` of it; all refunds together never more. The ' +
          'platform pays, the provider keeps the earnings. `buyer_id` is needed when several buyers used the session.',
        params: Type.Object({ id: Uuid }, { additionalProperties: false }),
        body: Type.Object(
          {
            reason: Type.String({ minLength: 3, maxLength: 500 }),
            buyer_id: Type.Optional(Uuid),
            amount: Type.Optional(Type.String({ pattern: MONEY_PATTERN, description: 'US dollars' })),
          },
          { additionalProperties: false, examples: [{ reason: 'The exit was unusable', amount: '0.50' }] },
        ),
        response: {
          201: Type.Object({
            transaction_id: Uuid,
            buyer_id: Uuid,
            amount: Money,
            charged: Money,
            refunded: Type.String({ description: 'of the session to this buyer, in all' }),
            balance: Money,
            currency: Type.Literal('USD'),
          }),
          ...problemResponses(401, 403, 404, 409, 422),
        },
      },
    },
    async (request, reply) => {
      const { userId: adminId } = actorOf(request, 'admin');
      const { id: sessionId } = request.params;
      const { reason, buyer_id: buyerId = null, amount } = request.body;
      const amountMicros = amount === undefined ? null : parseMicros(amount);
      if (amount !== undefined && (amountMicros === null || amountMicros <= 0n))
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/amount', message: 'must be above zero and at most 10000000' }],
        });
      const key = request.headers['idempotency-key'];
      const refund = await withTransaction(pool, async (client) => {
        const refunded = await refundSession(client, {
          sessionId,
          buyerId,
          amountMicros,
          reason,
          key: typeof key === 'string' ? `${adminId}:${key}` : `once:${randomUUID()}`,
        });
        if (!refunded.ok) throw problemOf(refunded);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'session_refunded',
          objectType: 'session',
          objectId: sessionId,
          before: { refunded: formatMicros(refunded.refund.refundedMicros - refunded.refund.amountMicros) },
          after: {
            refunded: formatMicros(refunded.refund.refundedMicros),
            buyer_id: refunded.refund.buyerId,
            reason,
            transaction_id: refunded.refund.transactionId,
          },
        });
        return refunded.refund;
      });
      await live.accountsChanged([refund.buyerId]);
      return reply.code(201).send({
        transaction_id: refund.transactionId,
        buyer_id: refund.buyerId,
        amount: formatMicros(refund.amountMicros),
        charged: formatMicros(refund.chargedMicros),
        refunded: formatMicros(refund.refundedMicros),
        balance: await balanceOf(refund.buyerId),
        currency: 'USD' as const,
      });
    },
  );

  app.post(
    '/api/buyer/trial',
    {
      config: { roles: ['buyer'], idempotency: {} },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Take the trial',
        description: 'Once per buyer: setting `trial_bytes`, as money at my price on my prepaid balance.',
        response: {
          201: Type.Object({
            transaction_id: Uuid,
            bytes: Bytes,
            amount: Money,
            balance: Money,
            currency: Type.Literal('USD'),
          }),
          ...problemResponses(401, 403, 409, 422),
        },
      },
    },
    async (request, reply) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { trialBytes, defaultPriceMicrosPerGb } = await trial();
      const granted = await withTransaction(pool, async (client) => {
        const buyer = await readBuyer(client, buyerId);
        if (buyer === null) throw new Problem('not_found');
        const price = buyer.priceMicrosPerGb ?? defaultPriceMicrosPerGb;
        const given = await grantTrial(client, buyerId, BigInt(trialBytes), price);
        if (!given.ok) throw new Problem(given.code === 'unavailable' ? 'trial_unavailable' : 'trial_used');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'trial_granted',
          objectType: 'buyer',
          objectId: buyerId,
          after: {
            bytes: trialBytes,
            amount: formatMicros(given.amountMicros),
            transaction_id: given.transactionId,
          },
        });
        return given;
      });
      await live.accountsChanged([buyerId]);
      return reply.code(201).send({
        transaction_id: granted.transactionId,
        bytes: trialBytes,
        amount: formatMicros(granted.amountMicros),
        balance: await balanceOf(buyerId),
        currency: 'USD' as const,
      });
    },
  );
};
