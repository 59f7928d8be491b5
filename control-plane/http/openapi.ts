import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import { Type } from 'typebox';
import { problems } from '../errors.js';
import type { Role } from './actor.js';
import { type ExampleSchema, exampleOf } from './examples.js';
import { ProblemSchema, problemResponses } from './schemas.js';

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

const {
  408: timeout,
  413: tooLarge,
  415: otherType,
  431: headTooLarge,
} = problemResponses(408, 413, 415, 431);
/** What is answered to what never became a request, whatever it was to call. */
const UNREADABLE_HEAD = { 408: timeout, 431: headTooLarge };
/** What every call that may come with a body answers to one it can not read. */
const UNREADABLE_BODY = { 413: tooLarge, 415: otherType };

type Schema = ExampleSchema;
interface Media {
  schema?: Schema;
  example?: unknown;
  examples?: object;
}
interface Operation {
  responses?: Record<string, object>;
  requestBody?: { required?: boolean; content: Record<string, Media> };
  parameters?: { name: string; in: string; required?: boolean; schema?: Schema; example?: unknown }[];
}

/**
 * Says of a request what its caller must send: a body that may be null may be left out (null is no JSON anyone sends),
 * and so may what has a default, which is filled in before the schema is looked at.
 */
function askForLess({ requestBody, parameters }: Operation): void {
  for (const parameter of parameters ?? [])
    if (parameter.in !== 'path' && parameter.schema?.default !== undefined) parameter.required = false;
  const json = requestBody?.content['application/json'];
  if (requestBody === undefined || json?.schema === undefined) return;
  const { anyOf } = json.schema;
  if (anyOf?.some(({ type }) => type === 'null')) {
    const [only, ...others] = anyOf.filter(({ type }) => type !== 'null');
    requestBody.required = false;
    json.schema = others.length === 0 ? (only as Schema) : { anyOf: [only as Schema, ...others] };
  }
  json.schema = withoutDefaulted(json.schema);
}

/** One problem document of each code with this status. */
function problemExamples(status: number) {
  const request_id = exampleOf({ type: 'string' }, true, 'request_id');
  return Object.fromEntries(
    Object.entries(problems)
      .filter(([, problem]) => problem.status === status)
      .map(([code, { title }]) => [
        code,
        { value: { type: 'about:blank', title, status, code, request_id, ...PROBLEM_EXTRAS[code] } },
      ]),
  );
}

/** What some problems say beside their code. */
const PROBLEM_EXTRAS: Record<string, object> = {
  validation_failed: { errors: [{ path: '/body/amount', message: 'is required' }] },
  below_minimum: { detail: 'The smallest payout is 5.000000.', minimum: '5.000000' },
  over_daily_limit: { detail: 'Left for today: 40.000000.', left: '40.000000' },
  illegal_move: { detail: 'It is completed.', from: 'completed' },
  region_not_allowed: { detail: 'The country BR is not among those that may share.' },
};

/** `Problem404` and so on: each is the same for all calls. */
const PROBLEM_RESPONSES = Object.fromEntries(
  Object.entries(problemResponses(...Object.values(problems).map(({ status }) => status))).map(
    ([status, { description }]) => [
      `Problem${status}`,
      {
        description,
        content: {
          'application/problem+json': {
            schema: { $ref: '#/components/schemas/Problem' },
            examples: problemExamples(Number(status)),
          },
        },
      },
    ],
  ),
);

/**
 * Shows what is sent and what comes back: of a body what must be in it, of an answer all of it. Where a route gives
 * examples of its own, those stay.
 */
function showExamples({ requestBody, responses = {}, parameters = [] }: Operation): void {
  for (const parameter of parameters)
    if (parameter.in === 'path' && parameter.schema !== undefined)
      parameter.example ??= exampleOf(parameter.schema, false, parameter.name);
  const show = (media: Media | undefined, optional: boolean) => {
    if (media?.schema === undefined || media.examples !== undefined) return;
    media.example ??= exampleOf(media.schema, optional);
  };
  show(requestBody?.content['application/json'], false);
  for (const response of Object.values(responses))
    show((contentOf(response) as Record<string, Media>)['application/json'], true);
}

/** Says once what problem documents are, not at each call. */
function nameProblems({ responses = {} }: Operation): void {
  for (const status of Object.keys(responses))
    if (`Problem${status}` in PROBLEM_RESPONSES && 'application/problem+json' in contentOf(responses[status]))
      responses[status] = { $ref: `#/components/responses/Problem${status}` };
}

const contentOf = (response: object | undefined): object =>
  (response as { content?: object } | undefined)?.content ?? {};

/** A copy (the document shares parts with the routes) that does not ask for properties with a default. */
function withoutDefaulted(schema: Schema): Schema {
  const { required, properties = {} } = schema;
  if (schema.anyOf !== undefined) return { ...schema, anyOf: schema.anyOf.map(withoutDefaulted) };
  if (required === undefined) return schema;
  const left = required.filter((name) => properties[name]?.default === undefined);
  const { required: _, ...others } = schema;
  return left.length === 0 ? others : { ...others, required: left };
}

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
    transformObject: (documents) => {
      const { openapiObject } = documents as {
        openapiObject: { paths?: Record<string, object>; components?: object };
      };
      for (const item of Object.values(openapiObject.paths ?? {}))
        for (const operation of Object.values(item)) {
          askForLess(operation);
          nameProblems(operation);
          showExamples(operation);
        }
      return {
        ...openapiObject,
        components: {
          ...openapiObject.components,
          schemas: { Problem: ProblemSchema },
          responses: PROBLEM_RESPONSES,
        },
      } as never;
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
          ...(schema?.response !== undefined && {
            response: {
              ...UNREADABLE_HEAD,
              ...(method !== 'get' && UNREADABLE_BODY),
              ...schema.response,
            },
          }),
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
