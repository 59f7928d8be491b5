import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { limitBy } from '../http/rate-limit.js';
import { actorOf } from '../http/roles.js';
import { Nullable, problemResponses } from '../http/schemas.js';
import { type Tried, tryProxy } from './proxy-try.js';
import type { ProxyAddress } from './schemas.js';
import { opensProxy } from './tokens.js';

export interface ProxyTryDeps {
  pool: pg.Pool;
  /** Where buyers are told that the proxy is. */
  proxy: ProxyAddress;
  /** Longest that a try may take, ms. */
  timeoutMs?: number;
}

/** Longer than the gateway takes to find a device or to say that there is none. */
const TIMEOUT_MS = 15_000;
/** A try holds a place of the buyer and a connection of ours: one a second, some at once. */
const TRIES_PER_WINDOW = 5;
const WINDOW_MS = 5_000;

const ExitSchema = Type.Object({
  exit_id: Type.String({ description: 'opaque; another one is another exit' }),
  country: Type.String({ examples: ['DE'] }),
  city: Nullable(Type.String()),
  asn: Nullable(Type.Integer()),
  session: Nullable(Type.String()),
  bytes_left: Nullable(Type.Integer({ description: 'null: its bytes cost nothing' })),
});

/** One connection through the proxy, made for a buyer whose browser can not: `POST /api/buyer/try`. */
export const proxyTryPlugin: FastifyPluginAsyncTypebox<ProxyTryDeps> = async (app, deps) => {
  const { pool, proxy, timeoutMs = TIMEOUT_MS } = deps;
  const oneASecond = limitBy(app, {
    name: 'proxy-try',
    max: TRIES_PER_WINDOW,
    windowMs: WINDOW_MS,
    key: (request) => actorOf(request, 'buyer').buyerId,
  });

  app.post(
    '/api/buyer/try',
    {
      config: { roles: ['buyer'] },
      preHandler: oneASecond,
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Try my proxy login',
        description:
          'The server connects to the proxy with this login and asks for the echo page, which is free of charge: what exit a ' +
          'connection would get, or the code that the proxy refuses it with. The login is used for this one connection ' +
          'and kept nowhere. It comes from an address of the server: where only some addresses may connect, this one may ' +
          `not. \`PROXY_UNREACHABLE\`: nothing answered as the proxy does. One a second, ${TRIES_PER_WINDOW} in a burst.`,
        body: Type.Object(
          {
            username: Type.String({
              minLength: 1,
              maxLength: 255,
              pattern: '^[!-9;-~]+$',
              description: 'as a client sends it: account and parameters',
            }),
            password: Type.String({ minLength: 1, maxLength: 255, pattern: '^[!-~]+$' }),
          },
          {
            additionalProperties: false,
            examples: [{ username: 'acme-country-de-session-cart7', password: '7hQ2mZ' }],
          },
        ),
        response: {
          200: Type.Object({
            ok: Type.Boolean(),
            took_ms: Type.Integer(),
            exit: Nullable(ExitSchema),
            error: Nullable(
              Type.Object({
                code: Type.String({ examples: ['NO_PEER'] }),
                detail: Nullable(Type.String({ description: 'of BAD_PARAM: the key' })),
                http_status: Nullable(Type.Integer({ description: 'as a client over HTTP gets it' })),
              }),
            ),
            request_id: Nullable(Type.String({ description: 'at the proxy; tell it support' })),
          }),
          ...problemResponses(401, 403, 429),
        },
      },
    },
    async (request) => {
      const { buyerId } = actorOf(request, 'buyer');
      const { username, password } = request.body;
      // Checked here first: guesses must not make the gateways slow down other tries from this address.
      if (!(await opensProxy(pool, buyerId, accountsOf(username), password)))
        return triedJson({
          ok: false,
          code: 'AUTH_FAILED',
          detail: null,
          status: 407,
          requestId: null,
          tookMs: 0,
        });
      return triedJson(await tryProxy({ proxy, username, password, timeoutMs }));
    },
  );
};

/** The accounts that a username may mean: `user-` and `customer-` before it are other vendors' habit. */
function accountsOf(username: string): string[] {
  const [first = '', second] = username.split('-');
  return second !== undefined && (first === 'user' || first === 'customer') ? [first, second] : [first];
}

function triedJson(tried: Tried) {
  const { requestId: request_id, tookMs: took_ms } = tried;
  if (!tried.ok) {
    const { code, detail, status } = tried;
    return { ok: false, took_ms, exit: null, error: { code, detail, http_status: status }, request_id };
  }
  const { exitId: exit_id, bytesLeft: bytes_left, ...exit } = tried.exit;
  return { ok: true, took_ms, exit: { exit_id, ...exit, bytes_left }, error: null, request_id };
}
