import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Nullable, pageOf, problemResponses, Uuid } from '../http/schemas.js';
import type { LiveState } from '../live-state/live-state.js';
import { type ProxyAddress, ProxySchema, proxyJson, TokenSchema, tokenJson } from './schemas.js';
import { readBuyerStanding } from './standing.js';
import { countLiveTokens, createToken, listTokens, lockTokens, revokeToken } from './tokens.js';

export interface OwnTokensDeps {
  pool: pg.Pool;
  live: Pick<LiveState, 'accountsChanged'>;
  proxy: ProxyAddress;
}

/** Tokens and passwords that work, of one buyer; every gateway keeps them for each account in use. */
const LIVE_TOKENS_MAX = 50;

const OwnTokenSchema = Type.Object({
  ...TokenSchema.properties,
  current: Type.Boolean({ description: 'the token of this call' }),
});

/** What opens a buyer's account, as the buyer sees it: `/api/buyer/tokens`. */
export const ownTokensPlugin: FastifyPluginAsyncTypebox<OwnTokensDeps> = async (app, deps) => {
  const { pool, live, proxy } = deps;

  app.get(
    '/api/buyer/tokens',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My tokens and proxy passwords',
        description: 'Newest first, without secrets; revoked and expired ones, too.',
        response: { 200: pageOf(OwnTokenSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { buyerId, tokenId } = actorOf(request, 'buyer');
      const tokens = await listTokens(pool, buyerId);
      return {
        items: tokens.map((token) => ({ ...tokenJson(token), current: token.id === tokenId })),
        next_cursor: null,
      };
    },
  );

  app.post(
    '/api/buyer/proxy_passwords',
    {
      config: { roles: ['buyer'], idempotency: { omit: ['proxy'] } },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Make a proxy password',
        description:
          'For my main account, shown once; it opens the proxy alone. It works from the addresses and until the time that ' +
          'the token of this call does. Others go on working until they are revoked.',
        body: Type.Object(
          { description: Type.Optional(Nullable(Type.String({ maxLength: 200 }))) },
          { additionalProperties: false, examples: [{ description: 'crawler 3' }] },
        ),
        response: {
          201: Type.Object({ ...TokenSchema.properties, proxy: Nullable(ProxySchema) }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request, reply) => {
      const { buyerId, tokenId } = actorOf(request, 'buyer');
      const made = await withTransaction(pool, async (client) => {
        await lockTokens(client, buyerId);
        const buyer = await readBuyerStanding(client, buyerId);
        const tokens = await listTokens(client, buyerId);
        const own = tokens.find(({ id }) => id === tokenId);
        // Revoked since this call was let in.
        if (buyer === null || own === undefined || own.revokedAt !== null) throw new Problem('invalid_token');
        if ((await countLiveTokens(client, buyerId)) >= LIVE_TOKENS_MAX)
          throw new Problem('too_many_tokens', `At most ${LIVE_TOKENS_MAX}; revoke some.`);
        const created = await createToken(client, {
          buyerId,
          kind: 'proxy_password',
          description: request.body.description ?? 'made by the buyer',
          allowedIps: own.allowedIps,
          expiresAt: own.expiresAt,
        });
        await recordAudit(client, {
          ...auditContext(request),
          action: 'proxy_password_created',
          objectType: 'buyer_token',
          objectId: created.token.id,
          after: { by_token: tokenId },
        });
        return { ...created, account: buyer.account };
      });
      await live.accountsChanged([buyerId]);
      return reply
        .code(201)
        .send({ ...tokenJson(made.token), proxy: proxyJson(proxy, made.account, made.secret) });
    },
  );

  app.post(
    '/api/buyer/tokens/:token_id/revoke',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Revoke one of my tokens or proxy passwords',
        description:
          'For good, on every gateway within a second; streams that it opened are cut. Repeating it is harmless. The token ' +
          'of this call can be revoked, too: it is the last thing that it does.',
        params: Type.Object({ token_id: Uuid }, { additionalProperties: false }),
        response: { 200: OwnTokenSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { buyerId, tokenId: currentId } = actorOf(request, 'buyer');
      const { token_id: tokenId } = request.params;
      const revoked = await withTransaction(pool, async (client) => {
        await lockTokens(client, buyerId);
        const known = (await listTokens(client, buyerId)).some(({ id }) => id === tokenId);
        const token = known ? await revokeToken(client, tokenId) : null;
        if (token === null) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'token_revoked',
          objectType: 'buyer_token',
          objectId: tokenId,
        });
        return token;
      });
      await live.accountsChanged([buyerId]);
      return { ...tokenJson(revoked), current: tokenId === currentId };
    },
  );
};
