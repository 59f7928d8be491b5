import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { sendPersonalCsv } from '../audit/personal-csv.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { columnsOf, csvResponse } from '../http/csv-export.js';
import { sortParameter } from '../http/list-order.js';
import { pageOfAll } from '../http/pagination.js';
import { Nullable, optionalBody, pageOf, pageQuery, problemResponses, Uuid } from '../http/schemas.js';
import type { LiveState } from '../live-state/live-state.js';
import { parsePrice } from '../pricing/plugin.js';
import { answerBuyerUsage, USAGE_DESCRIPTION } from '../usage/answer.js';
import { UsageFields, UsageQuery, usageDays } from '../usage/schemas.js';
import { countAllocations } from '../usage/usage.js';
import { BUYER_SORTS, type BuyerFields, createBuyer, listBuyers, readBuyer, updateBuyer } from './buyers.js';
import { asCidrProblem, normalBuyerLimits } from './limits.js';
import {
  BuyerPatch,
  BuyerSchema,
  BuyerStatus,
  buyerJson,
  KycStatus,
  NewBuyerBody,
  type ProxyAddress,
  ProxySchema,
  proxyJson,
  TokenBody,
  TokenSchema,
  tokenJson,
} from './schemas.js';
import { createToken, listTokens, revokeToken, rotateToken } from './tokens.js';

export interface BuyersDeps {
  pool: pg.Pool;
  clock: Clock;
  live: Pick<LiveState, 'accountsChanged'>;
  proxy: ProxyAddress;
  /** Days that usage by destination is kept. */
  keptDays: () => number;
}

/** What the list and its export can be narrowed to and sorted by. */
const buyerFilters = {
  query: Type.Optional(Type.String({ maxLength: 100, description: 'part of name, account or contact' })),
  status: Type.Optional(BuyerStatus),
  kyc_status: Type.Optional(KycStatus),
  region: Type.Optional(Type.String({ maxLength: 40 })),
  sort: sortParameter(BUYER_SORTS, '-created_at'),
};

const filterOf = (query: { query?: string; status?: string; kyc_status?: string; region?: string }) => ({
  query: query.query,
  status: query.status,
  kycStatus: query.kyc_status,
  region: query.region,
});

const BuyerParams = Type.Object({ id: Uuid }, { additionalProperties: false });

/** A price of the body: left out, null (the default) or micro-dollars per GB. */
function priceOf(text: string | null | undefined): bigint | null | undefined {
  return typeof text === 'string' ? parsePrice(text, '/body/price_per_gb') : text;
}

/** Buyers and their tokens, for admins. */
export const buyersPlugin: FastifyPluginAsyncTypebox<BuyersDeps> = async (
  app,
  { pool, clock, live, proxy, keptDays },
) => {
  app.post(
    '/api/admin/buyers',
    {
      config: { roles: ['admin'], idempotency: { omit: ['proxy'] } },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Create a buyer',
        description: 'With a proxy password, shown once. Traffic flows once `kyc_status` is approved.',
        body: NewBuyerBody,
        response: {
          201: Type.Object({ ...BuyerSchema.properties, proxy: Nullable(ProxySchema) }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request, reply) => {
      const { limits = {}, ...others } = request.body;
      const body = { ...others, limits: normalBuyerLimits(limits) };
      const made = await withTransaction(pool, async (client) => {
        const created = await createBuyer(client, {
          name: body.name,
          contact: body.contact ?? null,
          region: body.region ?? null,
          kycStatus: body.kyc_status ?? 'pending',
          priceMicrosPerGb: priceOf(body.price_per_gb) ?? null,
          limits: body.limits,
          ...(body.account === undefined ? {} : { account: body.account }),
        });
        if (!created.ok) throw new Problem(created.code);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'buyer_created',
          objectType: 'buyer',
          objectId: created.buyerId,
          after: { account: created.account, ...body },
        });
        return created;
      });
      await live.accountsChanged([made.buyerId]);
      const buyer = await readBuyer(pool, made.buyerId);
      if (buyer === null) throw new Problem('not_found');
      return reply
        .code(201)
        .send({ ...buyerJson(buyer), proxy: proxyJson(proxy, made.account, made.password) });
    },
  );

  app.get(
    '/api/admin/buyers',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Buyers',
        description: 'With balance and figures.',
        querystring: Type.Object({ ...buyerFilters, ...pageQuery }, { additionalProperties: false }),
        response: { 200: pageOf(BuyerSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listBuyers(pool, filterOf(request.query), request.query);
      return { items: page.rows.map(buyerJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/export/buyers',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Buyers as CSV',
        description: 'All that the list would page through. Who took it is in the audit log.',
        querystring: Type.Object(buyerFilters, { additionalProperties: false }),
        response: csvResponse,
      },
    },
    ({ query }, reply) =>
      sendPersonalCsv(
        pool,
        reply,
        'buyers',
        [...columnsOf(BuyerSchema, 'limits', 'stats'), ...columnsOf(BuyerSchema.properties.stats)],
        async (page) => {
          const { rows, nextCursor } = await listBuyers(pool, filterOf(query), { ...page, sort: query.sort });
          return {
            items: rows.map(buyerJson).map(({ stats, ...buyer }) => ({ ...buyer, ...stats })),
            next_cursor: nextCursor,
          };
        },
      ),
  );

  app.get(
    '/api/admin/buyers/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'One buyer',
        params: BuyerParams,
        response: { 200: BuyerSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const buyer = await readBuyer(pool, request.params.id);
      if (buyer === null) throw new Problem('not_found');
      return buyerJson(buyer);
    },
  );

  app.patch(
    '/api/admin/buyers/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Change a buyer',
        description:
          'In force on every gateway within a second, for open streams, too: those that are not allowed any more are ' +
          'cut. `limits` replaces all limits.',
        params: BuyerParams,
        body: BuyerPatch,
        response: { 200: BuyerSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { limits } = request.body;
      const body = { ...request.body, ...(limits && { limits: normalBuyerLimits(limits) }) };
      const changes: Partial<BuyerFields> = {};
      if (body.name !== undefined) changes.name = body.name;
      if (body.contact !== undefined) changes.contact = body.contact;
      if (body.region !== undefined) changes.region = body.region;
      if (body.status !== undefined) changes.status = body.status;
      if (body.kyc_status !== undefined) changes.kycStatus = body.kyc_status;
      if (body.limits !== undefined) changes.limits = body.limits;
      const price = priceOf(body.price_per_gb);
      if (price !== undefined) changes.priceMicrosPerGb = price;
      const changed = await withTransaction(pool, async (client) => {
        const result = await updateBuyer(client, request.params.id, changes);
        if (result === null) throw new Problem('not_found');
        const before = buyerJson(result.before) as Record<string, unknown>;
        await recordAudit(client, {
          ...auditContext(request),
          action: 'buyer_changed',
          objectType: 'buyer',
          objectId: request.params.id,
          before: Object.fromEntries(Object.keys(body).map((key) => [key, before[key]])),
          after: body,
        });
        return result.after;
      });
      await live.accountsChanged([changed.id]);
      return buyerJson(changed);
    },
  );

  app.post(
    '/api/admin/buyers/:id/tokens',
    {
      config: { roles: ['admin'], idempotency: { omit: ['token'] } },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Create a token',
        description: 'For the API, the proxy (as password) or both. The token is shown once.',
        params: BuyerParams,
        body: optionalBody(TokenBody),
        response: {
          201: Type.Object({ ...TokenSchema.properties, token: Nullable(Type.String()) }),
          ...problemResponses(401, 403, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const body = request.body ?? {};
      const expiresAt = body.expires_at ? new Date(body.expires_at) : null;
      if (expiresAt !== null && expiresAt.getTime() <= clock.nowMs())
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/expires_at', message: 'must be in the future' }],
        });
      const { token, secret } = await withTransaction(pool, async (client) => {
        if ((await readBuyer(client, request.params.id)) === null) throw new Problem('not_found');
        const created = await createToken(client, {
          buyerId: request.params.id,
          expiresAt,
          description: body.description ?? null,
          ...(body.scopes === undefined ? {} : { scopes: body.scopes as ('proxy' | 'api')[] }),
          ...(body.allowed_ips === undefined ? {} : { allowedIps: body.allowed_ips }),
        });
        await recordAudit(client, {
          ...auditContext(request),
          action: 'token_created',
          objectType: 'buyer_token',
          objectId: created.token.id,
          after: tokenJson(created.token),
        });
        return created;
      }).catch((error) => {
        throw asCidrProblem(error);
      });
      await live.accountsChanged([token.buyerId]);
      return reply.code(201).send({ ...tokenJson(token), token: secret });
    },
  );

  app.get(
    '/api/admin/buyers/:id/tokens',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Tokens of a buyer',
        description: 'Without secrets, latest first; the proxy password is listed, too.',
        params: BuyerParams,
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(TokenSchema), ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      if ((await readBuyer(pool, request.params.id)) === null) throw new Problem('not_found');
      return pageOfAll((await listTokens(pool, request.params.id)).map(tokenJson), request.query);
    },
  );

  app.post(
    '/api/admin/tokens/:token_id/revoke',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Revoke a token or proxy password',
        description: 'For good, on every gateway within a second. Repeating it is harmless.',
        params: Type.Object({ token_id: Uuid }, { additionalProperties: false }),
        response: { 200: TokenSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const token = await withTransaction(pool, async (client) => {
        const revoked = await revokeToken(client, request.params.token_id);
        if (revoked === null) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'token_revoked',
          objectType: 'buyer_token',
          objectId: revoked.id,
        });
        return revoked;
      });
      await live.accountsChanged([token.buyerId]);
      return tokenJson(token);
    },
  );

  app.post(
    '/api/admin/rotate_buyer_token',
    {
      config: { roles: ['admin'], idempotency: { omit: ['token'] } },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Replace a token or proxy password',
        description:
          'The new one has the same scopes and addresses. The old one works on for `grace_seconds`.',
        body: Type.Object(
          { token_id: Uuid, grace_seconds: Type.Integer({ minimum: 0, maximum: 30 * 86_400, default: 0 }) },
          { additionalProperties: false },
        ),
        response: {
          201: Type.Object({ ...TokenSchema.properties, token: Nullable(Type.String()) }),
          ...problemResponses(401, 403, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const { token_id: tokenId, grace_seconds: graceS } = request.body;
      const rotated = await withTransaction(pool, async (client) => {
        const result = await rotateToken(client, tokenId, graceS * 1_000);
        if (!result.ok) throw new Problem(result.code === 'unknown' ? 'not_found' : 'token_revoked');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'token_rotated',
          objectType: 'buyer_token',
          objectId: tokenId,
          after: { token_id: result.token.id, grace_seconds: graceS },
        });
        return result;
      });
      await live.accountsChanged([rotated.token.buyerId]);
      return reply.code(201).send({ ...tokenJson(rotated.token), token: rotated.secret });
    },
  );

  app.get(
    '/api/admin/buyers/:id/usage',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Usage of a buyer',
        description: `Packages over the days, and what the buyer's own call tells. ${USAGE_DESCRIPTION}`,
        params: BuyerParams,
        querystring: UsageQuery,
        response: {
          200: Type.Object({
            assigned: Type.Integer(),
            active: Type.Integer(),
            completed: Type.Integer(),
            ...UsageFields,
          }),
          ...problemResponses(401, 403, 404, 422),
        },
      },
    },
    async (request) => {
      const { id } = request.params;
      if ((await readBuyer(pool, id)) === null) throw new Problem('not_found');
      const days = usageDays(request.query, clock.nowMs());
      const counts = await countAllocations(pool, id, days.from, days.to);
      return { ...counts, ...(await answerBuyerUsage(pool, id, request.query, clock.nowMs(), keptDays())) };
    },
  );
};
