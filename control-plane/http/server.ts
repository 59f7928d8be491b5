import { randomUUID } from 'node:crypto';
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from 'fastify';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Log } from '../../gateway/runtime/logging.js';
import { spanEnded } from '../../gateway/runtime/spans.js';
import type { LimiterRedis } from '../db/redis.js';
import { Problem } from '../errors.js';
import type { Answered } from '../measures.js';
import { actorId } from './actor.js';
import { clientAddress } from './client-address.js';
import { installIdempotency } from './idempotency.js';
import { openApiOptions } from './openapi.js';
import { answerUnreadable, problemHandler } from './problem.js';
import { installRateLimit } from './rate-limit.js';
import { type Authenticate, installNobody, installRoles } from './roles.js';
import { lazySerializers } from './serializers.js';
import { refuseOddBodies, validatorCompiler } from './validation.js';

/** The app as domains see it: route schemas written with typebox type the handlers. */
export type ApiServer = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface ServerDeps {
  log: Log;
  pool: pg.Pool;
  /** For the rate limiter alone (`db/redis.ts`). */
  limiterRedis: LimiterRedis;
  authenticate: Authenticate;
  trustedProxies: readonly string[];
  corsOrigins: readonly string[];
  bodyBytesMax: number;
  requestsPerMinute: number;
  version: string;
  /** Told of each answer but streams of events. */
  onAnswer?: (answer: Answered) => void;
}

/** Request ids we take over from the caller; anything else gets one of ours. */
const REQUEST_ID = /^[A-Za-z0-9._-]{8,128}$/;
/** Time a client has to send its whole request; then the connection is closed. */
const REQUEST_TIMEOUT_MS = 30_000;

/**
 * A Fastify instance with the API's conventions (API.md, "Conventions") and no routes of a domain yet: problem
 * documents, request ids, rate limit, roles, idempotency, validation, documentation at /docs and /openapi.json.
 */
export async function createServer(deps: ServerDeps): Promise<ApiServer> {
  const { log } = deps;
  const onError = problemHandler(log);
  const app = Fastify({
    logger: false,
    genReqId: (request) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
    },
    trustProxy: deps.trustedProxies.length > 0 ? [...deps.trustedProxies] : false,
    bodyLimit: deps.bodyBytesMax,
    requestTimeout: REQUEST_TIMEOUT_MS,
    routerOptions: { maxParamLength: 200 },
    forceCloseConnections: 'idle',
    schemaController: { compilersFactory: { buildSerializer: lazySerializers } },
    clientErrorHandler: answerUnreadable,
    frameworkErrors: (error, request, reply) => {
      reply.header('x-request-id', request.id);
      onError(error, request, reply as never);
    },
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.setValidatorCompiler(validatorCompiler);
  app.setErrorHandler(onError);
  installNobody(app);
  app.decorateReply('problemCode', null);
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  app.addHook('onResponse', async (request, reply) => {
    if (request.routeOptions.config.eventStream !== true || reply.statusCode >= 400)
      deps.onAnswer?.({
        route: routeOf(request),
        status: reply.statusCode,
        durationMs: reply.elapsedTime,
        problem: reply.problemCode,
      });
    spanEnded(() => ({
      name: routeOf(request) ?? 'no route',
      kind: 'server',
      durationMs: reply.elapsedTime,
      attributes: {
        'http.response.status_code': reply.statusCode,
        ...(reply.problemCode !== null && { 'error.type': reply.problemCode }),
        'ts.request_id': request.id,
      },
      failed: reply.statusCode >= 500,
      traceparent: traceparentOf(request),
    }));
    log.info(
      {
        request_id: request.id,
        method: request.method,
        // The pattern, not the address: ids and query values stay out of the log.
        route: request.routeOptions.url ?? null,
        status: reply.statusCode,
        duration_ms: Math.round(reply.elapsedTime * 10) / 10,
        ip: clientAddress(request),
        role: request.actor.role,
        actor_id: actorId(request.actor),
      },
      'request',
    );
  });

  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'self'"],
        imgSrc: ["'self'", 'data:'],
        styleSrc: ["'self'", "'unsafe-inline'"],
        scriptSrc: ["'self'"],
        objectSrc: ["'none'"],
        baseUri: ["'self'"],
        frameAncestors: ["'none'"],
      },
    },
    xFrameOptions: false, // frame-ancestors says it, and X-Frame-Options can not name an origin
  });
  await app.register(cors, {
    origin: deps.corsOrigins.length > 0 ? [...deps.corsOrigins] : false,
    // The plugin's own list has only those that need no preflight.
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: [
      'X-Request-ID',
      'Retry-After',
      'Idempotency-Replayed',
      'RateLimit-Limit',
      'RateLimit-Remaining',
      'RateLimit-Reset',
    ],
  });

  // Before the roles hook: the documentation's own routes are open and declare no roles.
  await app.register(swagger, openApiOptions(deps.version));
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { validatorUrl: null, deepLinking: true, displayRequestDuration: true } as object,
    staticCSP:
      "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; object-src 'none'",
  });

  await installRateLimit(app, deps.limiterRedis, deps.requestsPerMinute);
  installRoles(app, deps.authenticate);
  refuseOddBodies(app);
  installIdempotency(app, deps.pool, log);
  app.setNotFoundHandler({ preHandler: app.rateLimit() }, () => {
    throw new Problem('not_found');
  });
  app.get(
    '/openapi.json',
    {
      config: { roles: ['none'] },
      schema: {
        hide: true,
        response: { 200: Type.Unsafe<object>({ type: 'object', additionalProperties: true }) },
      },
    },
    () => app.swagger(),
  );
  return app;
}

function traceparentOf({ headers: { traceparent } }: FastifyRequest): string | undefined {
  return typeof traceparent === 'string' ? traceparent : undefined;
}

/** As metrics name it: HEAD is answered by the route of GET. Null: there is no such route. */
function routeOf({ method, routeOptions: { url } }: FastifyRequest): string | null {
  return url === undefined ? null : `${method === 'HEAD' ? 'GET' : method} ${url}`;
}
