import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { pageOfAll } from '../http/pagination.js';
import { actorOf } from '../http/roles.js';
import { Nullable, pageOf, pageQuery, problemResponses, TelegramId, Timestamp } from '../http/schemas.js';
import {
  BUYER_LINK_TTL_S,
  BUYER_START_PREFIX,
  BUYER_TELEGRAMS_MAX,
  createBuyerLink,
  readBuyerTelegrams,
  unlinkBuyerTelegram,
} from './telegrams.js';

export interface BuyerTelegramsDeps {
  pool: pg.Pool;
  /** Name of the bot without @; null: links can not be made into addresses. */
  botUsername: string | null;
}

const Account = Type.Object({
  telegram_id: TelegramId,
  username: Nullable(Type.String()),
  linked_at: Timestamp,
});
const Accounts = Type.Object({ items: Type.Array(Account) });

/** Telegram accounts from which a buyer tops up in the bot. */
export const buyerTelegramsPlugin: FastifyPluginAsyncTypebox<BuyerTelegramsDeps> = async (app, deps) => {
  const { pool, botUsername } = deps;
  const answer = async (buyerId: string) => ({
    items: (await readBuyerTelegrams(pool, buyerId)).map((account) => ({
      telegram_id: account.telegramId,
      username: account.username,
      linked_at: account.linkedAt.toISOString(),
    })),
  });

  app.get(
    '/api/buyer/telegrams',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'My Telegram accounts',
        description: 'They top my balance up with `/topup` in the bot; they see and do nothing else of mine.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(Account), ...problemResponses(401, 403) },
      },
    },
    async (request) => pageOfAll((await answer(actorOf(request, 'buyer').buyerId)).items, request.query),
  );

  app.post(
    '/api/buyer/telegrams/link',
    {
      config: {
        roles: ['buyer'],
        rateLimit: { max: 20, timeWindow: 60_000 },
        idempotency: { omit: ['token', 'start', 'url'] },
      },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Link a Telegram account to my buyer account',
        description:
          `Open \`url\` in Telegram and press Start: the bot confirms it. One use, good for ${BUYER_LINK_TTL_S / 60} ` +
          `minutes; at most ${BUYER_TELEGRAMS_MAX} accounts. An account of another buyer is refused there.`,
        response: {
          200: Type.Object({
            token: Nullable(
              Type.String({ description: 'shown once: null in a replay, as what is made of it' }),
            ),
            start: Nullable(Type.String({ description: 'start parameter for the bot' })),
            url: Nullable(
              Type.String({ description: 'deep link; null also while no bot name is configured' }),
            ),
            expires_in: Type.Integer({ description: 'seconds' }),
          }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const token = await withTransaction(pool, async (client) => {
        await recordAudit(client, {
          ...auditContext(request),
          action: 'buyer_telegram_link_created',
          objectType: 'buyer',
          objectId: buyerId,
        });
        return createBuyerLink(client, buyerId);
      });
      const start = `${BUYER_START_PREFIX}${token}`;
      return {
        token,
        start,
        url: botUsername === null ? null : `https://t.me/${botUsername}?start=${start}`,
        expires_in: BUYER_LINK_TTL_S,
      };
    },
  );

  app.delete(
    '/api/buyer/telegrams/:telegram_id',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Unlink a Telegram account',
        description: 'It can not top up in the bot any more; what it paid stays.',
        params: Type.Object({ telegram_id: TelegramId }, { additionalProperties: false }),
        response: { 200: Accounts, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { telegram_id: telegramId } = request.params;
      await withTransaction(pool, async (client) => {
        if (!(await unlinkBuyerTelegram(client, buyerId, telegramId))) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'buyer_telegram_unlinked',
          objectType: 'buyer',
          objectId: buyerId,
          before: { telegram_id: telegramId },
        });
      });
      return answer(buyerId);
    },
  );
};
