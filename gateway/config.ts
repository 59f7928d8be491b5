import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { buyerDirectoryDefaults } from './buyers/directory.js';
import { ACCOUNT_LIMITS_DEFAULTS } from './buyers/limits.js';
import { loginBackoffDefaults } from './buyers/login-backoff.js';
import { SHARED_LIMITS_DEFAULTS } from './buyers/shared-limits.js';
import { linkSettings, problemsOfLinks } from './links/settings.js';
import { type DedicatedPort, readDedicatedPort } from './listeners/port-protocol.js';
import { redisUrl } from './live/redis-url.js';
import { isCidr } from './runtime/addresses.js';
import {
  flag,
  integer,
  list,
  oneOf,
  portRange,
  readEnvironment,
  secret,
  text,
  type Values,
} from './runtime/environment.js';
import { tracingSettings } from './runtime/tracing.js';
import { USAGE_DEFAULTS } from './usage/limits.js';

const GATEWAY_ID_MAX = 64;

/** Every setting of the gateway. The RUNBOOK of a deployment is this table: `traffic-share gateway --help`. */
export const gatewaySettings = {
  gatewayId: {
    ...text(
      'TS_GATEWAY_ID',
      'name of this gateway, stable over restarts: its meter journal belongs to it',
      hostname()
        .replace(/[^A-Za-z0-9.-]/g, '-')
        .slice(0, 64) || 'gateway',
    ),
    defaultText: 'the name of the machine',
  },
  redisUrl,
  controlPlaneUrl: text(
    'TS_CONTROL_PLANE_URL',
    'API of the control plane, http(s)://host:port: meters go straight there while Redis is away; unset: they wait',
    null,
  ),
  internalSecret: secret(
    'TS_INTERNAL_SECRET',
    'shared with the control plane; needed for TS_CONTROL_PLANE_URL',
    null,
  ),
  directAfterMs: integer(
    'TS_DIRECT_AFTER_MS',
    'time Redis must have been away before meters go straight to the control plane',
    { default: 3_000, min: 100 },
  ),
  workers: integer(
    'TS_WORKERS',
    'processes that share the ports and the devices, one a core at most; settings that bound something hold for each of ' +
      'them, as for gateways of their own; --workers sets it, too',
    { default: 1, min: 1, max: 64 },
  ),
  dataDir: text('TS_GATEWAY_DATA_DIR', 'folder of the meter journal; must survive restarts', '.data/gateway'),

  proxyHost: text('TS_PROXY_HOST', 'address the proxy port listens on', '0.0.0.0'),
  proxyPort: integer('TS_PROXY_PORT', 'port for buyers: SOCKS5 and HTTP on one port, 0 = any free', {
    default: 8080,
    max: 65_535,
  }),
  proxyPorts: list(
    'TS_PROXY_PORTS',
    'further ports that speak one protocol only, as port:protocol with socks5, http or tls (SOCKS5 or HTTP ' +
      'inside): 1080:socks5,3128:http,443:tls; 0 = any free',
  ),
  proxyTlsCert: text(
    'TS_PROXY_TLS_CERT',
    'PEM file, chain included: the proxy port speaks TLS as well; read again when it changes; unset: TLS is refused',
    null,
  ),
  proxyTlsKey: text('TS_PROXY_TLS_KEY', 'PEM file of the key for TS_PROXY_TLS_CERT', null),
  proxyTlsDev: flag(
    'TS_PROXY_TLS_DEV',
    'development only: 1 makes a certificate for localhost in TS_GATEWAY_DATA_DIR when none is configured',
    false,
  ),
  proxyProtocolFrom: list(
    'TS_PROXY_PROTOCOL_FROM',
    'CIDRs of load balancers: their connections must begin with a PROXY header (v1 or v2), else they are closed',
  ),
  udpPorts: portRange(
    'TS_UDP_PORTS',
    'UDP ports for SOCKS5 associations, from-to, one each; when all are taken CONN_LIMIT; unset: any free ones',
  ),
  udpPublicAddress: text(
    'TS_UDP_PUBLIC_ADDRESS',
    'IP address that clients are told to send datagrams to; unset: the one they connected to',
    null,
  ),
  udpAssociationsMax: integer(
    'TS_UDP_ASSOCIATIONS_MAX',
    'SOCKS5 associations at once, a UDP socket each, and those of other gateways through devices here; above it CONN_LIMIT',
    { default: 10_000 },
  ),
  udpIdleMs: integer(
    'TS_UDP_IDLE_MS',
    'time an association lives without a datagram; then it and its connection are closed',
    { default: 120_000, min: 100 },
  ),
  udpDatagramsPerSecondMax: integer(
    'TS_UDP_DATAGRAMS_PER_SECOND_MAX',
    'datagrams a second of one association in each direction; above it they are dropped (`rate`)',
    { default: 10_000, min: 1 },
  ),
  connectionsMax: integer(
    'TS_CONNECTIONS_MAX',
    'buyer connections at once; above it new ones are closed unread',
    { default: 50_000, min: 1 },
  ),
  handshakeTimeoutMs: integer(
    'TS_HANDSHAKE_TIMEOUT_MS',
    'time a client has for PROXY header, TLS handshake and request together; then the connection is closed',
    { default: 10_000, min: 100 },
  ),
  strangersSoftMax: integer(
    'TS_STRANGERS_SOFT_MAX',
    'connections of one client address (IPv6: one /64) that have not logged in; above it a growing share of new ' +
      'ones is closed unread',
    { default: 1_000, min: 1 },
  ),
  strangersHardMax: integer(
    'TS_STRANGERS_HARD_MAX',
    'connections of one client address that have not logged in; at it all new ones are closed unread',
    { default: 2_000, min: 1 },
  ),
  loopLagMsMax: integer(
    'TS_LOOP_LAG_MS_MAX',
    'lag of the event loop in ms above which new connections are turned away (HTTP 503, else closed) until it is ' +
      'below half; open ones go on; 0: never',
    { default: 300 },
  ),
  acceptWaitMsMax: integer(
    'TS_ACCEPT_WAIT_MS_MAX',
    'time in ms that new connections may wait until a busy gateway serves them; at it, or at 4 096 that wait, the port is ' +
      'closed, so that further clients are refused at once, until a quarter of them wait; ports that workers share stay ' +
      'open; 0: always open',
    { default: 1_000 },
  ),
  loginPairFailuresMax: integer(
    'TS_LOGIN_PAIR_FAILURES_MAX',
    'wrong logins of one client address (IPv6: one /64) on one account before further ones wait (429 RATE_LIMIT)',
    { default: loginBackoffDefaults.pairFailuresMax, min: 1 },
  ),
  loginAddressFailuresMax: integer(
    'TS_LOGIN_ADDRESS_FAILURES_MAX',
    'wrong logins of one client address on all accounts before those on accounts it never opened wait',
    { default: loginBackoffDefaults.addressFailuresMax, min: 1 },
  ),
  loginAccountFailuresMax: integer(
    'TS_LOGIN_ACCOUNT_FAILURES_MAX',
    'wrong logins on one account from anywhere before each new address has one try instead of several',
    { default: loginBackoffDefaults.accountFailuresMax, min: 1 },
  ),
  loginDelayMs: integer(
    'TS_LOGIN_DELAY_MS',
    'the first such wait; it doubles with each further wrong login',
    {
      default: loginBackoffDefaults.delayMs,
      min: 1,
    },
  ),
  loginDelayMsMax: integer('TS_LOGIN_DELAY_MS_MAX', 'the longest such wait', {
    default: loginBackoffDefaults.delayMsMax,
    min: 1,
  }),
  loginForgetAfterMs: integer(
    'TS_LOGIN_FORGET_AFTER_MS',
    'without a wrong login for so long the earlier ones are forgotten',
    { default: loginBackoffDefaults.forgetAfterMs, min: 1 },
  ),
  loginEntriesMax: integer(
    'TS_LOGIN_ENTRIES_MAX',
    'addresses, accounts and pairs of them remembered for that, each; above it the oldest is forgotten',
    { default: loginBackoffDefaults.entriesMax, min: 16 },
  ),
  loginRefusalMs: integer(
    'TS_LOGIN_REFUSAL_MS',
    'a wrong login is answered so long after it came, so that the time does not tell which accounts exist',
    { default: 50, max: 5_000 },
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
  ...linkSettings,
  drainMs: integer('TS_DRAIN_MS', 'time live streams get to finish after SIGTERM; then they are reset', {
    default: 30_000,
  }),
  drainMoveMs: integer(
    'TS_DRAIN_MOVE_MS',
    'part of TS_DRAIN_MS in which devices move to other gateways while everybody is still served; it ends when all have ' +
      'moved. Only where links join gateways and another one is there; 0: new connections are refused at once',
    { default: 5_000 },
  ),

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
    'mmdb file for countries, states and cities; unset: the CC0 countries shipped',
    null,
  ),
  geoipAsnPath: text('TS_GEOIP_ASN', 'mmdb file for ASNs; unset: the table shipped', null),
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
  journalLockWaitMs: integer(
    'TS_JOURNAL_LOCK_WAIT_MS',
    'how long a start waits for the process that has the journal to end; then it fails',
    { default: 10_000, min: 0, max: 600_000 },
  ),
  journalMapped: flag(
    'TS_JOURNAL_MAPPED',
    '1: counts are stored into the mapped journal where that can be had (Linux on ext4, XFS or tmpfs); ' +
      '0: written with a call to the system for each piece of 60 KiB, some 2 µs',
    true,
  ),
  deliveryIntervalMs: integer('TS_DELIVERY_INTERVAL_MS', 'how often new and final meters go to Redis', {
    default: 250,
    min: 10,
    max: 5_000,
  }),
  deliveryGrowthMs: integer(
    'TS_DELIVERY_GROWTH_MS',
    'how often meters that only grow go to Redis: what balances and live figures are behind',
    { default: 1_000, min: 10, max: 5_000 },
  ),
  allocationIdleMs: integer(
    'TS_ALLOCATION_IDLE_MS',
    'time an allocation without a session name is kept after its last stream',
    { default: 60_000, min: 100 },
  ),
  exitWaitMs: integer(
    'TS_EXIT_WAIT_MS',
    'time a connection waits for an exit that is about to come free, when nobody has another one for it; then NO_PEER',
    { default: 2_000, min: 0, max: 30_000 },
  ),
  bandwidthBurstMs: integer(
    'TS_BANDWIDTH_BURST_MS',
    'what an account with a bandwidth limit may send at once after a pause, in ms at its rate; at least 64 KiB',
    { default: 100, min: 1, max: 5_000 },
  ),
  limitsShareIntervalMs: integer(
    'TS_LIMITS_SHARE_INTERVAL_MS',
    'how often a gateway tells the others what buyers near a limit do here, and learns the same of them: what a buyer may ' +
      'get beyond a limit is what gateways let through in such a time; those of a gateway that dies are free after six',
    { default: SHARED_LIMITS_DEFAULTS.limitsShareIntervalMs, min: 50, max: 10_000 },
  ),
  limitsWaitMs: integer(
    'TS_LIMITS_WAIT_MS',
    'time a new connection waits where its buyer’s connections a second allow it and other gateways hold too much of them at ' +
      'the moment; then RATE_LIMIT. Before that, as long at most for Redis to say what other gateways do of a buyer that this one ' +
      'has nothing of; then it goes by an equal part of each limit. 0: it waits for neither',
    { default: ACCOUNT_LIMITS_DEFAULTS.limitsWaitMs, min: 0, max: 10_000 },
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
  snapshotTermMs: integer(
    'TS_SNAPSHOT_TERM_MS',
    'time that what a gateway knows of an account or pulled package opens new connections while Redis is away or being rebuilt; ' +
      'then they are refused until it is back',
    { default: buyerDirectoryDefaults.staleMaxMs, min: 1_000 },
  ),
  usageDeliveryIntervalMs: integer(
    'TS_USAGE_DELIVERY_INTERVAL_MS',
    'how often usage by destination goes to Redis',
    { default: USAGE_DEFAULTS.usageDeliveryIntervalMs, min: 10, max: 60_000 },
  ),
  usageSweepIntervalMs: integer(
    'TS_USAGE_SWEEP_INTERVAL_MS',
    'how often usage of streams that go on is told; a killed gateway may lose as much of it (never of the meters)',
    { default: USAGE_DEFAULTS.usageSweepIntervalMs, min: 10, max: 600_000 },
  ),
  usageEntriesMax: integer(
    'TS_USAGE_ENTRIES_MAX',
    'destinations, by tag and session name, held for the next delivery; further ones are told as (other)',
    { default: USAGE_DEFAULTS.usageEntriesMax, min: 16 },
  ),
  usageEntriesPerBuyerMax: integer(
    'TS_USAGE_ENTRIES_PER_BUYER_MAX',
    'the same for one buyer; further ones of that buyer are told as (other)',
    { default: USAGE_DEFAULTS.usageEntriesPerBuyerMax, min: 8 },
  ),
  logLevel: oneOf(
    'TS_LOG_LEVEL',
    'debug, info, warn, error or silent',
    ['debug', 'info', 'warn', 'error', 'silent'],
    'info',
  ),
  ...tracingSettings,
  production: flag(
    'TS_PRODUCTION',
    'set by NODE_ENV=production as well: development exemptions are refused',
    false,
  ),
};

export type GatewayConfig = Values<typeof gatewaySettings>;

/** Reads the gateway's settings, `over` before `env`; throws EnvironmentError with every problem. */
export function readGatewayConfig(
  env: Readonly<Record<string, string | undefined>> = process.env,
  over: Readonly<Record<string, string>> = {},
): GatewayConfig {
  return readEnvironment(gatewaySettings, { ...env, ...over }, (c) => {
    const production = c.production || env.NODE_ENV === 'production';
    const problems: string[] = [];
    if (production && c.devAllow.length > 0) problems.push('TS_DEV_ALLOW is refused in production');
    if (production && c.devLoopbackCountry) problems.push('TS_DEV_LOOPBACK_COUNTRY is refused in production');
    if (Boolean(c.tunnelTlsCert) !== Boolean(c.tunnelTlsKey))
      problems.push('TS_TUNNEL_TLS_CERT and TS_TUNNEL_TLS_KEY go together');
    if (production && c.proxyTlsDev) problems.push('TS_PROXY_TLS_DEV is refused in production');
    if (Boolean(c.proxyTlsCert) !== Boolean(c.proxyTlsKey))
      problems.push('TS_PROXY_TLS_CERT and TS_PROXY_TLS_KEY go together');
    problems.push(...problemsOfPorts(c), ...problemsOfLinks(c));
    if (!c.proxyProtocolFrom.every(isCidr))
      problems.push('TS_PROXY_PROTOCOL_FROM must be addresses or CIDRs');
    if (c.strangersHardMax < c.strangersSoftMax)
      problems.push('TS_STRANGERS_HARD_MAX must be at least TS_STRANGERS_SOFT_MAX');
    if (c.loginDelayMsMax < c.loginDelayMs)
      problems.push('TS_LOGIN_DELAY_MS_MAX must be at least TS_LOGIN_DELAY_MS');
    if (c.controlPlaneUrl !== null && !/^https?:\/\//.test(c.controlPlaneUrl))
      problems.push('TS_CONTROL_PLANE_URL must be http:// or https://');
    if (c.controlPlaneUrl !== null && c.internalSecret === null)
      problems.push('TS_CONTROL_PLANE_URL needs TS_INTERNAL_SECRET');
    if (c.udpPublicAddress !== null && isIP(c.udpPublicAddress) === 0)
      problems.push('TS_UDP_PUBLIC_ADDRESS must be an IP address');
    if (!c.trustedProxies.every(isCidr)) problems.push('TS_TRUSTED_PROXIES must be addresses or CIDRs');
    if (c.workers > 1 && process.platform !== 'linux') problems.push('TS_WORKERS above 1 needs Linux');
    if (!/^[A-Za-z0-9.-]{1,64}$/.test(c.gatewayId))
      problems.push('TS_GATEWAY_ID must be 1 to 64 letters, digits, dots or dashes');
    else if (c.workers > 1 && c.gatewayId.length > GATEWAY_ID_MAX - '-w64'.length)
      problems.push('TS_GATEWAY_ID must leave room for the -w2 of a worker: up to 60 characters');
    return problems;
  });
}

/** The ports of TS_PROXY_PORTS. */
export function dedicatedPorts({ proxyPorts }: Pick<GatewayConfig, 'proxyPorts'>): DedicatedPort[] {
  return proxyPorts.map(readDedicatedPort).filter((port) => port !== null);
}

function problemsOfPorts(c: GatewayConfig): string[] {
  const problems: string[] = [];
  const taken = new Set([c.proxyPort]);
  for (const [index, item] of c.proxyPorts.entries()) {
    const dedicated = readDedicatedPort(item);
    const which = `TS_PROXY_PORTS, item ${index + 1}:`;
    if (dedicated === null) {
      problems.push(`${which} must be port:protocol, with a port up to 65535 and socks5, http or tls`);
      continue;
    }
    const { port, protocol } = dedicated;
    if (port !== 0 && taken.has(port))
      problems.push(`${which} the port is taken by TS_PROXY_PORT or an item before`);
    taken.add(port);
    if (protocol === 'tls' && !c.proxyTlsCert && !c.proxyTlsDev)
      problems.push(`${which} a tls port needs TS_PROXY_TLS_CERT`);
  }
  return problems;
}
