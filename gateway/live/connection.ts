import { ClusterRedis } from './cluster.js';
import type { LiveConnectionOptions, LiveRedis } from './live-redis.js';
import { parseRedisUrl } from './redis-url.js';
import { SingleRedis } from './single.js';

export { LiveStateAwayError } from './live-redis.js';
export type { LiveConnectionOptions, LiveRedis };

/**
 * Opens a connection to the live state. It connects in the background and for ever; commands given meanwhile wait
 * for at most `commandTimeoutMs`. Close it with `disconnect()`. Throws BadRedisUrlError.
 */
export function connectLive(options: LiveConnectionOptions): LiveRedis {
  const address = parseRedisUrl(options.url);
  return address.kind === 'cluster' ? new ClusterRedis(address, options) : new SingleRedis(address, options);
}
