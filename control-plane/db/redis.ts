import { Redis } from 'ioredis';

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

/** A rate limit is not worth waiting for: a command of the limiter fails after this time. */
const LIMITER_TIMEOUT_MS = 250;

/**
 * A connection for the rate limiter alone: while Redis is away its commands fail at once instead of waiting for it,
 * so that requests are answered, unlimited, without delay. `connectLive` is the one for the live state.
 */
export function connectLimiter(url: string, onError: (error: Error) => void): Redis {
  const redis = new Redis(url, {
    connectionName: 'traffic-share-rate-limit',
    commandTimeout: LIMITER_TIMEOUT_MS,
    connectTimeout: 2_000,
    socketTimeout: 4 * LIMITER_TIMEOUT_MS,
    enableOfflineQueue: false,
    enableAutoPipelining: true, // requests that come together are counted in one round trip
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (attempt) => Math.min(50 * attempt, 1_000),
  });
  redis.on('error', onError);
  return redis;
}

/** Waits until the connection is usable, at most `timeoutMs`; says whether it is. */
export async function redisReady(redis: Redis, timeoutMs: number): Promise<boolean> {
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
