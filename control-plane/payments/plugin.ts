import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { sendPersonalCsv } from '../audit/personal-csv.js';
import { CRYPTOMUS_NOT_CONFIGURED } from '../cryptomus/settings.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { columnsOf, csvResponse } from '../http/csv-export.js';
import { sortParameter } from '../http/list-order.js';
import { actorOf } from '../http/roles.js';
import { Money, pageOf, pageQuery, problemResponses, Uuid } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import { approvePayout, type DecisionRefusal, type ReleaseRules, rejectPayout } from '../payouts/release.js';
import {
  listPayments,
  PAYMENT_SORTS,
  type PaymentKind,
  type PaymentStatus,
  paymentDays,
  readPayment,
} from './payments.js';
import { PaymentSchema, PaymentStatusSchema, paymentJson } from './schemas.js';

export interface PaymentsDeps {
  pool: pg.Pool;
  /** The rules in force now. */
  rules: () => Promise<ReleaseRules>;
  sender: { configured: boolean; work(payoutId: string): Promise<boolean> };
}

/** What the list and its export can be narrowed to and sorted by. */
const paymentFilters = {
  kind: Type.Optional(Type.Enum(['payout', 'topup'])),
  status: Type.Optional(PaymentStatusSchema),
  user_id: Type.Optional(Uuid),
  buyer_id: Type.Optional(Uuid),
  sort: sortParameter(PAYMENT_SORTS, '-created_at'),
};

const filterOf = (query: {
  kind?: PaymentKind;
  status?: PaymentStatus;
  user_id?: string;
  buyer_id?: string;
}) => ({ kind: query.kind, status: query.status, userId: query.user_id, buyerId: query.buyer_id });

const PaymentParams = Type.Object({ id: Uuid }, { additionalProperties: false });

function problemOf(refusal: DecisionRefusal): Problem {
  if (refusal.code === 'not_pending')
    return new Problem('payout_not_pending', `It is ${refusal.from}.`, { from: refusal.from });
  return new Problem(refusal.code === 'unknown' ? 'not_found' : refusal.code);
}

/** Payouts and top-ups for admins: what there is, who may be paid. */
export const paymentsPlugin: FastifyPluginAsyncTypebox<PaymentsDeps> = async (
  app,
  { pool, rules, sender },
) => {
  async function answer(id: string) {
    const payment = await readPayment(pool, id);
    if (payment === null) throw new Problem('not_found');
    return paymentJson(payment);
  }

  app.get(
    '/api/admin/payments',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Payouts and top-ups',
        description: '`user_id` gives the payouts of one provider, `buyer_id` the top-ups of one buyer.',
        querystring: Type.Object({ ...paymentFilters, ...pageQuery }, { additionalProperties: false }),
        response: { 200: pageOf(PaymentSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listPayments(pool, filterOf(request.query), request.query);
      return { items: page.rows.map(paymentJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/export/payments',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Payouts and top-ups as CSV',
        description: 'All that the list would page through. Who took it is in the audit log.',
        querystring: Type.Object(paymentFilters, { additionalProperties: false }),
        response: csvResponse,
      },
    },
    ({ query }, reply) =>
      sendPersonalCsv(pool, reply, 'payments', columnsOf(PaymentSchema, 'approvals'), async (page) => {
        const { rows, nextCursor } = await listPayments(pool, filterOf(query), { ...page, sort: query.sort });
        return { items: rows.map(paymentJson), next_cursor: nextCursor };
      }),
  );

  app.get(
    '/api/admin/payments/daily',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Payments by day',
        description: 'What was paid out and in on each of the last UTC days, today included, oldest first.',
        querystring: Type.Object(
          { days: Type.Integer({ minimum: 1, maximum: 366, default: 30 }) },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            items: Type.Array(
              Type.Object({
                day: Type.String({ format: 'date' }),
                payouts: Type.Integer(),
                payouts_amount: Money,
                topups: Type.Integer(),
                topups_amount: Money,
              }),
            ),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => ({
      items: (await paymentDays(pool, request.query.days)).map((d) => ({
        day: d.day,
        payouts: d.payouts,
        payouts_amount: formatMicros(d.payoutMicros),
        topups: d.topups,
        topups_amount: formatMicros(d.topupMicros),
      })),
    }),
  );

  app.post(
    '/api/admin/payments/:id/approve',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Approve a payout',
        description:
          'A pending payout is released and sent in the background; above setting `payout_two_admin_min` it takes two ' +
          'different admins. Nobody approves a payout to themselves. One that Cryptomus refused is sent again.',
        params: PaymentParams,
        response: { 200: PaymentSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { userId: adminId } = actorOf(request, 'admin');
      const { id } = request.params;
      if (!sender.configured) throw new Problem('payments_unavailable', CRYPTOMUS_NOT_CONFIGURED);
      const inForce = await rules();
      await withTransaction(pool, async (client) => {
        const decided = await approvePayout(client, id, adminId, inForce);
        if (!decided.ok) throw problemOf(decided);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'payout_approved',
          objectType: 'payout',
          objectId: id,
          before: { status: decided.before },
          after: {
            status: decided.payout.status,
            approvals: decided.approvals,
            approvals_needed: decided.approvalsNeeded,
          },
        });
      });
      return answer(id);
    },
  );

  app.post(
    '/api/admin/payments/:id/reject',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Reject a payout',
        description:
          'A pending payout is cancelled, one that Cryptomus refused has failed; the money is available again at once.',
        params: PaymentParams,
        body: Type.Object(
          { reason: Type.String({ minLength: 3, maxLength: 500 }) },
          { additionalProperties: false, examples: [{ reason: 'The address is on a sanctions list' }] },
        ),
        response: { 200: PaymentSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      const { reason } = request.body;
      await withTransaction(pool, async (client) => {
        const rejected = await rejectPayout(client, id, reason);
        if (!rejected.ok) throw problemOf(rejected);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'payout_rejected',
          objectType: 'payout',
          objectId: id,
          before: { status: rejected.before },
          after: { status: rejected.payout.status, reason },
        });
      });
      return answer(id);
    },
  );

  app.post(
    '/api/payments/cryptomus/create_payout',
    {
      config: { roles: ['admin', 'internal'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Send a released payout now',
        description:
          'Cryptomus is called once however often this is: one that was sent is looked up instead. The order id is the ' +
          'payment id without dashes. A payout that is not released is 409.',
        body: Type.Object(
          { payment_id: Uuid },
          {
            additionalProperties: false,
            examples: [{ payment_id: '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11' }],
          },
        ),
        response: { 200: PaymentSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const id = request.body.payment_id;
      if (!sender.configured) throw new Problem('payments_unavailable', CRYPTOMUS_NOT_CONFIGURED);
      const payment = await readPayment(pool, id);
      if (payment === null || payment.kind !== 'payout') throw new Problem('not_found');
      if (payment.sendState === null)
        throw new Problem('payout_not_released', `It is ${payment.status}.`, { from: payment.status });
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'payout_send_asked',
        objectType: 'payout',
        objectId: id,
        before: { status: payment.status, send_state: payment.sendState },
      });
      await sender.work(id);
      return answer(id);
    },
  );
};
