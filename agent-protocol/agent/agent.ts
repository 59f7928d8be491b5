import { TlsSessions } from '../tls-sessions.js';
import { type AgentEnd, FINAL_GOAWAYS, REGION_GOAWAYS } from './agent-end.js';
import { AgentFigures } from './agent-figures.js';
import { type ByteCounts, DeviceApi, type StartRefusal, type TunnelInvitation } from './api.js';
import { backoffMs, RECONNECT_BACKOFF, SOON_BACKOFF, SOON_FOR_MS, sleep } from './backoff.js';
import type { AgentConfig } from './config.js';
import { DeviceTunnel, type TunnelEnd, type TunnelEnvironment } from './device-tunnel.js';
import type { AgentLog } from './log.js';
import { type MachineState, readMachine } from './machine.js';
import { type OwnerLimits, OwnerRules } from './owner-rules.js';
import { cachedResolve, dnsResolve, type Resolve, systemResolve } from './resolve.js';
import { isPrivateTransport, splitHostPort } from './setting-values.js';
import { UsageFile } from './usage.js';
import { AGENT_VERSION } from './version.js';

/**
 * | state | holds | leaves to |
 * |---|---|---|
 * | starting | no tunnel; asking the control plane for a session | connecting, waiting, refused, ended |
 * | connecting | a ticket; the handshake is under way | online, waiting, ended |
 * | online | a tunnel with WELCOME | starting (lost or told to drain), ended |
 * | waiting | nothing; the next attempt comes after a wait | starting |
 * | refused | nothing; refused for where the device is, asks slowly | starting |
 * | ended | nothing, for good | |
 *
 * Tunnels that were told to drain live beside whatever state follows, until their streams are done.
 */
export type AgentState = 'starting' | 'connecting' | 'online' | 'waiting' | 'refused' | 'ended';

/** Counts of this process, over all its tunnels. */
export interface AgentCounters {
  /** Payload bytes buyer → destination. */
  readonly bytesUp: number;
  /** Payload bytes destination → buyer. */
  readonly bytesDown: number;
  /** Streams being dialled or relayed now. */
  readonly streamsOpen: number;
  /** OPENs so far, refused ones included. */
  readonly streamsTotal: number;
  /** Datagrams that came to nothing so far: prohibited, unresolved, from strangers, above a bound. */
  readonly datagramsDropped: number;
  /** Tunnels that reached WELCOME so far. */
  readonly tunnelsTotal: number;
  /** Bytes until the owner's nearer cap; null without one. */
  readonly capBytesLeft: number | null;
}

/** Why the agent holds no tunnel. */
export interface AgentTrouble {
  /** A code of API.md, a GOAWAY code, or `network` and the like. */
  readonly code: string;
  /** For people. */
  readonly text: string;
  readonly at: Date;
}

/** A running agent. */
export interface Agent {
  readonly state: AgentState;
  readonly counters: AgentCounters;
  /** To be read only. */
  readonly figures: Pick<AgentFigures, 'dials' | 'troubles' | 'stalls'>;
  /** What its owner allows, and what of it is used up; to be read only. */
  readonly rules: Readonly<OwnerRules>;
  /** Since when it holds its tunnel; null: it holds none. */
  readonly onlineSince: Date | null;
  /** Why the last attempt came to nothing; null once it is online. */
  readonly trouble: AgentTrouble | null;
  readonly machine: MachineState;
  /** The traffic session, once known. */
  readonly sessionId: string | null;
  /** Resolves when the agent ended, for whatever reason; never rejects. */
  readonly ended: Promise<AgentEnd>;
  /** The owner's pause: open streams are cut, new ones refused, the tunnel stays. `until`: when it ends by itself. */
  setPaused(paused: boolean, until?: Date | null): void;
  /** The owner's limits, in force at once. */
  setLimits(limits: OwnerLimits): void;
  /** Ends it within a few seconds: closes its tunnels and, unless the session is kept, ends that as well. */
  stop(options?: { keepSession?: boolean }): Promise<AgentEnd>;
}

/** What a test may put in place of the real thing. */
export interface AgentDependencies {
  /** For destinations under the address policy. */
  readonly resolve?: Resolve;
  /** Local time of the device, for caps and hours. */
  readonly now?: () => Date;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
  /** For the rules about Wi-Fi and charging. */
  readonly machine?: () => MachineState;
}

/** Owner's rules are looked at, and counters saved, this often. */
const TICK_MS = 1_000;

/** The machine's network and power are looked up this often, ms. */
const MACHINE_MS = 5_000;

/** A tunnel that lived this long was a success: the next wait is the first one again. */
const STABLE_AFTER_MS = 10_000;

/** `stop` waits for the control plane at most this long. */
const STOP_TIMEOUT_MS = 5_000;

/** Starts an agent. It connects on its own, again and again, until it is stopped or finally refused. */
export function startAgent(config: AgentConfig, log: AgentLog, dependencies: AgentDependencies = {}): Agent {
  const agent = new DeviceAgent(config, log, dependencies);
  agent.begin();
  return agent;
}

type Step =
  | { readonly kind: 'again'; readonly waitMs: number; readonly state: AgentState }
  | { readonly kind: 'end'; readonly end: AgentEnd };

class DeviceAgent implements Agent {
  state: AgentState = 'starting';
  sessionId: string | null = null;
  onlineSince: Date | null = null;
  trouble: AgentTrouble | null = null;
  readonly figures = new AgentFigures();
  machine: MachineState = { network: 'unknown', charging: null };
  readonly rules: OwnerRules;
  readonly ended: Promise<AgentEnd>;
  readonly #config: AgentConfig;
  readonly #log: AgentLog;
  readonly #api: DeviceApi | null;
  readonly #usageFile: UsageFile;
  readonly #now: () => Date;
  readonly #random: () => number;
  readonly #readMachine: () => MachineState;
  readonly #environment: TunnelEnvironment;
  readonly #stopping = new AbortController();
  #tunnel: DeviceTunnel | null = null;
  readonly #draining = new Set<DeviceTunnel>();
  #streamsTotal = 0;
  #tunnelsTotal = 0;
  #datagramsDropped = 0;
  #failures = 0;
  /** Monotonic ms of the latest loss of a tunnel that had held. */
  #lostAtMs = Number.NEGATIVE_INFINITY;
  #reported: ByteCounts = { bytesUp: 0, bytesDown: 0 };
  #reportedAtMs = performance.now();
  #told = '';
  #timers: NodeJS.Timeout[] = [];
  #resolveEnded: (end: AgentEnd) => void = () => {};
  #stopped: Promise<AgentEnd> | null = null;

  constructor(config: AgentConfig, log: AgentLog, dependencies: AgentDependencies) {
    this.#config = config;
    this.#log = log;
    this.#now = dependencies.now ?? (() => new Date());
    this.#random = dependencies.random ?? Math.random;
    this.#readMachine = dependencies.machine ?? readMachine;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    const { access } = config;
    this.#api = access.kind === 'api' ? new DeviceApi({ ...access, clientVersion: AGENT_VERSION }) : null;
    this.#usageFile = new UsageFile(config.stateDir, log);
    this.rules = new OwnerRules(config.owner, this.#usageFile.load(), this.#now());
    const exempt = new Set(config.devAllow.map(exemptKey));
    const monotonicMs = () => performance.now();
    this.#environment = {
      config,
      log,
      rules: this.rules,
      resolve: dependencies.resolve ?? cachedResolve(dnsResolve(), monotonicMs),
      resolveExempt: cachedResolve(systemResolve, monotonicMs),
      tlsSessions: new TlsSessions(),
      network: () => this.machine.network,
      isExempt: (host, port) => exempt.size > 0 && exempt.has(`${host} ${port}`),
      onStream: () => {
        this.#streamsTotal++;
      },
      onAnswered: (code) => this.figures.countAnswer(code),
      onClosedByRules: () => this.#enforce(),
      onDatagramDropped: () => {
        this.#datagramsDropped++;
      },
    };
  }

  get counters(): AgentCounters {
    return {
      bytesUp: this.rules.bytesUp,
      bytesDown: this.rules.bytesDown,
      streamsOpen: this.rules.streamsOpen,
      streamsTotal: this.#streamsTotal,
      datagramsDropped: this.#datagramsDropped,
      tunnelsTotal: this.#tunnelsTotal,
      capBytesLeft: this.rules.capBytesLeft,
    };
  }

  #noteTrouble(code: string, text: string): void {
    this.trouble = { code, text, at: this.#now() };
    this.figures.countTrouble(code);
  }

  begin(): void {
    const { access, owner, stateDir, devAllow, statusIntervalMs, reportIntervalMs } = this.#config;
    if (devAllow.length > 0) this.#log('warn', 'destinations exempt from the address policy', { devAllow });
    if (stateDir === null && (owner.capBytesDay !== null || owner.capBytesMonth !== null))
      this.#log('warn', 'caps without a state folder start again with every start of the agent');
    if (access.kind === 'api' && !isPrivateTransport(access.apiUrl))
      this.#log('warn', 'the device key travels unencrypted', { apiUrl: access.apiUrl });
    this.#lookAtMachine();
    this.#timers = [
      setInterval(() => this.#tick(), TICK_MS),
      setInterval(() => this.#lookAtMachine(), MACHINE_MS),
      setInterval(() => this.#tellStatus(), statusIntervalMs),
      setInterval(() => void this.#report(), reportIntervalMs),
    ];
    this.#run().then(
      (end) => this.#finish(end),
      (error: unknown) => {
        this.#log('error', 'unexpected failure', { message: String(error) });
        this.#finish({ exitCode: 1, code: 'internal', text: 'The agent failed unexpectedly.' });
      },
    );
  }

  setPaused(paused: boolean, until: Date | null = null): void {
    this.rules.setPaused(paused, until);
    this.#enforce();
  }

  setLimits(limits: OwnerLimits): void {
    this.rules.setLimits(limits, this.#now());
    this.#enforce();
    this.#tellStatus();
  }

  #lookAtMachine(): void {
    const { network } = this.#config;
    const seen = this.#readMachine();
    this.machine = network === 'unknown' ? seen : { ...seen, network };
    this.rules.setMachine(this.machine);
    this.#enforce();
  }

  stop(options: { keepSession?: boolean } = {}): Promise<AgentEnd> {
    this.#stopped ??= this.#stop(options.keepSession ?? false);
    return this.#stopped;
  }

  async #stop(keepSession: boolean): Promise<AgentEnd> {
    if (this.state === 'ended') return this.ended;
    this.#stopping.abort();
    const goaway = keepSession
      ? { code: 'shutting_down', reason: 'agent ends, session stays' }
      : { code: 'stopped', reason: 'stopped on the device' };
    for (const tunnel of this.#tunnels()) tunnel.close(goaway);
    if (!keepSession && this.#api !== null && this.sessionId !== null) {
      const { sessionBytesUp: bytesUp, sessionBytesDown: bytesDown } = this.rules.usage;
      const signal = AbortSignal.timeout(STOP_TIMEOUT_MS);
      const refusal = await this.#api.stop(this.sessionId, { bytesUp, bytesDown }, signal);
      if (refusal === null)
        this.#log('info', 'session stopped', { sessionId: this.sessionId, bytesUp, bytesDown });
      else this.#log('warn', 'stop not delivered, the server will notice', { code: refusal.code });
    }
    const text = keepSession ? 'Stopped; the traffic session stays open.' : 'Stopped.';
    this.#finish({ exitCode: 0, code: 'stopped', text });
    await this.#usageFile.save(this.rules.usage);
    return this.ended;
  }

  #finish(end: AgentEnd): void {
    if (this.state === 'ended') return;
    this.state = 'ended';
    for (const timer of this.#timers) clearInterval(timer);
    for (const tunnel of this.#tunnels()) tunnel.close({ code: 'shutting_down', reason: 'agent ends' });
    this.#stopping.abort();
    void this.#usageFile.save(this.rules.usage).then(() => this.#resolveEnded(end));
  }

  /** One round is one tunnel. Returns when the agent is finally refused; never after `stop`. */
  async #run(): Promise<AgentEnd> {
    const { signal } = this.#stopping;
    for (;;) {
      const step = await this.#round(signal);
      if (signal.aborted) return this.ended;
      if (step.kind === 'end') return step.end;
      this.state = step.state;
      if (step.waitMs > 0) this.#log('debug', 'next attempt', { waitMs: Math.round(step.waitMs) });
      await sleep(step.waitMs, signal);
      if (signal.aborted) return this.ended;
    }
  }

  async #round(signal: AbortSignal): Promise<Step> {
    this.state = 'starting';
    const invitation = await this.#invitation(signal);
    if (!('url' in invitation)) return this.#afterRefusal(invitation);
    if (signal.aborted) return this.#again(0);

    this.state = 'connecting';
    const tunnel = new DeviceTunnel(this.#environment);
    this.#tunnel = tunnel;
    this.figures.follow(tunnel);
    const welcome = await tunnel.open(invitation);
    if (!welcome) return this.#afterEnd(tunnel, await tunnel.left);

    this.state = 'online';
    this.onlineSince = this.#now();
    this.trouble = null;
    this.#tunnelsTotal++;
    for (const old of this.#draining) old.closeWhenIdle();
    this.#tellStatus();
    const onlineAtMs = performance.now();
    const end = await tunnel.left;
    this.onlineSince = null;
    const endedAtMs = performance.now();
    if (endedAtMs - onlineAtMs >= STABLE_AFTER_MS) {
      this.#failures = 0;
      this.#lostAtMs = endedAtMs;
    }
    return this.#afterEnd(tunnel, end);
  }

  async #invitation(signal: AbortSignal): Promise<TunnelInvitation | StartRefusal> {
    const { access } = this.#config;
    if (access.kind === 'direct') return { url: access.tunnelUrl, ticket: access.ticket };
    const outcome = await (this.#api as DeviceApi).start(signal);
    if (!outcome.ok) return outcome;
    if (outcome.sessionId !== this.sessionId) this.#log('info', 'session', { sessionId: outcome.sessionId });
    this.sessionId = outcome.sessionId;
    this.rules.beginSession(outcome.sessionId);
    if (outcome.rules !== null) this.rules.setAccount(outcome.rules, this.#now());
    return outcome.tunnel;
  }

  #afterRefusal(refusal: StartRefusal): Step {
    const { kind, code, text, retryAfterMs } = refusal;
    if (kind === 'final') return { kind: 'end', end: { exitCode: 2, code, text } };
    this.#log('warn', 'start refused', { code, text });
    this.#noteTrouble(code, text);
    if (kind === 'wait') {
      // Somebody has just started it here: better told now than found out tomorrow
      if (!this.#config.waitWhenRefused && this.#tunnelsTotal === 0)
        return { kind: 'end', end: { exitCode: 2, code, text } };
      const waitMs = this.#config.refusedRetryMs * (0.75 + this.#random() / 2);
      return { kind: 'again', waitMs: Math.max(waitMs, retryAfterMs ?? 0), state: 'refused' };
    }
    this.#failures++;
    return this.#again(retryAfterMs ?? 0);
  }

  #afterEnd(tunnel: DeviceTunnel, end: TunnelEnd): Step {
    if (this.#tunnel === tunnel) this.#tunnel = null;
    if (this.#stopping.signal.aborted) return this.#again(0);
    if (end.kind === 'drain') {
      // Make before break: the next tunnel is opened while the streams of this one go on
      this.#draining.add(tunnel);
      void tunnel.closed.then(() => this.#draining.delete(tunnel));
      this.#log('info', 'told to move', { reason: end.reason, deadlineMs: end.deadlineMs });
      this.#failures = 0;
      return { kind: 'again', waitMs: 0, state: 'starting' };
    }
    const { code, reason, byPeer, reconnectAfterMs, httpStatus } = end;
    const final = byPeer && Object.hasOwn(FINAL_GOAWAYS, code) ? FINAL_GOAWAYS[code] : undefined;
    if (final !== undefined) return { kind: 'end', end: { ...final, code } };
    if (httpStatus === 426)
      return { kind: 'end', end: { ...(FINAL_GOAWAYS.client_too_old as AgentEnd), code: 'client_too_old' } };
    if (httpStatus === 401 && this.#config.access.kind === 'direct')
      return { kind: 'end', end: { exitCode: 2, code, text: 'The gateway does not accept this ticket.' } };
    this.#noteTrouble(code, `The tunnel was lost: ${reason || code}.`);
    this.#log('warn', 'tunnel lost', {
      code,
      reason,
      byPeer,
      ...(httpStatus === null ? {} : { httpStatus }),
    });
    if (byPeer && REGION_GOAWAYS.has(code))
      return {
        kind: 'again',
        waitMs: this.#config.refusedRetryMs * (0.75 + this.#random() / 2),
        state: 'refused',
      };
    const step = this.#again(reconnectAfterMs ?? 0);
    this.#failures++;
    return step;
  }

  #again(atLeastMs: number): Step {
    const soon = performance.now() - this.#lostAtMs < SOON_FOR_MS;
    const limits = soon ? SOON_BACKOFF : RECONNECT_BACKOFF;
    const waitMs = atLeastMs + backoffMs(this.#failures, this.#random(), limits);
    return { kind: 'again', waitMs, state: 'waiting' };
  }

  #tunnels(): DeviceTunnel[] {
    return this.#tunnel === null ? [...this.#draining] : [this.#tunnel, ...this.#draining];
  }

  #tick(): void {
    this.rules.tick(this.#now());
    this.#enforce();
    void this.#usageFile.save(this.rules.usage);
  }

  /** Cuts what the owner's rules do not allow any more, and says so to the gateway when that changed. */
  #enforce(): void {
    const { closed } = this.rules;
    if (closed !== null) for (const tunnel of this.#tunnels()) tunnel.cutStreams(closed);
    if (this.#told !== String(closed)) this.#tellStatus();
  }

  #tellStatus(): void {
    this.#told = String(this.rules.closed);
    this.#tunnel?.tellStatus();
  }

  async #report(): Promise<void> {
    if (this.#api === null || this.sessionId === null || this.state === 'ended') return;
    const { sessionId } = this;
    const total: ByteCounts = { bytesUp: this.rules.bytesUp, bytesDown: this.rules.bytesDown };
    const nowMs = performance.now();
    const gained = {
      bytesUp: total.bytesUp - this.#reported.bytesUp,
      bytesDown: total.bytesDown - this.#reported.bytesDown,
    };
    const seconds = Math.max(1, Math.round((nowMs - this.#reportedAtMs) / 1000));
    const reported = await this.#api.report(sessionId, gained, seconds, this.#stopping.signal);
    if (!reported.ok) return;
    if (reported.rules !== null) {
      this.rules.setAccount(reported.rules, this.#now());
      this.#enforce();
    }
    this.#reported = total;
    this.#reportedAtMs = nowMs;
  }
}

function exemptKey(entry: string): string {
  const parts = splitHostPort(entry);
  if (parts === null) throw new Error(`not host:port: ${entry}`);
  return `${parts.host} ${parts.port}`;
}
