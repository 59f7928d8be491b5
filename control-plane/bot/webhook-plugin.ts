import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { Update } from 'grammy/types';
import type pg from 'pg';
import { Type } from 'typebox';
import { secretsEqual } from '../auth/secrets.js';
import { Problem } from '../errors.js';
import { Ok, problemResponses } from '../http/schemas.js';
import { takeInUpdates } from './updates.js';

export interface TelegramWebhookDeps {
  pool: pg.Pool;
  /** Null while the bot does not run by webhook: then every call is 401. */
  secret: string | null;
  /** An update was written down. */
  onUpdate: () => void;
}

/** Where Telegram sends updates, below the API's public address. */
export const TELEGRAM_WEBHOOK_PATH = '/api/webhook/telegram';
/**
 * Calls a minute from one address; above it 429, and Telegram comes again. All updates come from a few
 * addresses.
 */
const CALLS_PER_MINUTE = 6_000;

/** Updates of the bot from Telegram. */
export const telegramWebhookPlugin: FastifyPluginAsyncTypebox<TelegramWebhookDeps> = async (app, deps) => {
  const { pool, secret, onUpdate } = deps;
  app.post(
    TELEGRAM_WEBHOOK_PATH,
    {
      config: { roles: ['none'], rateLimit: { max: CALLS_PER_MINUTE, timeWindow: 60_000 } },
      // Before the body is read.
      onRequest: async (request) => {
        const given = request.headers['x-telegram-bot-api-secret-token'];
        if (secret === null || typeof given !== 'string' || !secretsEqual(given, secret))
          throw new Problem('invalid_secret');
      },
      schema: {
        tags: ['Bot'],
        summary: 'Updates from Telegram',
        description:
          'With the header `X-Telegram-Bot-Api-Secret-Token`, when the bot runs by webhook. An update is written down and ' +
          'answered; it is handled afterwards, once, however often it is delivered.',
        body: Type.Object(
          { update_id: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) },
          {
            additionalProperties: true,
            description: 'an Update of the Bot API',
            examples: [
              {
                update_id: 861_231_007,
                message: {
                  message_id: 7,
                  date: 1_795_651_200,
                  chat: { id: 77_001, type: 'private', first_name: 'Ann' },
                  from: { id: 77_001, is_bot: false, first_name: 'Ann' },
                  text: '/start',
                },
              },
            ],
          },
        ),
        response: { 200: Ok, ...problemResponses(401) },
      },
    },
    async (request) => {
      await takeInUpdates(pool, [request.body as Update]);
      onUpdate();
      return { ok: true as const };
    },
  );
};
