import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Money, Nullable, problemResponses, Timestamp } from '../http/schemas.js';
import { formatMicros, MONEY_PATTERN, PRICE_MICROS_PER_GB_MAX, parseMicros } from '../ledger/money.js';
import type { LiveState } from '../live-state/live-state.js';
import { priceHistory, providerPrice, setDailyPrice } from './prices.js';

export interface PricingDeps {
  pool: pg.Pool;
  clock: Clock;
  live: Pick<LiveState, 'priceChanged'>;
  /** While no daily price was ever set, micro-dollars per GB. */
  defaultProviderPrice: bigint;
}

const Day = Type.String({ format: 'date' });
const PriceBody = Type.Object(
  {
    price_per_gb: Type.String({ pattern: MONEY_PATTERN, description: 'US dollars, from 0 to 1000' }),
    day: Type.Optional(Type.String({ format: 'date', description: 'UTC day, today (default) or later' })),
  },
  { additionalProperties: false, examples: [{ price_per_gb: '0.50' }] },
);

/** A price of the API as micro-dollars per GB; throws validation_failed. */
export function parsePrice(text: string, path: string): bigint {
  const micros = parseMicros(text);
  if (micros === null || micros < 0n || micros > PRICE_MICROS_PER_GB_MAX)
    throw new Problem('validation_failed', undefined, {
      errors: [{ path, message: 'must be from 0 to 1000 with at most six decimal places' }],
    });
  return micros;
}

/** What providers earn for a GB: `/api/daily_price`. */
export const pricingPlugin: FastifyPluginAsyncTypebox<PricingDeps> = async (app, deps) => {
  const { pool, clock, live, defaultProviderPrice } = deps;

  app.get(
    '/api/daily_price',
    {
      config: { roles: ['none'] },
      schema: {
        tags: ['Traffic'],
        summary: "Today's provider price",
        description:
          'What a provider earns for a GB (10^9 bytes) relayed today, and on the days before. A day without a price ' +
          'of its own has the last one set.',
        querystring: Type.Object(
          { days: Type.Integer({ minimum: 1, maximum: 366, default: 30 }) },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            day: Day,
            price_per_gb: Money,
            currency: Type.Literal('USD'),
            set_at: Nullable(Timestamp),
            history: Type.Array(Type.Object({ day: Day, price_per_gb: Money })),
          }),
          ...problemResponses(),
        },
      },
    },
    async (request) => {
      const nowMs = clock.nowMs();
      const price = await providerPrice(pool, nowMs, defaultProviderPrice);
      const history = await priceHistory(pool, nowMs, request.query.days, defaultProviderPrice);
      return {
        day: new Date(nowMs).toISOString().slice(0, 10),
        price_per_gb: formatMicros(price.microsPerGb),
        currency: 'USD' as const,
        set_at: price.setAt?.toISOString() ?? null,
        history: history.map((h) => ({ day: h.day, price_per_gb: formatMicros(h.microsPerGb) })),
      };
    },
  );

  app.post(
    '/api/admin/daily_price',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: "Set a day's provider price",
        description:
          'In force on every gateway within a second (a later day: from its midnight UTC) until another day has a ' +
          'price. Bytes relayed before keep the price they were relayed at.',
        body: PriceBody,
        response: {
          200: Type.Object({ day: Day, price_per_gb: Money, before: Nullable(Money) }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const price = parsePrice(request.body.price_per_gb, '/body/price_per_gb');
      const today = new Date(clock.nowMs()).toISOString().slice(0, 10);
      const day = request.body.day ?? today;
      if (day < today)
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/day', message: 'must not be in the past: those bytes have been paid' }],
        });
      const before = await withTransaction(pool, async (client) => {
        const { beforeMicrosPerGb } = await setDailyPrice(client, day, price, userId);
        const told = beforeMicrosPerGb === null ? null : formatMicros(beforeMicrosPerGb);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'daily_price_set',
          objectType: 'daily_price',
          objectId: day,
          before: { price_per_gb: told },
          after: { price_per_gb: formatMicros(price) },
        });
        return told;
      });
      await live.priceChanged();
      return { day, price_per_gb: formatMicros(price), before };
    },
  );
};
