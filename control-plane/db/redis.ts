import { Redis } from 'ioredis';

/** Redis could not be asked. The API answers `live_state_unavailable`. */
export class LiveStateUnavailable extends Error {
  readonly code = 'LIVE_STATE_UNAVAILABLE';
}

export interface RedisOptions {
  /** `redis://host:port` */
  url: string;
  /** Time one command may take; then it fails. Default 2 s. */
  commandTimeoutMs?: number;
  /** Shown in CLIENT LIST. */
  connectionName: string;
  /** The connection broke or could not be made; it is tried again by itself. */
  onError?: (error: Error) => void;
}

/**
 * A connection for answering requests: while Redis is away commands fail at once instead of queueing, and it
 * reconnects by itself. It does not wait for the first connection; see `redisReady`.
 */
export function createRedis(options: RedisOptions): Redis {
  const redis = new Redis(options.url, {
    connectionName: options.connectionName,
    commandTimeout: options.commandTimeoutMs ?? 2_000,
    connectTimeout: 2_000,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (attempt) => Math.min(50 * attempt, 1_000),
  });
  redis.on('error', (error: Error) => options.onError?.(error));
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

/**
 * Runs a command whose failure means that the request cannot be answered: whatever ioredis says (its errors carry
 * no codes) becomes LiveStateUnavailable.
 */
export async function live<T>(command: Promise<T>): Promise<T> {
  try {
    return await command;
  } catch (cause) {
    throw new LiveStateUnavailable('Redis did not answer', { cause });
  }
}
