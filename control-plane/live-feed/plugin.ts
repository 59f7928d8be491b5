import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { problemResponses } from '../http/schemas.js';
import type { Ended, LiveActor } from './actors.js';
import type { LiveHub } from './hub.js';
import type { StreamTickets } from './tickets.js';

export interface LiveFeedDeps {
  hub: LiveHub;
  tickets: StreamTickets;
  /** Why this actor may not listen, or undefined. */
  endedOf: (actor: LiveActor) => Promise<Ended | undefined>;
  /** How long a ticket is good, seconds. */
  ticketTtlS: number;
}

/** What a client that is turned away waits, seconds. */
const RETRY_AFTER_S = 5;

const EXAMPLE = `retry: 3000

id: 1
event: snapshot
data: {"at":"2026-11-26T12:00:00.000Z","status":"active","balance":{"available":"1.000000","pending":"0.250000",\
"currency":"USD"},"today":{"bytes_up":1000,"bytes_down":500000,"earned":"0.000250"},"sessions":[],"bytes_per_second":0}

id: 2
event: change
data: {"at":"2026-11-26T12:00:01.000Z","today":{"bytes_up":2000,"bytes_down":900000,"earned":"0.000451"}}
`;

const DESCRIPTION = `Server-sent events (\`text/event-stream\`). The first event is \`snapshot\`, the whole state; then \
\`change\` with those members that are others now, each whole; \`end\` with a \`code\` before the server closes.

- provider: \`status\`, \`balance\`, \`today\` (UTC), \`sessions\` (those that share, with bytes, streams and the state of \
their tunnel), \`bytes_per_second\`
- buyer: \`status\`, \`balance\` (\`balance\`, \`held\`, \`available\`), \`today\`, \`bytes_per_second\`
- admin: \`fleet\` (gateways, tunnels, streams, devices online), \`sessions_active\`, \`today\`, \`bytes_per_second\`, of all

Bytes and money are as booked, less than a second behind. Every event has an \`id\`; after a reconnection the state comes \
anew, whatever \`Last-Event-ID\` says. Comments keep the connection alive. Codes of \`end\`: \`token_ended\` (revoked, expired), \
\`banned\`, \`connect_again\` (streams live an hour by default), \`shutting_down\`. A client that does not read is cut.

With \`fetch\` send the usual header. A browser's \`EventSource\` can not: it takes a ticket of \`POST /api/live/ticket\` as \
\`?ticket=\`, which opens one stream; on \`error\` get another one and make a new \`EventSource\`.`;

/** Live figures: `/api/live`. */
export const liveFeedPlugin: FastifyPluginAsyncTypebox<LiveFeedDeps> = async (
  app,
  { hub, tickets, endedOf, ticketTtlS },
) => {
  // Before the server waits for its connections to end.
  app.addHook('preClose', () => hub.stop());

  async function refuseEnded(actor: LiveActor): Promise<void> {
    const ended = await endedOf(actor);
    if (ended !== undefined) throw new Problem(ended === 'banned' ? 'banned' : 'invalid_token');
  }

  app.get(
    '/api/live',
    {
      exposeHeadRoute: false,
      config: { roles: ['user', 'buyer', 'admin'], eventStream: true },
      schema: {
        tags: ['Traffic'],
        summary: 'Live figures',
        description: DESCRIPTION,
        querystring: Type.Object(
          {
            ticket: Type.Optional(
              Type.String({ maxLength: 100, description: 'instead of a header; of `POST /api/live/ticket`' }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: {
            description: 'events without end',
            content: { 'text/event-stream': { schema: Type.String({ examples: [EXAMPLE] }) } },
          },
          ...problemResponses(401, 403),
        },
      },
    },
    async (request, reply) => {
      const actor = actorOf(request, 'user', 'buyer', 'admin');
      await refuseEnded(actor);
      const stream = hub.join(actor);
      if (stream === null) {
        reply.header('retry-after', RETRY_AFTER_S);
        throw new Problem('too_many_streams');
      }
      return reply
        .header('content-type', 'text/event-stream; charset=utf-8')
        .header('cache-control', 'no-store, no-transform')
        .header('x-accel-buffering', 'no') // nginx would collect events
        .header('connection', 'close') // nothing comes after it, and a drain need not wait for an idle socket
        .send(stream as never);
    },
  );

  app.post(
    '/api/live/ticket',
    {
      config: { roles: ['user', 'buyer', 'admin'] },
      schema: {
        tags: ['Traffic'],
        summary: 'A ticket for live figures',
        description:
          'Opens one stream at `GET /api/live?ticket=` within `expires_in` seconds, for clients that can send no header. ' +
          'The stream ends with the login or token that the ticket was made with.',
        response: {
          200: Type.Object(
            { ticket: Type.String(), expires_in: Type.Integer({ description: 'seconds' }) },
            { examples: [{ ticket: 'tsl_zvJ0Yl5r6pX2mQeB8nKc4TgWd1HsVuAo9fRiNyPxL3M', expires_in: 30 }] },
          ),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request, reply) => {
      const actor = actorOf(request, 'user', 'buyer', 'admin');
      await refuseEnded(actor);
      reply.header('cache-control', 'no-store');
      return { ticket: await tickets.give(actor), expires_in: ticketTtlS };
    },
  );
};
