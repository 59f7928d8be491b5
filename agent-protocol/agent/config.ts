import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ASSOCIATION_LIMITS, type AssociationLimits } from './device-association.js';
import { EXIT_CODES_HELP } from './exit-codes.js';
import type { AgentLogLevel } from './log.js';
import {
  type DeviceNetwork,
  DIAL_TIMEOUT_MS,
  LINGER_MS,
  OPTIONS,
  type Option,
  type OptionValues,
  PAGE_PORT,
} from './options.js';
import { NO_OWNER_LIMITS, type OwnerLimits } from './owner-rules.js';

/** How the agent gets its tunnel. */
export type AgentAccess =
  /** As a registered device: sessions, tickets and reports through the control plane. */
  | { readonly kind: 'api'; readonly apiUrl: string; readonly deviceId: string; readonly deviceKey: string }
  /** Straight to a gateway with a ticket from elsewhere: conformance tests and benchmarks. */
  | { readonly kind: 'direct'; readonly tunnelUrl: string; readonly ticket: string };

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
  /** Refused for its network before it ever shared: ask again now and then; false: end. */
  readonly waitWhenRefused: boolean;
  /** Hosts of streams are logged; else nothing tells where they go. */
  readonly logDestinations: boolean;
}

/** Everything that has a default. */
export const AGENT_DEFAULTS: Omit<AgentConfig, 'access'> = {
  owner: NO_OWNER_LIMITS,
  udp: ASSOCIATION_LIMITS,
  devAllow: [],
  stateDir: null,
  termsVersion: '',
  network: 'unknown',
  dialTimeoutMs: DIAL_TIMEOUT_MS,
  attemptDelayMs: 250,
  lingerMs: LINGER_MS,
  statusIntervalMs: 30_000,
  reportIntervalMs: 60_000,
  refusedRetryMs: 300_000,
  keepSession: false,
  waitWhenRefused: true,
  logDestinations: false,
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

/** An agent without its access, which `login` left in the state folder. */
export interface AccountRun {
  /** Null: that of the login. */
  readonly apiUrl: string | null;
  readonly stateDir: string;
  readonly acceptTerms: string | null;
  readonly language: 'en' | 'ru' | 'uz';
  readonly settings: Omit<AgentConfig, 'access'>;
}

/** Where the status page listens on 127.0.0.1, 0: any free port; null: there is none. */
export type PagePort = number | null;

interface RunCommon {
  readonly output: AgentOutput;
  readonly pagePort: PagePort;
  /** Where metrics are served, likewise. */
  readonly metricsPort: PagePort;
  /** Limits that flags or the environment set: they win over what was set on the running agent, and stay. */
  readonly fixed: readonly (keyof OwnerLimits)[];
}

export type AgentCommand =
  | ({ readonly kind: 'run'; readonly config: AgentConfig } & RunCommon)
  | ({ readonly kind: 'account'; readonly account: AccountRun } & RunCommon)
  | { readonly kind: 'help'; readonly text: string }
  /** One line a problem; values are not quoted, they may be secrets. */
  | { readonly kind: 'invalid'; readonly problems: readonly string[] };

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
  const { values: v, given, problems } = readOptions(flags, env);

  if (v.devAllow.length > 0 && env.NODE_ENV === 'production')
    problems.push('--dev-allow (TS_DEV_ALLOW) is refused when NODE_ENV=production');
  const byLogin = problems.length === 0 && isByLogin(v);
  const access = byLogin ? null : readAccess(v, problems);
  if ((access === null && !byLogin) || problems.length > 0) return { kind: 'invalid', problems };
  const settings: Omit<AgentConfig, 'access'> = {
    ...AGENT_DEFAULTS,
    owner: {
      capBytesDay: v.capBytesDay,
      capBytesMonth: v.capBytesMonth,
      streamsMax: v.streamsMax,
      hours: v.hours,
      blockHosts: v.blockHosts,
      bandwidthBytesPerSecond: v.bandwidth,
      wifiOnly: v.wifiOnly,
      chargingOnly: v.chargingOnly,
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
    waitWhenRefused: !byLogin || v.waitWhenRefused,
    logDestinations: v.logDestinations,
  };
  const common: RunCommon = {
    output: { status: v.status, logLevel: v.logLevel },
    metricsPort: v.metricsPort === 'off' ? null : v.metricsPort,
    pagePort: v.pagePort === 'off' ? null : (v.pagePort ?? (byLogin ? PAGE_PORT : null)),
    fixed: FIXABLE.filter(([name]) => given.has(name)).map(([, limit]) => limit),
  };
  if (access !== null) return { kind: 'run', config: Object.freeze({ ...settings, access }), ...common };
  const stateDir = v.stateDir ?? defaultStateDir(env);
  const { apiUrl, acceptTerms } = v;
  const account: AccountRun = {
    apiUrl,
    stateDir,
    acceptTerms,
    language: v.language ?? systemLanguage(env),
    settings: { ...settings, stateDir },
  };
  return { kind: 'account', account, ...common };
}

/** Options that the owner may also set on the running agent. */
const FIXABLE: readonly (readonly [keyof OptionValues, keyof OwnerLimits])[] = [
  ['capBytesDay', 'capBytesDay'],
  ['capBytesMonth', 'capBytesMonth'],
  ['bandwidth', 'bandwidthBytesPerSecond'],
  ['hours', 'hours'],
  ['wifiOnly', 'wifiOnly'],
  ['chargingOnly', 'chargingOnly'],
  ['streamsMax', 'streamsMax'],
  ['blockHosts', 'blockHosts'],
];

/** Values of all options, from flags and environment; `given`: those that somebody set. */
export function readOptions(
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): { values: OptionValues; given: ReadonlySet<string>; problems: string[] } {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  const given = new Set<string>();
  for (const [name, o] of Object.entries(OPTIONS)) {
    const flag = flags[o.flag];
    const raw = flag === undefined ? env[o.env]?.trim() : String(flag);
    values[name] = o.fallback;
    if (raw === undefined || (raw === '' && flag === undefined)) continue;
    try {
      if (raw === '') throw new Error('not empty');
      values[name] = o.parse(raw);
      given.add(name);
    } catch (error) {
      problems.push(`${flag === undefined ? o.env : `--${o.flag}`} must be ${(error as Error).message}`);
    }
  }
  return { values: values as OptionValues, given, problems };
}

/** Nothing says what device this is: `login` did. */
function isByLogin(v: OptionValues): boolean {
  return [v.deviceId, v.deviceKey, v.deviceKeyFile, v.tunnelUrl, v.ticket].every((value) => value === null);
}

/** The process's own. */
export function agentEnvironment(): Readonly<Record<string, string | undefined>> {
  return process.env;
}

/** Where the state is kept when nobody says so (XDG Base Directory Specification). */
export function defaultStateDir(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const state = env.XDG_STATE_HOME;
  const home = env.HOME ?? homedir();
  return join(state?.startsWith('/') ? state : join(home, '.local', 'state'), 'traffic-share');
}

/** The product's language nearest to that of the environment. */
export function systemLanguage(
  env: Readonly<Record<string, string | undefined>> = process.env,
): 'en' | 'ru' | 'uz' {
  const tag = (env.LC_ALL || env.LC_MESSAGES || env.LANG || '').toLowerCase();
  return tag.startsWith('ru') ? 'ru' : tag.startsWith('uz') ? 'uz' : 'en';
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
  return `Usage: traffic-share agent [run] [options]     share this machine's bandwidth until it is stopped
       traffic-share agent <command> [options]

Commands (each with --help):
  login             signs in with a code from the bot and registers this machine as a device
  logout            removes this machine from the account
  consent           shows the terms; consent accept, consent withdraw
  status            of the agent that runs: what it does, why it earns or not
  pause, resume     stops sharing at once, and goes on
  caps, schedule    data caps, bandwidth, Wi-Fi, charging; hours

After login \`traffic-share agent\` is enough. A device that was registered elsewhere is named by --api-url, --device-id
and --key-file instead.

Options, and the environment variables that stand in for them (an option wins):
${rows.join('\n')}
  --help, -h                                        this text

${EXIT_CODES_HELP}
`;
}
