import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from '../faults/random.js';
import type { Traffic, TransferPlan } from '../faults/traffic.js';
import { type Fleet, LOAD_BUYERS } from './fleet.js';

/** How much traffic runs in a phase. */
export interface LoadSize {
  /** New connections a second, named sessions' own aside. */
  connectionsPerS: number;
  /** Named sessions that are used without a pause. */
  sessions: number;
  /** Streams that begin with the phase, so that some are there when something happens. */
  longStreams: number;
  /** How long each of them lasts, seconds: shorter than a drain, which waits for them. */
  longS: number;
}

/** One small request of a named session, each by a connection of its own. */
export interface Attempt {
  startMs: number;
  endMs: number;
  ok: boolean;
}

/** A named session's user: one request after the other. */
export interface SessionUser {
  readonly buyer: number;
  readonly name: string;
  /** Where it is used first, so that each gateway has devices of some: those of the gateway itself come first. */
  readonly firstAt: number;
  readonly attempts: Attempt[];
}

/** Between two requests of a session, ms: what the time without service is known to. */
const SESSION_PAUSE_MS = 200;
/** A client gives up then, ms. Well above what is allowed: who hangs has no service. */
const GIVE_UP_MS = 10_000;
const SESSION_BYTES = 500;

/** Mixed traffic of several buyers, at HAProxy, in both protocols: as people who use the proxy all day make it. */
export class Load {
  readonly sessions: SessionUser[];
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;
  #users: Array<Promise<void>> = [];

  /** `name`: of the phase, part of its sessions' names. */
  constructor(
    private readonly fleet: Fleet,
    private readonly traffic: Traffic,
    private readonly random: Random,
    private readonly size: LoadSize,
    name: string,
  ) {
    this.sessions = Array.from({ length: size.sessions }, (_, n) => ({
      buyer: n % LOAD_BUYERS,
      name: `${name}s${n}`,
      firstAt: n % fleet.system.gateways.length,
      attempts: [],
    }));
  }

  start(): void {
    this.#users = this.sessions.map((user) => this.#use(user));
    for (let n = 0; n < this.size.longStreams; n++) this.#begin(longPlan(this.random, this.size.longS));
    this.#timer = setInterval(() => this.#begin(planOf(this.random)), 1_000 / this.size.connectionsPerS);
  }

  /** Begins nothing more; what runs goes on. Resolves when the sessions' last requests are over. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#stopped = true;
    await Promise.all(this.#users);
  }

  #begin(plan: TransferPlan): void {
    const { random, fleet, traffic } = this;
    const proxy = fleet.proxy(random.integer(0, LOAD_BUYERS - 1), random.chance(0.2) ? '-rotate-1' : '');
    traffic.start(random.chance(0.5) ? { ...proxy, protocol: 'socks5' } : proxy, plan);
  }

  async #use(user: SessionUser): Promise<void> {
    const options = `-session-${user.name}-ttl-1`;
    const plan: TransferPlan = { kind: 'echo', sizeBytes: SESSION_BYTES, paceBytesPerS: 1e6 };
    // Not all at once.
    await delay(this.random.integer(0, SESSION_PAUSE_MS));
    while (!this.#stopped) {
      const at = user.attempts.length === 0 ? user.firstAt : undefined;
      const running = this.traffic.start(this.fleet.proxy(user.buyer, options, at), plan);
      const timer = setTimeout(() => running.cut(), GIVE_UP_MS);
      await running.over;
      clearTimeout(timer);
      const { startedAtMs, endedAtMs, state } = running.transfer;
      user.attempts.push({
        startMs: startedAtMs,
        endMs: endedAtMs ?? performance.now(),
        ok: state === 'complete',
      });
      await delay(SESSION_PAUSE_MS);
    }
  }
}

/** Six small ones in ten, three of some size, and one that takes seconds. */
function planOf(random: Random): TransferPlan {
  const kind = random.pick(['download', 'download', 'upload', 'echo']);
  const size = random.next();
  if (size < 0.6) return { kind, sizeBytes: random.integer(1, 20_000), paceBytesPerS: 1e6 };
  if (size < 0.9) return { kind, sizeBytes: random.integer(20_000, 300_000), paceBytesPerS: 300_000 };
  return longPlan(random, random.integer(3, 8));
}

function longPlan(random: Random, lastsS: number): TransferPlan {
  const paceBytesPerS = random.integer(20_000, 100_000);
  const kind = random.pick(['download', 'download', 'upload', 'echo']);
  return { kind, sizeBytes: paceBytesPerS * lastsS, paceBytesPerS };
}

/** The longest time between `fromMs` and `toMs` in which no request of the session came to its good end. */
export function longestGapMs(attempts: readonly Attempt[], fromMs: number, toMs: number): number {
  const ends = attempts.filter(({ ok, endMs }) => ok && endMs >= fromMs && endMs <= toMs).map((a) => a.endMs);
  let [before, longest] = [fromMs, 0];
  for (const endMs of [...ends, toMs]) {
    longest = Math.max(longest, endMs - before);
    before = endMs;
  }
  return longest;
}
