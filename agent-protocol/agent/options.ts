import { ASSOCIATION_LIMITS } from './device-association.js';
import type { AgentLogLevel } from './log.js';
import type { DayHours } from './owner-rules.js';
import {
  integer,
  oneOf,
  parseHostPorts,
  parseHosts,
  parseHours,
  parseHttpUrl,
  parsePagePort,
  parsePorts,
  parseSwitch,
  parseTunnelUrl,
} from './setting-values.js';

/** What STATUS says about the device's own network. */
export type DeviceNetwork = 'wifi' | 'mobile' | 'ethernet' | 'unknown';

/** Defaults that an agent made in code has as well. */
export const DIAL_TIMEOUT_MS = 10_000;
export const LINGER_MS = 2_000;
/** Where the status page is looked for. */
export const PAGE_PORT = 7_480;

/** One setting: its flag, its environment variable, what it means. The flag wins over the variable. */
export interface Option<T> {
  readonly flag: string;
  readonly env: string;
  /** Name of the value in the help text; null: a switch without value. */
  readonly value: string | null;
  readonly help: string;
  readonly fallback: T;
  /** Gives the value or throws an Error whose message says what is expected. */
  parse(text: string): T;
}

function option<T>(
  flag: string,
  env: string,
  value: string | null,
  help: string,
  fallback: T,
  parse: (text: string) => T,
): Option<T> {
  return { flag, env, value, help, fallback, parse };
}

const text = (value: string) => value;

/** The whole command line. Flags, environment variables and help text all come from here. */
export const OPTIONS = {
  apiUrl: option<string | null>('api-url', 'TS_API_URL', 'url', 'control plane', null, parseHttpUrl),
  deviceId: option<string | null>(
    'device-id',
    'TS_DEVICE_ID',
    'id',
    'id the device was registered with',
    null,
    text,
  ),
  deviceKey: option<string | null>(
    'key',
    'TS_DEVICE_KEY',
    'key',
    'device key from registration (visible to other users of this machine: prefer the variable or the file)',
    null,
    text,
  ),
  deviceKeyFile: option<string | null>(
    'key-file',
    'TS_DEVICE_KEY_FILE',
    'path',
    'file that holds the device key',
    null,
    text,
  ),
  tunnelUrl: option<string | null>(
    'tunnel-url',
    'TS_TUNNEL_URL',
    'url',
    'straight to a gateway, without the control plane; for tests and benchmarks, with --ticket',
    null,
    parseTunnelUrl,
  ),
  ticket: option<string | null>(
    'ticket',
    'TS_TICKET',
    'ticket',
    'tunnel ticket for --tunnel-url',
    null,
    text,
  ),
  capBytesDay: option<number | null>(
    'cap-bytes-day',
    'TS_CAP_BYTES_DAY',
    'bytes',
    'payload bytes shared per day; then refuse until midnight',
    null,
    integer(1, Number.MAX_SAFE_INTEGER),
  ),
  capBytesMonth: option<number | null>(
    'cap-bytes-month',
    'TS_CAP_BYTES_MONTH',
    'bytes',
    'payload bytes shared per month',
    null,
    integer(1, Number.MAX_SAFE_INTEGER),
  ),
  bandwidth: option<number | null>(
    'bandwidth',
    'TS_BANDWIDTH',
    'bytes/s',
    'payload bytes a second, both directions together',
    null,
    integer(1_000, 1_000_000_000_000),
  ),
  wifiOnly: option<boolean>(
    'wifi-only',
    'TS_WIFI_ONLY',
    null,
    'share only over Wi-Fi or a cable (Linux: looked up; else see --network)',
    false,
    parseSwitch,
  ),
  chargingOnly: option<boolean>(
    'charging-only',
    'TS_CHARGING_ONLY',
    null,
    'share only on mains power (Linux)',
    false,
    parseSwitch,
  ),
  streamsMax: option<number | null>(
    'max-streams',
    'TS_MAX_STREAMS',
    'count',
    'connections at once; further ones are refused',
    null,
    integer(1, 1_000_000),
  ),
  hours: option<DayHours | null>(
    'hours',
    'TS_HOURS',
    'from-to',
    'share only at these local hours, 22-06 or 9:30-17',
    null,
    parseHours,
  ),
  blockHosts: option<readonly string[]>(
    'block-hosts',
    'TS_BLOCK_HOSTS',
    'host,…',
    'names (with all below them) and addresses nobody may reach through this device',
    [],
    parseHosts,
  ),
  stateDir: option<string | null>(
    'state-dir',
    'TS_STATE_DIR',
    'path',
    'folder for what survives a restart; after login ~/.local/state/traffic-share when not given',
    null,
    text,
  ),
  network: option<DeviceNetwork>(
    'network',
    'TS_NETWORK',
    'kind',
    'wifi, mobile or ethernet, as told to the gateway; left out on Linux it is looked up',
    'unknown',
    oneOf('wifi', 'mobile', 'ethernet', 'unknown'),
  ),
  termsVersion: option<string>(
    'terms-version',
    'TS_TERMS_VERSION',
    'version',
    'terms that the owner accepted on this device',
    '',
    text,
  ),
  dialTimeoutMs: option<number>(
    'dial-timeout-ms',
    'TS_DIAL_TIMEOUT_MS',
    'ms',
    'for resolving and reaching a destination',
    DIAL_TIMEOUT_MS,
    integer(100, 120_000),
  ),
  lingerMs: option<number>(
    'linger-ms',
    'TS_LINGER_MS',
    'ms',
    'for what came by a tunnel that is lost to reach its destinations, which then are reset',
    LINGER_MS,
    integer(1, 60_000),
  ),
  noUdp: option<boolean>('no-udp', 'TS_NO_UDP', null, 'no UDP for buyers', false, parseSwitch),
  maxAssociations: option<number>(
    'max-associations',
    'TS_MAX_ASSOCIATIONS',
    'count',
    'UDP associations at once; further ones are refused',
    ASSOCIATION_LIMITS.associationsMax,
    integer(1, 100_000),
  ),
  maxUdpFlows: option<number>(
    'max-udp-flows',
    'TS_MAX_UDP_FLOWS',
    'count',
    'UDP destinations of one association; datagrams to further ones are dropped',
    ASSOCIATION_LIMITS.flowsMax,
    integer(1, 100_000),
  ),
  udpFlowIdleMs: option<number>(
    'udp-flow-idle-ms',
    'TS_UDP_FLOW_IDLE_MS',
    'ms',
    'a UDP destination not heard of for so long is forgotten, its answers are dropped',
    ASSOCIATION_LIMITS.flowIdleMs,
    integer(100, 3_600_000),
  ),
  udpIdleMs: option<number>(
    'udp-idle-ms',
    'TS_UDP_IDLE_MS',
    'ms',
    'a UDP association without datagrams for so long is ended',
    ASSOCIATION_LIMITS.idleMs,
    integer(100, 3_600_000),
  ),
  udpBlockPorts: option<readonly number[]>(
    'udp-block-ports',
    'TS_UDP_BLOCK_PORTS',
    'port,…',
    `UDP ports nothing is sent to (default ${ASSOCIATION_LIMITS.blockPorts.join()})`,
    ASSOCIATION_LIMITS.blockPorts,
    parsePorts,
  ),
  keepSession: option<boolean>(
    'keep-session',
    'TS_KEEP_SESSION',
    null,
    'a signal ends the agent but not the traffic session',
    false,
    parseSwitch,
  ),
  acceptTerms: option<string | null>(
    'accept-terms',
    'TS_ACCEPT_TERMS',
    'version',
    'accepts the terms of this version, which must be the one in force, for the owner who read them',
    null,
    text,
  ),
  language: option<'en' | 'ru' | 'uz' | null>(
    'language',
    'TS_LANGUAGE',
    'code',
    'of the terms: en, ru or uz; left out: as LANG says',
    null,
    oneOf('en', 'ru', 'uz'),
  ),
  waitWhenRefused: option<boolean>(
    'wait-when-refused',
    'TS_WAIT_WHEN_REFUSED',
    null,
    'refused for its network at the start, ask again now and then instead of ending',
    false,
    parseSwitch,
  ),
  pagePort: option<number | 'off' | null>(
    'page-port',
    'TS_PAGE_PORT',
    'port',
    `status page on 127.0.0.1; 0: any free port; off: none (after login ${PAGE_PORT}, else off)`,
    null,
    parsePagePort,
  ),
  metricsPort: option<number | 'off' | null>(
    'metrics-port',
    'TS_AGENT_METRICS_PORT',
    'port',
    'metrics for Prometheus on 127.0.0.1, path /metrics; 0: any free port; off: none (default)',
    null,
    parsePagePort,
  ),
  logDestinations: option<boolean>(
    'log-destinations',
    'TS_LOG_DESTINATIONS',
    null,
    'log host and port of each connection; without it no destination is ever logged',
    false,
    parseSwitch,
  ),
  devAllow: option<readonly string[]>(
    'dev-allow',
    'TS_DEV_ALLOW',
    'host:port,…',
    'development only: destinations exempt from the address policy; refused when NODE_ENV=production',
    [],
    parseHostPorts,
  ),
  status: option<boolean>(
    'status',
    'TS_STATUS',
    null,
    'bytes, speed, connections and state',
    false,
    parseSwitch,
  ),
  logLevel: option<AgentLogLevel>(
    'log-level',
    'TS_LOG_LEVEL',
    'level',
    'debug, info, warn or error',
    'info',
    oneOf('debug', 'info', 'warn', 'error'),
  ),
};

export type OptionValues = {
  -readonly [K in keyof typeof OPTIONS]: (typeof OPTIONS)[K] extends Option<infer T> ? T : never;
};
