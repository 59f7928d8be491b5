import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Money, Nullable, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros, MONEY_PATTERN, parseMicros } from '../ledger/money.js';
import { PAYOUT_NETWORK_NAMES, PAYOUT_NETWORKS } from './addresses.js';
import {
  listPayouts,
  movePayout,
  type Payout,
  type PayoutRefusal,
  type PayoutRules,
  readPayout,
  requestPayout,
} from './payouts.js';

export interface PayoutsDeps {
  pool: pg.Pool;
  /** The rules in force now. */
  rules: () => Promise<PayoutRules>;
}

const Status = Type.Enum(['pending', 'processing', 'completed', 'failed', 'cancelled']);
const PaymentParams = Type.Object({ payment_id: Uuid }, { additionalProperties: false });

const PayoutSchema = Type.Object({
  payment_id: Uuid,
  user_id: Uuid,
  status: Status,
  amount: Money,
  method: Type.Literal('cryptomus'),
  network: Type.String(),
  currency: Type.Literal('USDT'),
  target: Type.String({ description: 'the address it goes to' }),
  tx_reference: Nullable(Type.String({ description: 'transaction on the chain, once it is known' })),
  failure_reason: Nullable(Type.String()),
  created_at: Timestamp,
  processing_at: Nullable(Timestamp),
  ended_at: Nullable(Timestamp),
});

const payoutJson = (p: Payout) => ({
  payment_id: p.id,
  user_id: p.userId,
  status: p.status,
  amount: formatMicros(p.amountMicros),
  method: p.method,
  network: p.network,
  currency: p.currency,
  target: p.target,
  tx_reference: p.txReference,
  failure_reason: p.failureReason,
  created_at: p.createdAt.toISOString(),
  processing_at: p.processingAt?.toISOString() ?? null,
  ended_at: p.endedAt?.toISOString() ?? null,
});

const RequestBody = Type.Object(
  {
    amount: Type.String({ pattern: MONEY_PATTERN, description: 'US dollars' }),
    method: Type.Literal('cryptomus'),
    network: Type.String({ minLength: 2, maxLength: 20, description: 'one of setting `withdraw_networks`' }),
    currency: Type.Literal('USDT'),
    target: Type.String({ minLength: 1, maxLength: 128, description: 'address on that network' }),
  },
  {
    additionalProperties: false,
    examples: [
      {
        amount: '5.00',
        method: 'cryptomus',
        network: 'TRON',
        currency: 'USDT',
        target: 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t',
      },
    ],
  },
);

function problemOf(refusal: PayoutRefusal): Problem {
  switch (refusal.code) {
    case 'below_minimum':
      return new Problem(refusal.code, `The smallest payout is ${formatMicros(refusal.minimumMicros)}.`, {
        minimum: formatMicros(refusal.minimumMicros),
      });
    case 'network_not_allowed':
      return new Problem(refusal.code, undefined, { networks: refusal.networks });
    case 'over_daily_limit':
      return new Problem(refusal.code, `Left for today: ${formatMicros(refusal.leftMicros)}.`, {
        left: formatMicros(refusal.leftMicros),
      });
    default:
      return new Problem(refusal.code);
  }
}

/** Withdrawals of providers. */
export const payoutsPlugin: FastifyPluginAsyncTypebox<PayoutsDeps> = async (app, { pool, rules }) => {
  /** One payout that the caller may see. */
  async function visible(request: FastifyRequest, payoutId: string): Promise<Payout> {
    const actor = actorOf(request, 'user', 'admin');
    const payout = await readPayout(pool, payoutId);
    if (payout === null) throw new Problem('not_found');
    if (actor.role === 'user' && payout.userId !== actor.userId) throw new Problem('forbidden');
    return payout;
  }

  for (const path of ['/api/withdraw', '/api/withdraw/request'])
    app.post(
      path,
      {
        config: { roles: ['user'], idempotency: {} },
        schema: {
          tags: ['Balance'],
          summary: 'Withdraw',
          description:
            'The amount leaves the available balance at once and waits to be released; it comes back when the payout ' +
            'is cancelled or fails. The address is checked down to its checksum.',
          body: RequestBody,
          response: { 201: PayoutSchema, ...problemResponses(401, 403, 409, 422) },
        },
      },
      async (request, reply) => {
        const { userId } = actorOf(request, 'user');
        const { amount, network, target } = request.body;
        const amountMicros = parseMicros(amount);
        if (amountMicros === null || amountMicros <= 0n)
          throw new Problem('validation_failed', undefined, {
            errors: [{ path: '/body/amount', message: 'must be above zero and at most 10000000' }],
          });
        const inForce = await rules();
        const payout = await withTransaction(pool, async (client) => {
          const made = await requestPayout(client, { userId, amountMicros, network, target }, inForce);
          if (!made.ok) throw problemOf(made);
          await recordAudit(client, {
            ...auditContext(request),
            action: 'payout_requested',
            objectType: 'payout',
            objectId: made.payout.id,
            after: { amount: formatMicros(amountMicros), network, target },
          });
          return made.payout;
        });
        return reply.code(201).send(payoutJson(payout));
      },
    );

  app.get(
    '/api/withdraw/networks',
    {
      config: { roles: ['user', 'admin'] },
      schema: {
        tags: ['Balance'],
        summary: 'Networks for payouts',
        description:
          'All that there are, as a page offers them; payouts go over those that are `open` (setting `withdraw_networks`).',
        response: {
          200: Type.Object({
            items: Type.Array(
              Type.Object({
                network: Type.Enum([...PAYOUT_NETWORKS]),
                name: Type.String({ description: 'for people' }),
                open: Type.Boolean(),
              }),
            ),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async () => {
      const { networks } = await rules();
      return {
        items: PAYOUT_NETWORKS.map((network) => ({
          network,
          name: PAYOUT_NETWORK_NAMES[network],
          open: networks.includes(network),
        })),
      };
    },
  );

  app.get(
    '/api/withdraw',
    {
      config: { roles: ['user', 'admin'] },
      schema: {
        tags: ['Balance'],
        summary: 'My payouts',
        description: 'Latest first. Admins see those of everyone, or of `user_id`.',
        querystring: Type.Object(
          { status: Type.Optional(Status), user_id: Type.Optional(Uuid), ...pageQuery },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(PayoutSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const actor = actorOf(request, 'user', 'admin');
      const { status, user_id: queried, limit, cursor } = request.query;
      if (actor.role === 'user' && queried !== undefined && queried !== actor.userId)
        throw new Problem('forbidden');
      const userId = actor.role === 'user' ? actor.userId : queried;
      const page = await listPayouts(pool, { userId, status }, { limit, cursor });
      return { items: page.rows.map(payoutJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/withdraw/status/:payment_id',
    {
      config: { roles: ['user', 'admin'] },
      schema: {
        tags: ['Balance'],
        summary: 'One payout',
        description: 'pending → processing → completed or failed; or cancelled while pending.',
        params: PaymentParams,
        response: { 200: PayoutSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => payoutJson(await visible(request, request.params.payment_id)),
  );

  app.post(
    '/api/withdraw/:payment_id/cancel',
    {
      config: { roles: ['user', 'admin'], idempotency: {} },
      schema: {
        tags: ['Balance'],
        summary: 'Cancel a payout',
        description: 'While it is pending; the money is available again at once. Repeating it is harmless.',
        params: PaymentParams,
        response: { 200: PayoutSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = await visible(request, request.params.payment_id);
      const payout = await withTransaction(pool, async (client) => {
        const moved = await movePayout(client, id, 'cancelled');
        if (!moved.ok) {
          if (moved.code === 'unknown') throw new Problem('not_found');
          if (moved.from === 'cancelled') return readPayout(client, id);
          throw new Problem('payout_not_pending', `It is ${moved.from}.`, { from: moved.from });
        }
        await recordAudit(client, {
          ...auditContext(request),
          action: 'payout_cancelled',
          objectType: 'payout',
          objectId: id,
          before: { status: moved.before },
          after: { status: moved.payout.status },
        });
        return moved.payout;
      });
      if (payout === null) throw new Problem('not_found');
      return payoutJson(payout);
    },
  );
};
