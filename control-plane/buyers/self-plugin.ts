import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { actorOf } from '../http/roles.js';
import {
  Bytes,
  jsonBytes,
  Money,
  Nullable,
  pageOf,
  pageQuery,
  problemResponses,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { LiveState } from '../live-state/live-state.js';
import { answerBuyerUsage, USAGE_DESCRIPTION } from '../usage/answer.js';
import { RefusalsQuery, RefusalsSchema, refusalsJson } from '../usage/refusal-schemas.js';
import { readRefusals } from '../usage/refusals.js';
import { UsageFields, UsageQuery } from '../usage/schemas.js';
import { acceptPolicy, type Buyer, readBuyer } from './buyers.js';
import { BUYER_LIMIT_DEFAULTS, BuyerLimits } from './limits.js';
import { BuyerSchema, buyerJson, type ProxyAddress, ProxySchema, proxyJson } from './schemas.js';
import { readBuyerStanding } from './standing.js';

export interface BuyerSelfDeps {
  pool: pg.Pool;
  clock: Clock;
  live: Pick<LiveState, 'accountsChanged'>;
  /** Price of a buyer without one of their own, micro-dollars per GB. */
  defaultBuyerPrice: () => bigint;
  proxy: ProxyAddress;
  /** Days that usage by destination is kept. */
  keptDays: () => number;
}

const SelfSchema = Type.Object({
  ...BuyerSchema.properties,
  price_per_gb: Money,
  limits_in_force: Type.Object(BuyerLimits.properties, {
    description: '`limits` with the defaults of what is left out',
  }),
  proxy: Type.Object(
    { host: ProxySchema.properties.host, ports: ProxySchema.properties.ports },
    { description: 'where the proxy is; passwords are made at `/api/buyer/proxy_passwords`' },
  ),
});

/** What a buyer sees and does with a token: `/api/buyer/me` and below. */
export const buyerSelfPlugin: FastifyPluginAsyncTypebox<BuyerSelfDeps> = async (app, deps) => {
  const { pool, clock, live, defaultBuyerPrice, proxy, keptDays } = deps;
  const { host, ports } = proxyJson(proxy, '', '');

  async function self(buyerId: string): Promise<Buyer> {
    const buyer = await readBuyer(pool, buyerId);
    if (buyer === null) throw new Problem('invalid_token');
    return buyer;
  }
  const selfJson = (buyer: Buyer) => ({
    ...buyerJson(buyer),
    price_per_gb: formatMicros(buyer.priceMicrosPerGb ?? defaultBuyerPrice()),
    limits_in_force: { ...BUYER_LIMIT_DEFAULTS, ...buyer.limits },
    proxy: { host, ports },
  });

  app.get(
    '/api/buyer/me',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My buyer account',
        description: 'With the price and limits in force for me, and where the proxy is.',
        response: { 200: SelfSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => selfJson(await self(actorOf(request, 'buyer').buyerId)),
  );

  app.post(
    '/api/buyer/accept_policy',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Accept the acceptable-use policy',
        description: 'Once; traffic flows only after it. Repeating it is harmless.',
        response: { 200: SelfSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      await withTransaction(pool, async (client) => {
        const at = await acceptPolicy(client, buyerId);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'policy_accepted',
          objectType: 'buyer',
          objectId: buyerId,
          after: { aup_accepted_at: at.toISOString() },
        });
      });
      await live.accountsChanged([buyerId]);
      return selfJson(await self(buyerId));
    },
  );

  app.get(
    '/api/buyer/me/balance',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My prepaid balance',
        description:
          'As booked; what is being relayed is charged within a second. `held` is set aside for running traffic, ' +
          '`available` is the rest.',
        response: {
          200: Type.Object({
            balance: Money,
            held: Money,
            available: Money,
            currency: Type.Literal('USD'),
            price_per_gb: Money,
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const buyer = await readBuyerStanding(pool, actorOf(request, 'buyer').buyerId);
      if (buyer === null) throw new Problem('invalid_token');
      return {
        balance: formatMicros(buyer.balanceMicros),
        held: formatMicros(buyer.heldMicros),
        available: formatMicros(buyer.balanceMicros - buyer.heldMicros),
        currency: 'USD' as const,
        price_per_gb: formatMicros(buyer.priceMicrosPerGb ?? defaultBuyerPrice()),
      };
    },
  );

  app.get(
    '/api/buyer/me/usage',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My usage',
        description: USAGE_DESCRIPTION,
        querystring: UsageQuery,
        response: { 200: Type.Object(UsageFields), ...problemResponses(401, 403, 422) },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      return answerBuyerUsage(pool, buyerId, request.query, clock.nowMs(), keptDays());
    },
  );

  app.get(
    '/api/buyer/me/errors',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Why my connections were refused',
        description:
          'By code and by hour, of me and my sub-users, the last 24 hours unless the query says otherwise; seconds behind. ' +
          'None of them was billed. Wrong usernames and passwords are counted where the gateway has met the account ' +
          'before, so a few at the very beginning may be missing.',
        querystring: RefusalsQuery,
        response: { 200: RefusalsSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      return refusalsJson(await readRefusals(pool, buyerId, request.query.hours));
    },
  );

  app.get(
    '/api/buyer/me/allocations',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My allocations',
        description:
          'Packages pulled and exits allocated on connect, newest first, with booked bytes and money.',
        querystring: Type.Object(
          {
            status: Type.Optional(Type.Enum(['allocated', 'in_progress', 'completed', 'failed', 'revoked'])),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: {
          200: pageOf(
            Type.Object({
              id: Uuid,
              package_uuid: Nullable(Uuid),
              via: Type.Enum(['pull', 'connect']),
              status: Type.String(),
              country: Nullable(Type.String()),
              size_bytes: Bytes,
              bytes_up: Bytes,
              bytes_down: Bytes,
              charged: Money,
              assigned_at: Timestamp,
              expires_at: Nullable(Timestamp),
              ended_at: Nullable(Timestamp),
            }),
          ),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { limit, cursor, status } = request.query;
      const after = cursor === undefined ? [] : decodeCursor(cursor, [cursorPart.timestamp, cursorPart.uuid]);
      const { rows } = await pool.query<{
        id: string;
        package_id: string | null;
        via: 'pull' | 'connect';
        status: string;
        country: string | null;
        size_bytes: bigint;
        bytes_up: bigint;
        bytes_down: bigint;
        charged_micros: bigint;
        assigned_at: Date;
        assigned_text: string;
        expires_at: Date | null;
        ended_at: Date | null;
      }>(
        `SELECT a.id, a.package_id, a.via, a.status, coalesce(s.country, p.country) AS country, a.size_bytes,
                a.bytes_up, a.bytes_down, a.charged_micros, a.assigned_at, a.expires_at, a.ended_at,
                to_char(a.assigned_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS assigned_text
           FROM allocations a LEFT JOIN traffic_sessions s ON s.id = a.session_id
           LEFT JOIN packages p ON p.id = a.package_id
          WHERE a.buyer_id = $1 AND ($2::text IS NULL OR a.status = $2)
            AND ($3::timestamptz IS NULL OR (a.assigned_at, a.id) < ($3, $4::uuid))
          ORDER BY a.assigned_at DESC, a.id DESC LIMIT $5`,
        [buyerId, status ?? null, after[0] ?? null, after[1] ?? null, limit + 1],
      );
      const page = cutPage(rows, limit, (r) => [r.assigned_text, r.id]);
      return {
        items: page.rows.map((r) => ({
          id: r.id,
          package_uuid: r.package_id,
          via: r.via,
          status: r.status,
          country: r.country,
          size_bytes: jsonBytes(r.size_bytes),
          bytes_up: jsonBytes(r.bytes_up),
          bytes_down: jsonBytes(r.bytes_down),
          charged: formatMicros(r.charged_micros),
          assigned_at: r.assigned_at.toISOString(),
          expires_at: r.expires_at?.toISOString() ?? null,
          ended_at: r.ended_at?.toISOString() ?? null,
        })),
        next_cursor: page.nextCursor,
      };
    },
  );
};
