import type { Agent } from './agent.js';
import { effectiveLimits, LOCAL_LIMITS, type LocalSettings, writeLocalSettings } from './local-settings.js';
import type { DayHours, OwnerLimits } from './owner-rules.js';
import type { ServerView } from './server-view.js';
import { AGENT_VERSION } from './version.js';

/** What the running agent tells its owner: `status --json`, the status page. Money is decimal text in US dollars. */
export interface AgentStatus {
  readonly version: string;
  /** A newer version; null: none is known. */
  readonly latest_version: string | null;
  readonly pid: number;
  readonly state: string;
  readonly online_since: string | null;
  /** Why it holds no tunnel. */
  readonly trouble: { code: string; text: string; at: string } | null;
  /** Why nothing is shared although it could be: `owner`, `hours`, `wifi_only`, `charging_only`, `cap_reached`. */
  readonly paused: { by: string; until: string | null } | null;
  /** As the server sees it, in the words of the API; null: it could not be asked. */
  readonly device: { code: string; earns: boolean; what: string; todo: string; detail: string | null } | null;
  readonly device_id: string | null;
  readonly session_id: string | null;
  readonly network: string;
  readonly charging: boolean | null;
  readonly bytes_per_second: number;
  readonly streams_open: number;
  readonly bytes_up: number;
  readonly bytes_down: number;
  readonly today: { bytes: number; cap_bytes: number | null };
  readonly month: { bytes: number; cap_bytes: number | null };
  /** Until the nearest cap, that of the account over all devices included; null: no cap. */
  readonly cap_bytes_left: number | null;
  readonly earnings: {
    today: string;
    month: string;
    available: string;
    pending: string;
    currency: string;
  } | null;
  readonly page: string | null;
}

/** One limit, and who set it. */
export interface LimitView {
  readonly value: unknown;
  /** `option`: a flag or the environment of the running agent, which wins; `here`: `caps` or `schedule`. */
  readonly from: 'option' | 'here' | 'default';
}

/** The limits in force on this machine, and those of the account beside them. */
export interface LimitsView {
  readonly machine: Readonly<Record<(typeof LOCAL_LIMITS)[number], LimitView>>;
  readonly account: {
    cap_bytes_left: number | null;
    wifi_only: boolean;
    charging_only: boolean;
    hours: DayHours | null;
    blocked_destinations: number;
  } | null;
}

/** What a change came to. */
export type ChangeOutcome = { readonly ok: true } | { readonly ok: false; readonly text: string };

/** A pause is at least a second and at most a year long, ms. */
export const isPauseMs = (value: unknown): value is number =>
  Number.isFinite(value) && (value as number) >= 1_000 && (value as number) <= 366 * 86_400_000;
export const PAUSE_MS_TEXT = 'for_ms must be milliseconds, from a second to a year, or null.';

/** Speed is told over this time, ms. */
const SPEED_MS = 2_000;
const SAMPLE_MS = 500;

/** A running agent as its owner's programs see and steer it. Settings that are made here outlive a restart. */
export class LocalAgent {
  /** Where the status page is; null: there is none. */
  page: string | null = null;
  #settings: LocalSettings;
  #changing: Promise<unknown> = Promise.resolve();
  readonly #samples: { bytes: number; atMs: number }[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(
    private readonly agent: Agent,
    private readonly options: {
      stateDir: string;
      settings: LocalSettings;
      /** As the agent was started. */
      limits: OwnerLimits;
      fixed: readonly (keyof OwnerLimits)[];
      deviceId: string | null;
      /** Null: there is no control plane to ask. */
      server: ServerView | null;
    },
  ) {
    this.#settings = options.settings;
    const { paused } = options.settings;
    if (paused != null && (paused.until === null || new Date(paused.until) > new Date()))
      agent.setPaused(true, paused.until === null ? null : new Date(paused.until));
    agent.setLimits(effectiveLimits(options.limits, options.settings, options.fixed));
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS).unref();
    this.#sample();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** `ageMsMax`: what the server said may be as old. */
  async status(ageMsMax: number): Promise<AgentStatus> {
    const server = (await this.options.server?.read(ageMsMax)) ?? null;
    const { agent } = this;
    const { rules, counters, trouble } = agent;
    const { limits, usage } = rules;
    const pausedBy = rules.pausedBy ?? (rules.capBytesLeft === 0 ? 'cap_reached' : null);
    return {
      version: AGENT_VERSION,
      latest_version: server?.latestVersion ?? null,
      pid: process.pid,
      state: agent.state,
      online_since: agent.onlineSince?.toISOString() ?? null,
      trouble: trouble === null ? null : { ...trouble, at: trouble.at.toISOString() },
      paused: pausedBy === null ? null : { by: pausedBy, until: rules.pausedUntil?.toISOString() ?? null },
      device: server?.device ?? null,
      device_id: this.options.deviceId,
      session_id: agent.sessionId,
      network: agent.machine.network,
      charging: agent.machine.charging,
      bytes_per_second: this.#speed(),
      streams_open: counters.streamsOpen,
      bytes_up: counters.bytesUp,
      bytes_down: counters.bytesDown,
      today: { bytes: usage.dayBytes, cap_bytes: limits.capBytesDay },
      month: { bytes: usage.monthBytes, cap_bytes: limits.capBytesMonth },
      cap_bytes_left: rules.capBytesLeft,
      earnings: server?.earnings ?? null,
      page: this.page,
    };
  }

  /** Cuts what is open and refuses what is new, at once; `forMs` null: until `resume`. */
  async pause(forMs: number | null): Promise<void> {
    const until = forMs === null ? null : new Date(Date.now() + forMs);
    this.agent.setPaused(true, until);
    await this.#keep({ paused: { until: until?.toISOString() ?? null } });
  }

  async resume(): Promise<void> {
    this.agent.setPaused(false);
    await this.#keep({ paused: null });
  }

  limits(): LimitsView {
    const { limits, account } = this.agent.rules;
    const { fixed } = this.options;
    const machine = Object.fromEntries(
      LOCAL_LIMITS.map((name) => {
        const from = fixed.includes(name)
          ? 'option'
          : this.#settings[name] === undefined
            ? 'default'
            : 'here';
        return [name, { value: limits[name], from }];
      }),
    ) as LimitsView['machine'];
    return {
      machine,
      account: account && {
        cap_bytes_left: account.capBytesLeft,
        wifi_only: account.wifiOnly,
        charging_only: account.chargingOnly,
        hours: account.hours,
        blocked_destinations: account.blockHosts.length,
      },
    };
  }

  /** Changes limits of this machine; in force when it resolves. */
  async change(settings: LocalSettings): Promise<ChangeOutcome> {
    const { fixed, limits } = this.options;
    const refused = LOCAL_LIMITS.filter((name) => settings[name] !== undefined && fixed.includes(name));
    if (refused.length > 0)
      return {
        ok: false,
        text: `The running agent was started with an option for ${refused.join(', ')}, which wins. Start it without.`,
      };
    await this.#keep(settings);
    this.agent.setLimits(effectiveLimits(limits, this.#settings, fixed));
    return { ok: true };
  }

  /** One after the other; what is on disk is what holds. */
  #keep(change: LocalSettings): Promise<void> {
    const kept = this.#changing
      .catch(() => {})
      .then(async () => {
        const next = { ...this.#settings, ...change };
        await writeLocalSettings(this.options.stateDir, next);
        this.#settings = next;
      });
    this.#changing = kept;
    return kept;
  }

  #sample(): void {
    const { bytesUp, bytesDown } = this.agent.counters;
    this.#samples.push({ bytes: bytesUp + bytesDown, atMs: performance.now() });
    if (this.#samples.length > SPEED_MS / SAMPLE_MS + 1) this.#samples.shift();
  }

  #speed(): number {
    const [first] = this.#samples;
    const { bytesUp, bytesDown } = this.agent.counters;
    const elapsedMs = performance.now() - (first?.atMs ?? 0);
    if (first === undefined || elapsedMs <= 0) return 0;
    return Math.round(((bytesUp + bytesDown - first.bytes) * 1_000) / elapsedMs);
  }
}
