import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { CRYPTOMUS_NOT_CONFIGURED } from '../cryptomus/settings.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Money, Nullable, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros, parseMicros } from '../ledger/money.js';
import type { TopUpKeeper } from './keeper.js';
import type { StarTopUps } from './star-topups.js';
import { listTopUps, type TopUp } from './topups.js';

export interface TopUpsDeps {
  pool: pg.Pool;
  keeper: Pick<TopUpKeeper, 'open'>;
  stars: Pick<StarTopUps, 'open'>;
  /** Smallest and largest top-up in force now, micro-dollars. */
  bounds: () => Promise<{ amountMicrosMin: bigint; amountMicrosMax: bigint }>;
}

const TopUpSchema = Type.Object({
  id: Uuid,
  status: Type.Enum(['pending', 'processing', 'completed', 'failed', 'cancelled']),
  method: Type.Enum(['cryptomus', 'telegram_stars']),
  amount: Money,
  stars: Nullable(Type.Integer({ description: 'Telegram Stars that the invoice asks' })),
  credited: Nullable(Type.String({ description: 'what was really paid, once credited' })),
  currency: Type.Literal('USD'),
  url: Nullable(Type.String({ description: 'where to pay' })),
  tx_reference: Nullable(Type.String({ description: 'transaction on the chain' })),
  failure_reason: Nullable(Type.String()),
  created_at: Timestamp,
  expires_at: Nullable(Timestamp),
  ended_at: Nullable(Timestamp),
  refunded_at: Nullable(
    Type.String({ format: 'date-time', description: 'Stars given back, the credit taken back' }),
  ),
});

const topUpJson = (t: TopUp) => ({
  id: t.id,
  status: t.status,
  method: t.method,
  amount: formatMicros(t.amountMicros),
  stars: t.stars,
  credited: t.creditedMicros === null ? null : formatMicros(t.creditedMicros),
  currency: 'USD' as const,
  url: t.url,
  tx_reference: t.txReference,
  failure_reason: t.failureReason,
  created_at: t.createdAt.toISOString(),
  expires_at: t.expiresAt?.toISOString() ?? null,
  ended_at: t.endedAt?.toISOString() ?? null,
  refunded_at: t.refundedAt?.toISOString() ?? null,
});

/** Buyers pay in: invoices and what became of them. */
export const topUpsPlugin: FastifyPluginAsyncTypebox<TopUpsDeps> = async (app, deps) => {
  const { pool, keeper, stars, bounds } = deps;
  app.post(
    '/api/buyer/topups',
    {
      config: { roles: ['buyer'], idempotency: {} },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Top up my balance',
        description:
          'Makes an invoice; pay at `url`. The balance grows by what is really paid, less or more than `amount`, ' +
          'once the chain has confirmed it. Bounds are settings `topup_min` and `topup_max`. With `telegram_stars` anybody ' +
          'with Telegram can pay at `url`; the amount is rounded up to whole Stars of the price in setting `star_price`.',
        body: Type.Object(
          {
            amount: Type.String({
              pattern: '^(0|[1-9][0-9]{0,7})(\\.[0-9]{1,2})?$',
              description: 'US dollars, whole cents',
            }),
            method: Type.Optional(
              Type.Enum(['cryptomus', 'telegram_stars'], { description: 'default: cryptomus' }),
            ),
          },
          {
            additionalProperties: false,
            examples: [{ amount: '25.00' }, { amount: '25.00', method: 'telegram_stars' }],
          },
        ),
        response: { 201: TopUpSchema, ...problemResponses(401, 403, 409, 422) },
      },
    },
    async (request, reply) => {
      const { buyerId } = actorOf(request, 'buyer');
      const amountMicros = parseMicros(request.body.amount);
      const { amountMicrosMin, amountMicrosMax } = await bounds();
      if (amountMicros === null || amountMicros < amountMicrosMin || amountMicros > amountMicrosMax)
        throw new Problem(
          'topup_out_of_bounds',
          `From ${formatMicros(amountMicrosMin)} to ${formatMicros(amountMicrosMax)} US dollars.`,
          { minimum: formatMicros(amountMicrosMin), maximum: formatMicros(amountMicrosMax) },
        );
      const { method = 'cryptomus' } = request.body;
      const opened = await (method === 'cryptomus' ? keeper : stars).open(
        buyerId,
        amountMicros,
        (client, topUp) =>
          recordAudit(client, {
            ...auditContext(request),
            action: 'topup_opened',
            objectType: 'topup',
            objectId: topUp.id,
            after: { amount: formatMicros(topUp.amountMicros), method },
          }),
      );
      if (!opened.ok && opened.code === 'stars_unavailable') throw new Problem('stars_unavailable');
      if (!opened.ok && opened.code === 'not_configured')
        throw new Problem('payments_unavailable', CRYPTOMUS_NOT_CONFIGURED);
      if (!opened.ok)
        throw new Problem(opened.code === 'refused' ? 'payment_refused' : 'payments_unavailable');
      return reply.code(201).send(topUpJson(opened.topUp));
    },
  );

  app.get(
    '/api/buyer/topups',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My top-ups',
        description: 'Latest first.',
        querystring: Type.Object({ ...pageQuery }, { additionalProperties: false }),
        response: { 200: pageOf(TopUpSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const page = await listTopUps(pool, buyerId, request.query);
      return { items: page.rows.map(topUpJson), next_cursor: page.nextCursor };
    },
  );
};
