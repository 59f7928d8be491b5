import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { Problem } from '../errors.js';
import { jsonBytes, Money, Nullable, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { readBalances } from '../ledger/ledger.js';
import { formatMicros } from '../ledger/money.js';
import { type Hold, readHeld, readHolds } from './held.js';

const HOLDS_MAX = 500;

const Amount = Type.String({ description: 'US dollars of kind `buyer`, else whole bytes' });

const HoldSchema = Type.Object({
  kind: Type.Enum(['buyer', 'package', 'sub_user', 'day', 'month']),
  owner_id: Uuid,
  gateway_id: Type.String(),
  run: Type.String({ description: 'one start of that gateway' }),
  granted: Amount,
  renounced: Amount,
  spent: Amount,
  held: Amount,
  closed_at: Nullable(Timestamp),
  created_at: Timestamp,
  updated_at: Timestamp,
});

const holdJson = (hold: Hold) => {
  const amount = (units: bigint) => (hold.kind === 'buyer' ? formatMicros(units) : String(jsonBytes(units)));
  return {
    kind: hold.kind,
    owner_id: hold.ownerId,
    gateway_id: hold.gatewayId,
    run: hold.run,
    granted: amount(hold.granted),
    renounced: amount(hold.renounced),
    spent: amount(hold.spent),
    held: amount(hold.held),
    closed_at: hold.closedAt?.toISOString() ?? null,
    created_at: hold.createdAt.toISOString(),
    updated_at: hold.updatedAt.toISOString(),
  };
};

/** What is set aside for running traffic, for admins. */
export const walletsPlugin: FastifyPluginAsyncTypebox<{ pool: pg.Pool }> = async (app, { pool }) => {
  app.get(
    '/api/admin/wallets',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: "A buyer's holds",
        description:
          'What is set aside for running traffic, by gateway and by its start: of the money, of pulled packages and ' +
          'of sub-users with a limit, and of bytes a day and month. `held` is granted less what was given back and what is spent. At most 500, ' +
          'open ones first.',
        querystring: Type.Object(
          {
            buyer_id: Uuid,
            include_closed: Type.Optional(Type.Boolean({ description: 'holds of ended starts, too' })),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            balance: Money,
            held: Money,
            available: Money,
            currency: Type.Literal('USD'),
            holds: Type.Array(HoldSchema),
          }),
          ...problemResponses(401, 403, 404),
        },
      },
    },
    async (request) => {
      const { buyer_id: buyerId, include_closed: includeClosed = false } = request.query;
      const known = await pool.query('SELECT 1 FROM buyers WHERE id = $1', [buyerId]);
      if (!known.rowCount) throw new Problem('not_found');
      const [balances, held, holds] = await Promise.all([
        readBalances(pool, 'buyer_prepaid', [buyerId]),
        readHeld(pool, 'buyer', [buyerId]),
        readHolds(pool, buyerId, { includeClosed, limit: HOLDS_MAX }),
      ]);
      const balanceMicros = balances.get(buyerId)?.balanceMicros ?? 0n;
      const heldMicros = held.get(buyerId) ?? 0n;
      return {
        balance: formatMicros(balanceMicros),
        held: formatMicros(heldMicros),
        available: formatMicros(balanceMicros - heldMicros),
        currency: 'USD' as const,
        holds: holds.map(holdJson),
      };
    },
  );
};
