import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ASSOCIATION_LIMITS, type AssociationLimits } from './device-association.js';
import type { AgentLogLevel } from './log.js';
import { type DayHours, NO_OWNER_LIMITS, type OwnerLimits } from './owner-rules.js';
import {
  integer,
  oneOf,
  parseHostPorts,
  parseHosts,
  parseHours,
  parseHttpUrl,
  parsePorts,
  parseSwitch,
  parseTunnelUrl,
} from './setting-values.js';

/** How the agent gets its tunnel. */
export type AgentAccess =
  /** As a registered device: sessions, tickets and reports through the control plane. */
  | { readonly kind: 'api'; readonly apiUrl: string; readonly deviceId: string; readonly deviceKey: string }
  /** Straight to a gateway with a ticket from elsewhere: conformance tests and benchmarks. */
  | { readonly kind: 'direct'; readonly tunnelUrl: string; readonly ticket: string };

/** What STATUS says about the device's own network. */
export type DeviceNetwork = 'wifi' | 'mobile' | 'ethernet' | 'unknown';

/** Everything `startAgent` needs. Make one with `agentConfig` or `readAgentConfig`. */
export interface AgentConfig {
  readonly access: AgentAccess;
  readonly owner: OwnerLimits;
  readonly udp: AssociationLimits;
  /** `host:port` exactly as a gateway asks for them: exempt from the address policy. For development only. */
  readonly devAllow: readonly string[];
  /** Where counters survive a restart; null: nowhere. */
  readonly stateDir: string | null;
  /** Terms version that the owner accepted on this device, for HELLO; empty: not known here. */
  readonly termsVersion: string;
  readonly network: DeviceNetwork;
  /** Resolving and connecting together; then TIMEOUT. */
  readonly dialTimeoutMs: number;
  /** Head start of one connection attempt over the next (RFC 8305 section 5). */
  readonly attemptDelayMs: number;
  /** When a tunnel is lost: time for what came by it to reach the destinations, which then are reset. */
  readonly lingerMs: number;
  /** STATUS goes out at least this often. */
  readonly statusIntervalMs: number;
  /** Byte counts are reported to the control plane this often. */
  readonly reportIntervalMs: number;
  /** How often a start refused for its region or address is tried again. */
  readonly refusedRetryMs: number;
  /** An end by signal leaves the traffic session open, for whoever starts the agent next. */
  readonly keepSession: boolean;
}

/** Everything that has a default. */
export const AGENT_DEFAULTS: Omit<AgentConfig, 'access'> = {
  owner: NO_OWNER_LIMITS,
  udp: ASSOCIATION_LIMITS,
  devAllow: [],
  stateDir: null,
  termsVersion: '',
  network: 'unknown',
  dialTimeoutMs: 10_000,
  attemptDelayMs: 250,
  lingerMs: 2_000,
  statusIntervalMs: 30_000,
  reportIntervalMs: 60_000,
  refusedRetryMs: 300_000,
  keepSession: false,
};

/** A configuration in code: the access, and what differs from `AGENT_DEFAULTS`. */
export function agentConfig(
  access: AgentAccess,
  overrides: Partial<Omit<AgentConfig, 'access'>> = {},
): AgentConfig {
  return Object.freeze({ ...AGENT_DEFAULTS, ...overrides, access });
}

/** What the command line asks for beside the agent itself. */
export interface AgentOutput {
  /** Status lines on standard output. */
  readonly status: boolean;
  readonly logLevel: AgentLogLevel;
}

export type AgentCommand =
  | { readonly kind: 'run'; readonly config: AgentConfig; readonly output: AgentOutput }
  | { readonly kind: 'help'; readonly text: string }
  /** One line a problem; values are not quoted, they may be secrets. */
  | { readonly kind: 'invalid'; readonly problems: readonly string[] };

/** One setting: its flag, its environment variable, what it means. The flag wins over the variable. */
interface Option<T> {
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
const OPTIONS = {
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
    'folder where the counters of the caps survive a restart',
    null,
    text,
  ),
  network: option<DeviceNetwork>(
    'network',
    'TS_NETWORK',
    'kind',
    'wifi, mobile or ethernet, as told to the gateway',
    AGENT_DEFAULTS.network,
    oneOf('wifi', 'mobile', 'ethernet', 'unknown'),
  ),
  termsVersion: option<string>(
    'terms-version',
    'TS_TERMS_VERSION',
    'version',
    'terms that the owner accepted on this device',
    AGENT_DEFAULTS.termsVersion,
    text,
  ),
  dialTimeoutMs: option<number>(
    'dial-timeout-ms',
    'TS_DIAL_TIMEOUT_MS',
    'ms',
    'for resolving and reaching a destination',
    AGENT_DEFAULTS.dialTimeoutMs,
    integer(100, 120_000),
  ),
  lingerMs: option<number>(
    'linger-ms',
    'TS_LINGER_MS',
    'ms',
    'for what came by a tunnel that is lost to reach its destinations, which then are reset',
    AGENT_DEFAULTS.lingerMs,
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

type OptionValues = {
  -readonly [K in keyof typeof OPTIONS]: (typeof OPTIONS)[K] extends Option<infer T> ? T : never;
};

/** Reads flags and environment. Reports every problem together. */
export function readAgentConfig(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): AgentCommand {
  let flags: Record<string, unknown>;
  try {
    flags = parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: false,
      options: {
        help: { type: 'boolean', short: 'h' },
        ...Object.fromEntries(
          Object.values(OPTIONS).map((o) => [
            o.flag,
            { type: o.value === null ? 'boolean' : 'string' } as const,
          ]),
        ),
      },
    }).values;
  } catch (error) {
    return { kind: 'invalid', problems: [(error as Error).message] };
  }
  if (flags.help === true) return { kind: 'help', text: helpText() };

  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, o] of Object.entries(OPTIONS)) {
    const flag = flags[o.flag];
    const raw = flag === undefined ? env[o.env]?.trim() : String(flag);
    values[name] = o.fallback;
    if (raw === undefined || (raw === '' && flag === undefined)) continue;
    try {
      if (raw === '') throw new Error('not empty');
      values[name] = o.parse(raw);
    } catch (error) {
      problems.push(`${flag === undefined ? o.env : `--${o.flag}`} must be ${(error as Error).message}`);
    }
  }
  const v = values as OptionValues;
  const access = readAccess(v, problems);
  if (v.devAllow.length > 0 && env.NODE_ENV === 'production')
    problems.push('--dev-allow (TS_DEV_ALLOW) is refused when NODE_ENV=production');
  if (access === null || problems.length > 0) return { kind: 'invalid', problems };
  const config = agentConfig(access, {
    owner: {
      capBytesDay: v.capBytesDay,
      capBytesMonth: v.capBytesMonth,
      streamsMax: v.streamsMax,
      hours: v.hours,
      blockHosts: v.blockHosts,
    },
    udp: {
      enabled: !v.noUdp,
      associationsMax: v.maxAssociations,
      flowsMax: v.maxUdpFlows,
      flowIdleMs: v.udpFlowIdleMs,
      idleMs: v.udpIdleMs,
      blockPorts: v.udpBlockPorts,
    },
    devAllow: v.devAllow,
    stateDir: v.stateDir,
    termsVersion: v.termsVersion,
    network: v.network,
    dialTimeoutMs: v.dialTimeoutMs,
    lingerMs: v.lingerMs,
    keepSession: v.keepSession,
  });
  return { kind: 'run', config, output: { status: v.status, logLevel: v.logLevel } };
}

function readAccess(v: OptionValues, problems: string[]): AgentAccess | null {
  const named = (o: Option<unknown>) => `--${o.flag} (${o.env})`;
  const missing = (o: Option<unknown>) => {
    problems.push(`${named(o)} is required: ${o.help}`);
    return null;
  };
  if (v.tunnelUrl !== null) {
    if (v.ticket === null) return missing(OPTIONS.ticket);
    return { kind: 'direct', tunnelUrl: v.tunnelUrl, ticket: v.ticket };
  }
  let deviceKey = v.deviceKey;
  if (deviceKey === null && v.deviceKeyFile !== null) {
    try {
      deviceKey = readFileSync(v.deviceKeyFile, 'utf8').trim() || null;
    } catch (error) {
      problems.push(
        `${named(OPTIONS.deviceKeyFile)} is not readable (${(error as NodeJS.ErrnoException).code})`,
      );
      return null;
    }
  }
  if (v.apiUrl === null) missing(OPTIONS.apiUrl);
  if (v.deviceId === null) missing(OPTIONS.deviceId);
  if (deviceKey === null) missing(OPTIONS.deviceKey);
  if (v.apiUrl === null || v.deviceId === null || deviceKey === null) return null;
  return { kind: 'api', apiUrl: v.apiUrl, deviceId: v.deviceId, deviceKey };
}

/** Text of `--help`. */
export function helpText(): string {
  const rows = Object.values(OPTIONS as Record<string, Option<unknown>>).map((o) => {
    const flag = o.value === null ? `--${o.flag}` : `--${o.flag} <${o.value}>`;
    const unset =
      o.fallback === null || o.fallback === '' || o.fallback === false || Array.isArray(o.fallback);
    return `  ${flag.padEnd(28)} ${o.env.padEnd(20)} ${o.help}${unset ? '' : ` (default ${String(o.fallback)})`}`;
  });
  return `Usage: traffic-share agent --api-url <url> --device-id <id> --key-file <path>

Shares this machine's bandwidth as a registered device until it is stopped.

Options, and the environment variables that stand in for them (an option wins):
${rows.join('\n')}
  --help, -h                                        this text

Exit codes: 0 stopped as asked, 1 wrong settings or an unexpected error, 2 refused until its owner acts
(the last line says what to do), 3 replaced by another agent with the same device.
`;
}
