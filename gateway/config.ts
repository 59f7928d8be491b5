import { hostname } from 'node:os';
import { isCidr } from './runtime/addresses.js';
import { flag, integer, list, oneOf, readEnvironment, text, type Values } from './runtime/environment.js';

/** Every setting of the gateway. The RUNBOOK of a deployment is this table: `traffic-share gateway --help`. */
export const gatewaySettings = {
  gatewayId: text(
    'TS_GATEWAY_ID',
    'name of this gateway, stable over restarts: its meter journal belongs to it',
    hostname()
      .replace(/[^A-Za-z0-9.-]/g, '-')
      .slice(0, 64) || 'gateway',
  ),
  redisUrl: text('TS_REDIS_URL', 'the live state, redis://host:port', 'redis://127.0.0.1:6379'),
  controlPlaneUrl: text(
    'TS_CONTROL_PLANE_URL',
    'API of the control plane, http(s)://host:port: meters go straight there while Redis is away; unset: they wait',
    null,
  ),
  internalSecret: text(
    'TS_INTERNAL_SECRET',
    'shared with the control plane; needed for TS_CONTROL_PLANE_URL',
    null,
  ),
  directAfterMs: integer(
    'TS_DIRECT_AFTER_MS',
    'time Redis must have been away before meters go straight to the control plane',
    { default: 3_000, min: 100 },
  ),
  dataDir: text('TS_GATEWAY_DATA_DIR', 'folder of the meter journal; must survive restarts', '.data/gateway'),

  proxyHost: text('TS_PROXY_HOST', 'address the proxy port listens on', '0.0.0.0'),
  proxyPort: integer('TS_PROXY_PORT', 'port for buyers: SOCKS5 and HTTP on one port, 0 = any free', {
    default: 8080,
    max: 65_535,
  }),
  connectionsMax: integer(
    'TS_CONNECTIONS_MAX',
    'buyer connections at once; above it new ones are closed unread',
    { default: 50_000, min: 1 },
  ),
  handshakeTimeoutMs: integer(
    'TS_HANDSHAKE_TIMEOUT_MS',
    'time a client has to state its request; then the connection is closed',
    { default: 10_000, min: 100 },
  ),

  tunnelHost: text('TS_TUNNEL_HOST', 'address the tunnel port listens on', '0.0.0.0'),
  tunnelPort: integer('TS_TUNNEL_PORT', 'port for devices (WebSocket), 0 = any free', {
    default: 8443,
    max: 65_535,
  }),
  tunnelTlsCert: text('TS_TUNNEL_TLS_CERT', 'PEM file: the tunnel port speaks TLS itself', null),
  tunnelTlsKey: text('TS_TUNNEL_TLS_KEY', 'PEM file of the key for TS_TUNNEL_TLS_CERT', null),
  tunnelsMax: integer('TS_TUNNELS_MAX', 'devices at once; above it a tunnel is refused with 503', {
    default: 100_000,
    min: 1,
  }),
  streamsPerTunnelMax: integer(
    'TS_STREAMS_PER_TUNNEL_MAX',
    'streams at once through one device; above it the device is passed over',
    { default: 1_000, min: 1 },
  ),
  dialTimeoutMs: integer(
    'TS_DIAL_TIMEOUT_MS',
    'time for a device to reach a destination; then CONNECT_TIMEOUT',
    { default: 15_000, min: 100 },
  ),
  drainMs: integer('TS_DRAIN_MS', 'time live streams get to finish after SIGTERM; then they are reset', {
    default: 30_000,
  }),

  metricsHost: text('TS_METRICS_HOST', 'address of the private port: /metrics /health /status', '127.0.0.1'),
  metricsPort: integer('TS_METRICS_PORT', 'private port, 0 = any free', { default: 9_464, max: 65_535 }),

  trustedProxies: list(
    'TS_TRUSTED_PROXIES',
    'CIDRs of proxies in front of the tunnel port whose X-Forwarded-For is believed',
  ),
  allowedCountries: list(
    'TS_ALLOWED_COUNTRIES',
    'ISO 3166 codes devices may come from; unset: US and the EU/EEA',
  ),
  geoipCountryPath: text(
    'TS_GEOIP_COUNTRY',
    'mmdb file for countries; unset: the CC0 database shipped',
    null,
  ),
  devLoopbackCountry: text(
    'TS_DEV_LOOPBACK_COUNTRY',
    'development only: the country taken for devices on private addresses',
    null,
  ),
  devAllow: list('TS_DEV_ALLOW', 'development only: host:port destinations exempt from the address policy'),

  journalSlots: integer('TS_JOURNAL_SLOTS', 'live meters the journal has room for before it grows', {
    default: 4_096,
    min: 16,
  }),
  journalExtentSlots: integer(
    'TS_JOURNAL_EXTENT_SLOTS',
    'slots the journal grows by, 512 bytes each; fixed when the journal is made',
    { default: 4_096, min: 16, max: 65_536 },
  ),
  journalReserveSlots: integer(
    'TS_JOURNAL_RESERVE_SLOTS',
    'free slots kept for price changes: below it, when the journal cannot grow, no new connections',
    { default: 1_024 },
  ),
  journalMapped: flag(
    'TS_JOURNAL_MAPPED',
    '1: counts are stored into the mapped journal where that can be had (Linux on ext4, XFS or tmpfs); ' +
      '0: written with a call to the system for each piece of 60 KiB, some 2 µs',
    true,
  ),
  deliveryIntervalMs: integer('TS_DELIVERY_INTERVAL_MS', 'how often meters go to Redis', {
    default: 250,
    min: 10,
    max: 5_000,
  }),
  allocationIdleMs: integer(
    'TS_ALLOCATION_IDLE_MS',
    'time an allocation without a session name is kept after its last stream',
    { default: 60_000, min: 100 },
  ),
  bandwidthBurstMs: integer(
    'TS_BANDWIDTH_BURST_MS',
    'what an account with a bandwidth limit may send at once after a pause, in ms at its rate; at least 64 KiB',
    { default: 100, min: 1, max: 5_000 },
  ),
  walletWaitMs: integer(
    'TS_WALLET_WAIT_MS',
    'time a stream waits for more of its balance or quota to be set aside; then it is cut',
    { default: 10_000, min: 100 },
  ),
  walletIdleMs: integer(
    'TS_WALLET_IDLE_MS',
    'time after which what was set aside and is not used goes back; keep it well below TS_WALLET_WAIT_MS',
    { default: 5_000, min: 500 },
  ),
  walletAdmitMs: integer(
    'TS_WALLET_ADMIT_MS',
    'time a new connection waits to learn whether there is any balance left; then INTERNAL',
    { default: 3_000, min: 100 },
  ),
  walletTermMs: integer(
    'TS_WALLET_TERM_MS',
    'time a gateway goes on spending what was set aside while Redis does not confirm it; then streams wait',
    { default: 120_000, min: 1_000 },
  ),
  logLevel: oneOf(
    'TS_LOG_LEVEL',
    'debug, info, warn, error or silent',
    ['debug', 'info', 'warn', 'error', 'silent'],
    'info',
  ),
  production: flag(
    'TS_PRODUCTION',
    'set by NODE_ENV=production as well: development exemptions are refused',
    false,
  ),
};

export type GatewayConfig = Values<typeof gatewaySettings>;

/** Reads the gateway's settings; throws EnvironmentError with every problem. */
export function readGatewayConfig(
  env: Readonly<Record<string, string | undefined>> = process.env,
): GatewayConfig {
  return readEnvironment(gatewaySettings, env, (c) => {
    const production = c.production || env.NODE_ENV === 'production';
    const problems: string[] = [];
    if (production && c.devAllow.length > 0) problems.push('TS_DEV_ALLOW is refused in production');
    if (production && c.devLoopbackCountry) problems.push('TS_DEV_LOOPBACK_COUNTRY is refused in production');
    if (Boolean(c.tunnelTlsCert) !== Boolean(c.tunnelTlsKey))
      problems.push('TS_TUNNEL_TLS_CERT and TS_TUNNEL_TLS_KEY go together');
    if (c.controlPlaneUrl !== null && !/^https?:\/\//.test(c.controlPlaneUrl))
      problems.push('TS_CONTROL_PLANE_URL must be http:// or https://');
    if (c.controlPlaneUrl !== null && c.internalSecret === null)
      problems.push('TS_CONTROL_PLANE_URL needs TS_INTERNAL_SECRET');
    if (!c.trustedProxies.every(isCidr)) problems.push('TS_TRUSTED_PROXIES must be addresses or CIDRs');
    if (!/^[A-Za-z0-9.-]{1,64}$/.test(c.gatewayId))
      problems.push('TS_GATEWAY_ID must be 1 to 64 letters, digits, dots or dashes');
    return problems;
  });
}
