import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import { Type } from 'typebox';
import type { Role } from './actor.js';

/** How each role signs in; `none` needs nothing. */
const schemes: Record<Role, readonly string[]> = {
  none: [],
  user: ['user_token', 'telegram_init_data'],
  admin: ['admin_token'],
  device: ['device_key'],
  buyer: ['buyer_token'],
  bot: ['bot_secret'],
  internal: ['internal_secret'],
};

const bearer = (description: string) => ({ type: 'http', scheme: 'bearer', description }) as const;
const header = (name: string, description: string) =>
  ({ type: 'apiKey', in: 'header', name, description }) as const;

const TAGS: [name: string, description: string][] = [
  ['Auth', 'Signing in'],
  ['User', 'The provider, their devices and logins'],
  ['Traffic', 'Sharing: start, stop, history'],
  ['Balance', 'Money of a provider'],
  ['Buyers and packages', 'Buyers, their tokens and limits, and the traffic they are given'],
  ['Admin', 'For admins'],
  ['Bot', 'For the Telegram bot'],
  ['System', 'Health and versions'],
];

/** OpenAPI 3.1, generated from the route schemas; roles become security requirements. */
export function openApiOptions(version: string): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Traffic Share API',
        version,
        description:
          'Errors are RFC 9457 problem documents: match `code`. Money is a decimal string of US dollars, bytes are ' +
          'integers, times are UTC. Lists take `limit` and `cursor`.',
      },
      tags: TAGS.map(([name, description]) => ({ name, description })),
      components: {
        securitySchemes: {
          user_token: bearer("A provider's access token"),
          admin_token: bearer("An admin's access token"),
          device_key: bearer('A device key, tsd_…'),
          buyer_token: bearer('A buyer token, tsb…'),
          telegram_init_data: header('X-Telegram-Init-Data', 'Init data of the Mini App'),
          bot_secret: header('X-Bot-Secret', 'Shared by bot and API'),
          stream_ticket: {
            type: 'apiKey',
            in: 'query',
            name: 'ticket',
            description: 'Of POST /api/live/ticket; opens one stream',
          },
          internal_secret: header('X-Internal-Secret', 'Shared with own services'),
        },
      },
    },
    transform: ({ schema, url, route }) => {
      const config = route.config ?? {};
      const roles = config.roles ?? [];
      const method = String(Array.isArray(route.method) ? route.method[0] : route.method).toLowerCase();
      const path = url
        .replace(/^\/(api\/)?/, '')
        .replace(/[^A-Za-z0-9]+/g, '_')
        .replace(/_$/, '');
      return {
        url,
        schema: {
          operationId: `${method}_${path}`,
          ...schema,
          ...(roles.length > 0 && {
            security: roles.includes('none')
              ? []
              : [
                  ...roles.flatMap((role) => schemes[role]),
                  ...(config.eventStream === true ? ['stream_ticket'] : []),
                ].map((scheme) => ({ [scheme]: [] })),
          }),
          ...(config.idempotency !== undefined && {
            headers: Type.Object({
              'Idempotency-Key': Type.Optional(
                Type.String({ description: 'the same key and request replays the first answer for 24 h' }),
              ),
            }),
          }),
        },
      };
    },
  };
}
