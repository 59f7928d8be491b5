import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Log } from '../../gateway/runtime/logging.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { actorOf, subjectUserId } from '../http/roles.js';
import {
  Money,
  Nullable,
  pageOf,
  pageQuery,
  problemResponses,
  TelegramId,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import { readBalances } from '../ledger/ledger.js';
import { formatMicros, MONEY_PATTERN, parseMicros } from '../ledger/money.js';
import type { LiveState } from '../live-state/live-state.js';
import { findUserByTelegramId } from '../users/users.js';
import { isHeldByTraffic } from '../wallets/held.js';
import { adjustBalance } from './adjustments.js';
import { readProviderBalance, readStatement } from './balance.js';
import { BalanceSchema, balanceJson } from './schemas.js';

export interface BalanceDeps {
  pool: pg.Pool;
  log: Log;
  live: Pick<LiveState, 'accountsChanged'>;
  settlement: { settleNow(): Promise<void> };
}

const TelegramParams = Type.Object({ telegram_id: TelegramId }, { additionalProperties: false });
const UserQuery = Type.Object(
  { user_id: Type.Optional(Type.String({ format: 'uuid', description: 'admins: whose' })) },
  { additionalProperties: false },
);

const CreditBody = Type.Object(
  {
    buyer_id: Type.Optional(Uuid),
    user_id: Type.Optional(Uuid),
    amount: Type.String({ pattern: MONEY_PATTERN, description: 'US dollars; negative takes away' }),
    reason: Type.String({ minLength: 3, maxLength: 500 }),
    allow_below_zero: Type.Optional(
      Type.Boolean({ description: "lets a provider's balance fall below zero; default false" }),
    ),
  },
  {
    additionalProperties: false,
    examples: [
      {
        buyer_id: '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11',
        amount: '25.00',
        reason: 'Bank transfer of 26 November',
      },
    ],
  },
);

/** Providers' balances, and an admin's adjustments of anybody's. */
export const balancePlugin: FastifyPluginAsyncTypebox<BalanceDeps> = async (app, deps) => {
  const { pool, log, live, settlement } = deps;

  app.get(
    '/api/balance',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Balance'],
        summary: 'My balance',
        description:
          'From the ledger. `lifetime` is everything ever credited: available, pending and withdrawn.',
        querystring: UserQuery,
        response: { 200: BalanceSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) =>
      balanceJson(await readProviderBalance(pool, subjectUserId(request, request.query.user_id))),
  );

  app.get(
    '/api/user/balance/:telegram_id',
    {
      config: { roles: ['user', 'admin', 'bot'] },
      schema: {
        tags: ['Balance'],
        summary: 'Balance by Telegram id',
        description: 'The own one; admins and the bot any.',
        params: TelegramParams,
        response: { 200: BalanceSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const actor = actorOf(request, 'user', 'admin', 'bot');
      const userId = (await findUserByTelegramId(pool, request.params.telegram_id))?.id;
      if (actor.role === 'user' && userId !== actor.userId) throw new Problem('forbidden');
      if (userId === undefined) throw new Problem('not_found');
      return balanceJson(await readProviderBalance(pool, userId));
    },
  );

  app.post(
    '/api/user/refresh_balance',
    {
      config: { roles: ['user', 'device'], rateLimit: { max: 30, timeWindow: 60_000 } },
      schema: {
        tags: ['Balance'],
        summary: 'Settle now, then my balance',
        description:
          'Books what the gateways have reported so far. While that is not possible, what is booked.',
        response: { 200: BalanceSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user', 'device');
      await settlement
        .settleNow()
        .catch((error) => log.warn({ err: error }, 'balance_answered_without_settling'));
      return balanceJson(await readProviderBalance(pool, userId));
    },
  );

  app.get(
    '/api/balance/entries',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['Balance'],
        summary: 'My statement',
        description:
          'The ledger as the provider sees it, newest first. A hold release moves pending to available.',
        querystring: Type.Object({ ...UserQuery.properties, ...pageQuery }, { additionalProperties: false }),
        response: {
          200: pageOf(
            Type.Object({
              id: Type.String(),
              kind: Type.String(),
              account: Type.Union([Type.Literal('pending'), Type.Literal('available')]),
              amount: Money,
              balance_after: Money,
              currency: Type.Literal('USD'),
              description: Nullable(Type.String()),
              created_at: Timestamp,
            }),
          ),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const userId = subjectUserId(request, request.query.user_id);
      const { limit, cursor } = request.query;
      const before = cursor === undefined ? null : (decodeCursor(cursor, [cursorPart.integer])[0] ?? null);
      const lines = await readStatement(pool, userId, before, limit + 1);
      const page = cutPage(lines, limit, (line) => [line.id]);
      return {
        items: page.rows.map((l) => ({
          id: l.id.toString(),
          kind: l.kind,
          account: l.account,
          amount: formatMicros(l.amountMicros),
          balance_after: formatMicros(l.balanceAfterMicros),
          currency: 'USD' as const,
          description: l.description,
          created_at: l.createdAt.toISOString(),
        })),
        next_cursor: page.nextCursor,
      };
    },
  );

  app.post(
    '/api/admin/credits',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: "Adjust a buyer's or provider's balance",
        description:
          'A ledger transaction against platform funding, with the reason. Name either `buyer_id` (prepaid balance) ' +
          'or `user_id` (available balance). With an `Idempotency-Key` it is booked once, whatever happens.',
        body: CreditBody,
        response: {
          201: Type.Object({
            transaction_id: Uuid,
            amount: Money,
            balance: Money,
            currency: Type.Literal('USD'),
          }),
          ...problemResponses(401, 403, 404, 409, 422),
        },
      },
    },
    async (request, reply) => {
      const { userId: adminId } = actorOf(request, 'admin');
      const {
        buyer_id: buyerId,
        user_id: userId,
        reason,
        allow_below_zero: mayGoBelowZero = false,
      } = request.body;
      const amountMicros = parseMicros(request.body.amount);
      const errors: { path: string; message: string }[] = [];
      if ((buyerId === undefined) === (userId === undefined))
        errors.push({ path: '/body/buyer_id', message: 'name either buyer_id or user_id' });
      if (amountMicros === null || amountMicros === 0n)
        errors.push({ path: '/body/amount', message: 'must not be zero, and at most 10000000' });
      if (errors.length > 0 || amountMicros === null)
        throw new Problem('validation_failed', undefined, { errors });
      const of =
        buyerId === undefined
          ? ({ kind: 'provider', id: userId as string } as const)
          : ({ kind: 'buyer', id: buyerId } as const);
      const key = request.headers['idempotency-key'];
      const transactionId = await withTransaction(pool, async (client) => {
        const adjusted = await adjustBalance(client, {
          of,
          amountMicros,
          reason,
          adminId,
          key: typeof key === 'string' ? key : null,
          mayGoBelowZero,
        });
        if (!adjusted.ok)
          throw adjusted.code === 'unknown'
            ? new Problem('not_found', `There is no such ${of.kind === 'buyer' ? 'buyer' : 'user'}.`)
            : new Problem(adjusted.code);
        if (adjusted.fresh)
          await recordAudit(client, {
            ...auditContext(request),
            action: 'balance_adjusted',
            objectType: of.kind === 'buyer' ? 'buyer' : 'user',
            objectId: of.id,
            after: { amount: formatMicros(amountMicros), reason, transaction_id: adjusted.transactionId },
          });
        return adjusted.transactionId;
      }).catch((error) => {
        throw isHeldByTraffic(error) ? new Problem('held_by_traffic') : error;
      });
      // Not only the balance: a gateway that holds the old one must not refuse a buyer who has just paid, and the
      // command that comes with the account makes it look again.
      if (buyerId !== undefined) await live.accountsChanged([buyerId]);
      const account = of.kind === 'buyer' ? 'buyer_prepaid' : 'provider_available';
      const balance = (await readBalances(pool, account, [of.id])).get(of.id)?.balanceMicros ?? 0n;
      return reply.code(201).send({
        transaction_id: transactionId,
        amount: formatMicros(amountMicros),
        balance: formatMicros(balance),
        currency: 'USD',
      });
    },
  );
};
