import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { limitBy } from '../http/rate-limit.js';
import { actorOf } from '../http/roles.js';
import { Money, Nullable, problemResponses, Timestamp } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import { exportPerson } from './export.js';
import { readReferrals } from './referrals.js';

export interface PeopleSelfDeps {
  pool: pg.Pool;
  /** Name of the bot without @; null: there is no link to invite with. */
  botUsername: string | null;
  /** The inviter's part of an invited provider's earnings, percent. */
  referralPercent: () => Promise<number>;
}

/** Exports of one user in an hour; above it 429. Each reads everything. */
const EXPORTS_PER_HOUR = 6;
const HOUR_MS = 3_600_000;

/** Whom I invited, and all that is kept about me. */
export const peopleSelfPlugin: FastifyPluginAsyncTypebox<PeopleSelfDeps> = async (app, deps) => {
  const { pool } = deps;

  app.get(
    '/api/referrals',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'My referrals',
        description:
          'My code and the link that carries it, how many came with it, how many of them have earned, and what that ' +
          'brought me: `percent` of their earnings, from the platform’s share.',
        response: {
          200: Type.Object({
            code: Type.String(),
            link: Nullable(Type.String({ description: 'null while no bot name is configured' })),
            invited: Type.Integer(),
            earning: Type.Integer({ description: 'of those invited' }),
            earned: Money,
            currency: Type.Literal('USD'),
            percent: Type.Integer(),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const referrals = await readReferrals(pool, userId);
      if (referrals === null) throw new Problem('invalid_token'); // deleted a moment ago
      return {
        code: referrals.code,
        link: deps.botUsername === null ? null : `https://t.me/${deps.botUsername}?start=${referrals.code}`,
        invited: referrals.invited,
        earning: referrals.earning,
        earned: formatMicros(referrals.earnedMicros),
        currency: 'USD' as const,
        percent: await deps.referralPercent(),
      };
    },
  );

  app.get(
    '/api/user/export',
    {
      config: { roles: ['user'] },
      preHandler: limitBy(app, {
        name: 'export',
        max: EXPORTS_PER_HOUR,
        windowMs: HOUR_MS,
        key: (request) => actorOf(request, 'user').userId,
      }),
      schema: {
        tags: ['User'],
        summary: 'My data',
        description:
          'All that is kept about me, by section, as it is at one moment. Amounts ending in `_micros` are millionths ' +
          'of a US dollar.',
        response: {
          200: Type.Object({
            exported_at: Timestamp,
            sections: Type.Record(
              Type.String(),
              Type.Object({
                complete: Type.Boolean({ description: 'false: there is more than can be told at once' }),
                rows: Type.Array(Type.Object({}, { additionalProperties: true })),
              }),
            ),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request, reply) => {
      const { userId } = actorOf(request, 'user');
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'data_exported',
        objectType: 'user',
        objectId: userId,
      });
      const sections = await withTransaction(
        pool,
        (client) => exportPerson(client, userId),
        'REPEATABLE READ',
      );
      reply.header('content-disposition', 'attachment; filename="traffic-share-data.json"');
      return { exported_at: new Date().toISOString(), sections };
    },
  );
};
