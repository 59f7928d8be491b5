import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { limitBy } from '../http/rate-limit.js';
import { actorOf } from '../http/roles.js';
import {
  Money,
  Nullable,
  Ok,
  pageOf,
  pageQuery,
  problemResponses,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import { readBalances } from '../ledger/ledger.js';
import { formatMicros, MONEY_PATTERN, parseMicros } from '../ledger/money.js';
import {
  changePromoCode,
  createPromoCode,
  findPromoCode,
  listPromoCodes,
  type PromoCode,
  redeemPromoCode,
} from './promo-codes.js';

/** Codes one user may try in an hour; above it 429. Codes are words, and could be guessed. */
const TRIES_PER_HOUR = 30;
const HOUR_MS = 3_600_000;

const Code = Type.String({ pattern: '^[A-Za-z0-9_-]{3,32}$', examples: ['WELCOME-5'] });
const Count = Type.Integer({ minimum: 1, maximum: 1_000_000_000 });
const Description = Type.String({ minLength: 1, maxLength: 500 });
const Params = Type.Object({ id: Uuid }, { additionalProperties: false });

const PromoSchema = Type.Object({
  id: Uuid,
  code: Type.String(),
  bonus: Money,
  currency: Type.Literal('USD'),
  uses_max: Type.Integer(),
  per_user_max: Type.Integer(),
  uses: Type.Integer(),
  status: Type.Enum(['active', 'disabled']),
  description: Nullable(Type.String()),
  expires_at: Nullable(Timestamp),
  created_at: Timestamp,
  updated_at: Timestamp,
});

function promoJson(p: PromoCode): Static<typeof PromoSchema> {
  return {
    id: p.id,
    code: p.code,
    bonus: formatMicros(p.bonus_micros),
    currency: 'USD',
    uses_max: p.uses_max,
    per_user_max: p.per_user_max,
    uses: p.uses,
    status: p.status === 'active' ? 'active' : 'disabled',
    description: p.description,
    expires_at: p.expires_at?.toISOString() ?? null,
    created_at: p.created_at.toISOString(),
    updated_at: p.updated_at.toISOString(),
  };
}

/** Promo codes: `/api/promo/redeem`, `/api/admin/promo_codes`. */
export const promoPlugin: FastifyPluginAsyncTypebox<{ pool: pg.Pool }> = async (app, { pool }) => {
  app.post(
    '/api/promo/redeem',
    {
      config: { roles: ['user'], idempotency: {} },
      preHandler: limitBy(app, {
        name: 'promo',
        max: TRIES_PER_HOUR,
        windowMs: HOUR_MS,
        key: (request) => actorOf(request, 'user').userId,
      }),
      schema: {
        tags: ['Balance'],
        summary: 'Redeem a promo code',
        description:
          'Its bonus is available at once, as a ledger transaction. A code has a limit for everyone together and one ' +
          'for each user. Case does not matter.',
        body: Type.Object({ code: Code }, { additionalProperties: false }),
        response: {
          200: Type.Object({
            ok: Type.Literal(true),
            bonus: Money,
            available: Money,
            currency: Type.Literal('USD'),
            transaction_id: Uuid,
          }),
          ...problemResponses(401, 403, 409, 422),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const { promo, transactionId } = await withTransaction(pool, async (client) => {
        const redeemed = await redeemPromoCode(client, request.body.code, userId);
        if (!redeemed.ok) throw new Problem(redeemed.code);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'promo_redeemed',
          objectType: 'promo_code',
          objectId: redeemed.promo.id,
          after: { transaction_id: redeemed.transactionId, bonus: formatMicros(redeemed.promo.bonus_micros) },
        });
        return redeemed;
      });
      const balance = (await readBalances(pool, 'provider_available', [userId])).get(userId);
      return {
        ok: true as const,
        bonus: formatMicros(promo.bonus_micros),
        available: formatMicros(balance?.balanceMicros ?? 0n),
        currency: 'USD' as const,
        transaction_id: transactionId,
      };
    },
  );

  app.get(
    '/api/admin/promo_codes',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Promo codes',
        description: 'Newest first, with how often each was used.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(PromoSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listPromoCodes(pool, request.query);
      return { items: page.rows.map(promoJson), next_cursor: page.nextCursor };
    },
  );

  app.post(
    '/api/admin/promo_codes',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Create a promo code',
        description: 'Kept in capitals. A code that was deleted can not be made again.',
        body: Type.Object(
          {
            code: Code,
            bonus: Type.String({ pattern: MONEY_PATTERN, description: 'US dollars' }),
            uses_max: Count,
            per_user_max: Type.Optional(Count),
            description: Type.Optional(Description),
            expires_at: Type.Optional(Nullable(Timestamp)),
          },
          { additionalProperties: false, examples: [{ code: 'WELCOME-5', bonus: '5.00', uses_max: 100 }] },
        ),
        response: { 201: PromoSchema, ...problemResponses(401, 403, 409) },
      },
    },
    async (request, reply) => {
      const { userId } = actorOf(request, 'admin');
      const { body } = request;
      const bonusMicros = parseMicros(body.bonus);
      if (bonusMicros === null || bonusMicros <= 0n)
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/bonus', message: 'must be above zero, and at most 10000000' }],
        });
      const made = await withTransaction(pool, async (client) => {
        const promo = await createPromoCode(
          client,
          {
            code: body.code,
            bonusMicros,
            usesMax: body.uses_max,
            perUserMax: body.per_user_max ?? 1,
            description: body.description ?? null,
            expiresAt: body.expires_at ?? null,
          },
          userId,
        );
        if (promo === null) throw new Problem('promo_code_taken');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'promo_code_created',
          objectType: 'promo_code',
          objectId: promo.id,
          after: body,
        });
        return promo;
      });
      return reply.code(201).send(promoJson(made));
    },
  );

  app.get(
    '/api/admin/promo_codes/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One promo code',
        description: 'With how often it was used.',
        params: Params,
        response: { 200: PromoSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const promo = await findPromoCode(pool, request.params.id);
      if (promo === null) throw new Problem('not_found');
      return promoJson(promo);
    },
  );

  app.patch(
    '/api/admin/promo_codes/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Change a promo code',
        description:
          'Limits, expiry, description, and whether it can be redeemed. Code and bonus never change. A limit below ' +
          'what was used ends the code.',
        params: Params,
        body: Type.Object(
          {
            uses_max: Type.Optional(Count),
            per_user_max: Type.Optional(Count),
            status: Type.Optional(Type.Enum(['active', 'disabled'])),
            description: Type.Optional(Nullable(Description)),
            expires_at: Type.Optional(Nullable(Timestamp)),
          },
          { additionalProperties: false, minProperties: 1, examples: [{ status: 'disabled' }] },
        ),
        response: { 200: PromoSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { uses_max, per_user_max, status, description, expires_at } = request.body;
      const changed = await withTransaction(pool, async (client) => {
        const before = await findPromoCode(client, request.params.id, true);
        const after = await changePromoCode(client, request.params.id, {
          ...(uses_max !== undefined && { usesMax: uses_max }),
          ...(per_user_max !== undefined && { perUserMax: per_user_max }),
          ...(status !== undefined && { status }),
          ...(description !== undefined && { description }),
          ...(expires_at !== undefined && { expiresAt: expires_at }),
        });
        if (before === null || after === null) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'promo_code_changed',
          objectType: 'promo_code',
          objectId: after.id,
          before: promoJson(before),
          after: request.body,
        });
        return after;
      });
      return promoJson(changed);
    },
  );

  app.delete(
    '/api/admin/promo_codes/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Delete a promo code',
        description: 'It can not be redeemed any more; bonuses that were given stay.',
        params: Params,
        response: { 200: Ok, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { id } = request.params;
      await withTransaction(pool, async (client) => {
        if ((await changePromoCode(client, id, { status: 'deleted' })) === null)
          throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'promo_code_deleted',
          objectType: 'promo_code',
          objectId: id,
        });
      });
      return { ok: true as const };
    },
  );
};
