import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { liveKeys } from '../../gateway/live/keys.js';
import type { LimiterRedis } from '../db/redis.js';
import { Problem } from '../errors.js';
import { clientAddress } from './client-address.js';

/**
 * The limit every route has per client address, with `RateLimit-*` (draft 5 names) and `Retry-After`. A route says
 * otherwise with `config.rateLimit`. Counters live in Redis; while it is away nothing is limited rather than
 * nothing answered.
 */
export async function installRateLimit(
  app: FastifyInstance,
  redis: LimiterRedis,
  requestsPerMinute: number,
): Promise<void> {
  await app.register(rateLimit, {
    global: true,
    max: requestsPerMinute,
    timeWindow: 60_000,
    redis,
    nameSpace: liveKeys.apiRateLimit(),
    skipOnError: true,
    enableDraftSpec: true,
    addHeadersOnExceeding: { 'ratelimit-limit': true, 'ratelimit-remaining': true, 'ratelimit-reset': true },
    addHeaders: {
      'ratelimit-limit': true,
      'ratelimit-remaining': true,
      'ratelimit-reset': true,
      'retry-after': true,
    },
    keyGenerator: (request) => clientAddress(request),
    errorResponseBuilder: (_request, context) =>
      new Problem('rate_limited', `At most ${context.max} in this time. Retry in ${context.after}.`),
  });
}

/**
 * A second limit for one route, beside the one per address: a preHandler that counts under `key(request)`.
 * Use it for what the body names (a Telegram id, say).
 */
export function limitBy<Request extends FastifyRequest>(
  app: FastifyInstance,
  limit: { name: string; max: number; windowMs: number; key: (request: Request) => string },
): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  const check = app.createRateLimit({
    max: limit.max,
    timeWindow: limit.windowMs,
    skipOnError: true,
    keyGenerator: (request) => `${limit.name}:${limit.key(request as Request)}`,
  });
  return async (request, reply) => {
    const result = await check(request);
    if (result.isAllowed || !result.isExceeded) return;
    reply
      .header('ratelimit-limit', result.max)
      .header('ratelimit-remaining', 0)
      .header('ratelimit-reset', result.ttlInSeconds)
      .header('retry-after', result.ttlInSeconds);
    throw new Problem('rate_limited', `At most ${limit.max} in this time.`);
  };
}
