import { type Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { EndingCluster } from './ending-cluster.js';
import { reconnectDelayMs } from './live-redis.js';
import { parseRedisUrl, type RedisAddress } from './redis-url.js';

type SentinelAddress = Extract<RedisAddress, { kind: 'sentinel' }>;
type ClusterAddress = Extract<RedisAddress, { kind: 'cluster' }>;

/** Replies are as with RESP2: what this project's code reads. */
type LegacyOptions<T> = Omit<T, 'replyMapping'> & { replyMapping?: 'legacy' };
type NodeOptions = LegacyOptions<NonNullable<ClusterOptions['redisOptions']>>;

/** How often a cluster's nodes are asked who has which slots, beside each answer that says so by itself, ms. */
const SLOTS_REFRESH_MS = 5_000;

/** Options of ioredis that lead to the master which the sentinels name. */
export function sentinelOptions(
  address: SentinelAddress,
  commandTimeoutMs: number,
  delayMaxMs: number,
): LegacyOptions<RedisOptions> {
  const { sentinels, master, database, username, password, tls, sentinelUsername, sentinelPassword } =
    address;
  return {
    sentinels,
    name: master,
    role: 'master',
    db: database,
    sentinelCommandTimeout: commandTimeoutMs,
    sentinelRetryStrategy: (attempt) => reconnectDelayMs(attempt, delayMaxMs),
    sentinelReconnectStrategy: (attempt) => reconnectDelayMs(attempt, delayMaxMs),
    // The sentinels cut clients off a master that they replace; a subscription of our own is not needed to notice it, and
    // ioredis' ends the process when a sentinel is away.
    failoverDetector: false,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(sentinelUsername === undefined ? {} : { sentinelUsername }),
    ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
    ...(tls ? { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true } : {}),
  };
}

/** Options of ioredis for a cluster; those of its nodes are `node`. */
export function clusterOptions(
  address: ClusterAddress,
  node: NodeOptions,
  delayMaxMs: number,
): Omit<ClusterOptions, 'redisOptions'> & { redisOptions: NodeOptions } {
  const { username, password, tls } = address;
  return {
    clusterRetryStrategy: (attempt) => reconnectDelayMs(attempt, delayMaxMs),
    // Nothing is sent twice behind its caller's back. What a node refused to carry out (MOVED, CLUSTERDOWN) may be.
    retryDelayOnFailover: 0,
    slotsRefreshTimeout: node.commandTimeout as number,
    slotsRefreshInterval: SLOTS_REFRESH_MS,
    // Names as they are: certificates are theirs.
    dnsLookup: (host, callback) => callback(null, host),
    redisOptions: {
      ...node,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(tls ? { tls: {} } : {}),
    },
  };
}

/** What a plain connection needs to be told; times in ms. */
export interface PlainConnectionOptions {
  connectionName: string;
  commandTimeoutMs: number;
  connectTimeoutMs: number;
  reconnectDelayMaxMs: number;
}

/**
 * A connection for somebody else's commands (a library's), of one key each, whose failures nobody waits out: while Redis is away they
 * reject at once. `connectLive` is the one for the live state. Throws BadRedisUrlError.
 */
export function connectPlain(url: string, options: PlainConnectionOptions): Redis | Cluster {
  const address = parseRedisUrl(url);
  const { connectionName, commandTimeoutMs, connectTimeoutMs, reconnectDelayMaxMs } = options;
  const common = {
    connectionName,
    commandTimeout: commandTimeoutMs,
    connectTimeout: connectTimeoutMs,
    socketTimeout: 4 * commandTimeoutMs,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
  };
  if (address.kind === 'cluster')
    return new EndingCluster(address.nodes, {
      ...clusterOptions(address, common, reconnectDelayMaxMs),
      enableOfflineQueue: false,
    });
  const single: LegacyOptions<RedisOptions> = {
    ...common,
    enableOfflineQueue: false,
    enableAutoPipelining: true, // commands of one turn go in one round trip
    retryStrategy: (attempt) => Math.min(50 * attempt, reconnectDelayMaxMs),
  };
  if (address.kind === 'single') return new Redis(address.url, single);
  return new Redis({ ...sentinelOptions(address, connectTimeoutMs, reconnectDelayMaxMs), ...single });
}
