import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { actorId } from '../http/actor.js';
import { type Ended, type LiveActor, subjectOf } from './actors.js';
import { EventStream } from './event-stream.js';
import type { LiveFigures, Subjects } from './figures.js';

export interface LiveHubSettings {
  /** Pause between two looks, ms. */
  intervalMs: number;
  /** Without an event for so long, a comment is sent, ms. */
  heartbeatMs: number;
  /** A reader that has taken nothing for so long is cut, ms. */
  stallMs: number;
  /** A stream is ended after this time, ms: its client connects again. */
  lifeMs: number;
  /** Streams at once at this control plane. */
  streamsMax: number;
  /** Streams at once of one user, buyer or admin. */
  streamsPerActorMax: number;
}

export interface LiveHubDeps {
  clock: Clock;
  log: Log;
  settings: LiveHubSettings;
  /** Whose listening has to end. */
  findEnded: (actors: readonly LiveActor[]) => Promise<ReadonlyMap<LiveActor, Ended>>;
  /** What is true now of all that are listened to, in one go. */
  read: (subjects: Subjects) => Promise<LiveFigures>;
}

interface Listener {
  actor: LiveActor;
  stream: EventStream;
  endsAtMs: number;
  /** The members it was told last, as JSON; null: nothing yet. */
  told: Map<string, string> | null;
  writtenAtMs: number;
}

/** After a stream was joined: not sooner than this after the last look, ms. A burst of clients is one look. */
const JOIN_GAP_MS = 50;
/** What a client waits before it connects again. */
const RETRY_MS = 3_000;

/**
 * Live figures for everyone who listens. It looks once for all of them, however many they are, and at nothing while
 * nobody listens. A listener gets the whole state first, then the members that changed.
 */
export class LiveHub {
  readonly #deps: LiveHubDeps;
  readonly #listeners = new Set<Listener>();
  /** Bytes of the day at the last look, by subject, for the rate. */
  readonly #rates = new Map<string, { bytes: bigint; atMs: number; perSecond: number }>();
  #timer: NodeJS.Timeout | null = null;
  #look: Promise<void> | null = null;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** Somebody joined after the look under way had begun. */
  #joinedSince = false;
  #revision = 0;
  #failing = false;
  #stopped = false;

  constructor(deps: LiveHubDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#listeners.size;
  }

  /** A stream for the actor, or null: there are as many as there may be. */
  join(actor: LiveActor): EventStream | null {
    const { clock, settings } = this.#deps;
    const own = [...this.#listeners].filter(
      (other) => other.actor.role === actor.role && actorId(other.actor) === actorId(actor),
    );
    if (this.#stopped || this.#listeners.size >= settings.streamsMax) return null;
    if (own.length >= settings.streamsPerActorMax) return null;
    const nowMs = clock.monotonicMs();
    const stream = new EventStream(() => clock.monotonicMs(), RETRY_MS);
    const listener = { actor, stream, endsAtMs: nowMs + settings.lifeMs, told: null, writtenAtMs: nowMs };
    this.#listeners.add(listener);
    this.#joinedSince = true;
    stream.on('error', () => {}); // the client has gone
    stream.once('close', () => this.#listeners.delete(listener));
    this.#lookAfter(Math.max(0, this.#lookedAtMs + JOIN_GAP_MS - nowMs));
    return stream;
  }

  /** Ends all streams and takes no more; resolves when they are over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    const closed = [...this.#listeners].map(
      ({ stream }) => new Promise<void>((resolve) => stream.once('close', () => resolve())),
    );
    for (const { stream } of this.#listeners) stream.finish('shutting_down');
    await Promise.all([...closed, this.#look]);
  }

  #lookAfter(ms: number): void {
    if (this.#stopped) return;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      // One at a time; who joined meanwhile is in the next.
      this.#look ??= this.#lookOnce().finally(() => {
        this.#look = null;
        const { intervalMs } = this.#deps.settings;
        if (this.#listeners.size > 0) this.#lookAfter(this.#joinedSince ? JOIN_GAP_MS : intervalMs);
      });
    }, ms).unref();
  }

  async #lookOnce(): Promise<void> {
    const { clock, log, findEnded, read } = this.#deps;
    this.#lookedAtMs = clock.monotonicMs();
    this.#joinedSince = false;
    const listeners = [...this.#listeners];
    try {
      const ended = await findEnded(listeners.map(({ actor }) => actor));
      for (const { actor, stream } of listeners) {
        const why = ended.get(actor);
        if (why !== undefined) stream.finish(why);
      }
      const listening = listeners.filter(({ actor }) => !ended.has(actor));
      const figures = await read(subjectsOf(listening.map(({ actor }) => actor)));
      const states = this.#statesOf(figures);
      for (const listener of listening) {
        const state = states.get(subjectOf(listener.actor));
        if (state === undefined) listener.stream.finish('token_ended');
        else this.#tell(listener, state);
      }
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) log.warn({ err: error }, 'live_figures_not_read');
      this.#failing = true;
    }
    this.#upkeep();
  }

  /** The figures as they are told, each member as JSON once for all who get it. */
  #statesOf(figures: LiveFigures): Map<string, Map<string, string>> {
    const nowMs = this.#deps.clock.monotonicMs();
    for (const subject of this.#rates.keys()) if (!figures.has(subject)) this.#rates.delete(subject);
    const states = new Map<string, Map<string, string>>();
    for (const [subject, { bytesToday, members }] of figures) {
      const before = this.#rates.get(subject);
      const tookMs = before === undefined ? 0 : nowMs - before.atMs;
      // A day that has begun anew counts from 0.
      const gained = before === undefined || bytesToday < before.bytes ? 0n : bytesToday - before.bytes;
      const perSecond = tookMs > 0 ? Math.round((Number(gained) * 1_000) / tookMs) : 0;
      this.#rates.set(subject, { bytes: bytesToday, atMs: nowMs, perSecond });
      const all = { ...members, bytes_per_second: perSecond };
      states.set(subject, new Map(Object.entries(all).map(([name, value]) => [name, JSON.stringify(value)])));
    }
    return states;
  }

  #tell(listener: Listener, state: Map<string, string>): void {
    const { clock } = this.#deps;
    const { stream, told } = listener;
    if (stream.fullForMs > 0) return;
    const news =
      told === null ? state : new Map([...state].filter(([name, json]) => told.get(name) !== json));
    if (news.size === 0) return;
    const at = new Date(clock.nowMs()).toISOString();
    const data = Object.fromEntries([...news].map(([name, json]) => [name, JSON.parse(json)]));
    stream.event(told === null ? 'snapshot' : 'change', String(++this.#revision), { at, ...data });
    listener.told = state;
    listener.writtenAtMs = clock.monotonicMs();
  }

  /** Heartbeats, and the end of those that do not read or have lived long enough. */
  #upkeep(): void {
    const { clock, settings, log } = this.#deps;
    const nowMs = clock.monotonicMs();
    for (const listener of this.#listeners) {
      const { stream, endsAtMs, writtenAtMs, actor } = listener;
      if (stream.fullForMs >= settings.stallMs) {
        log.info({ role: actor.role, actor_id: actorId(actor) }, 'event_stream_cut_not_read');
        stream.destroy();
      } else if (nowMs >= endsAtMs) stream.finish('connect_again');
      else if (stream.fullForMs === 0 && nowMs - writtenAtMs >= settings.heartbeatMs) {
        stream.heartbeat();
        listener.writtenAtMs = nowMs;
      }
    }
  }
}

function subjectsOf(actors: readonly LiveActor[]): Subjects {
  const userIds = new Set<string>();
  const buyerIds = new Set<string>();
  for (const actor of actors) {
    if (actor.role === 'user') userIds.add(actor.userId);
    if (actor.role === 'buyer') buyerIds.add(actor.buyerId);
  }
  return {
    userIds: [...userIds],
    buyerIds: [...buyerIds],
    all: actors.some(({ role }) => role === 'admin'),
  };
}
