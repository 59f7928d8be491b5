import type { EventEmitter } from 'node:events';
import type { Cluster, Redis } from 'ioredis';
import { connectPlain } from '../../gateway/live/open.js';

/** The live state did not answer. The API answers `live_state_unavailable`. */
export class LiveStateUnavailable extends Error {
  readonly code = 'LIVE_STATE_UNAVAILABLE';
}

/**
 * Runs a command whose failure means that the request cannot be answered: whatever the connection rejects with
 * becomes LiveStateUnavailable.
 */
export async function live<T>(command: Promise<T>): Promise<T> {
  try {
    return await command;
  } catch (cause) {
    throw new LiveStateUnavailable('Redis did not answer', { cause });
  }
}

/** Of one server, or of a cluster's nodes. */
export type LimiterRedis = Redis | Cluster;

/** A rate limit is not worth waiting for: a command of the limiter fails after this time. */
const LIMITER_TIMEOUT_MS = 250;

/**
 * A connection for the rate limiter alone: while Redis is away its commands fail at once instead of waiting for it,
 * so that requests are answered, unlimited, without delay. `connectLive` is the one for the live state.
 */
export function connectLimiter(url: string, onError: (error: Error) => void): LimiterRedis {
  const redis = connectPlain(url, {
    connectionName: 'traffic-share-rate-limit',
    commandTimeoutMs: LIMITER_TIMEOUT_MS,
    connectTimeoutMs: 2_000,
    reconnectDelayMaxMs: 1_000,
  });
  redis.on('error', onError);
  return redis;
}

/** Waits until the connection is usable, at most `timeoutMs`; says whether it is. */
export async function redisReady(
  redis: EventEmitter & { readonly status: string },
  timeoutMs: number,
): Promise<boolean> {
  if (redis.status === 'ready') return true;
  return new Promise((resolve) => {
    const end = (ready: boolean) => {
      clearTimeout(timer);
      redis.off('ready', onReady);
      resolve(ready);
    };
    const onReady = () => end(true);
    const timer = setTimeout(() => end(false), timeoutMs);
    redis.on('ready', onReady);
  });
}
