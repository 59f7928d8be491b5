import { LiveSet, type Place } from '../../agent-protocol/live-set.js';
import type { DestinationUsage } from '../live/usage.js';
import type { Clock } from '../runtime/clock.js';
import type { UsageSettings } from './limits.js';

/** What usage is told by. */
export type UsageSubject = Omit<
  DestinationUsage,
  'bytesUp' | 'bytesDown' | 'streams' | 'firstAtMs' | 'lastAtMs'
>;

/** Whoever counts a stream's payload bytes; both only grow. */
export interface UsageSource {
  readonly bytesUp: number;
  readonly bytesDown: number;
}

/** Stands for every host, tag or session name there was no room for. No host is written like this. */
export const OTHER = '(other)';

/** Of the room, as parts: exact entries may take so many, entries with the host folded the rest. */
const ROOM_PARTS = 8;
const EXACT_PARTS = 7;
const DAY_MS = 86_400_000;

/** The sums of one subject on one UTC day, as long as they are held here. */
interface Entry extends DestinationUsage {
  key: string;
  /** False: taken, or of an earlier day; nothing is added any more. */
  open: boolean;
}

/**
 * Adds up what goes through this gateway by destination, tag and session name, until it is taken for delivery. It
 * sees no byte pass: a flow is asked for its totals when it ends and at each sweep, and what it gained is added.
 *
 * Memory is bounded however many destinations a buyer has: without room for an entry of its own, usage is added
 * where the host is `(other)`, and without room for that where tag and session name are, too. The last kind is one
 * for each allocation, so it always has room.
 */
export class UsageBook {
  readonly #clock: Clock;
  readonly #limits: Pick<UsageSettings, 'usageEntriesMax' | 'usageEntriesPerBuyerMax'>;
  readonly #flows = new LiveSet<UsageFlow>();
  /** Of the day that is now. */
  readonly #entries = new Map<string, Entry>();
  /** Of earlier days, not taken yet. */
  #closed: Entry[] = [];
  readonly #ofBuyer = new Map<string, number>();
  #day = 0;
  #folded = 0;

  constructor(clock: Clock, limits: Pick<UsageSettings, 'usageEntriesMax' | 'usageEntriesPerBuyerMax'>) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Entries held. */
  get size(): number {
    return this.#entries.size + this.#closed.length;
  }
  /** Streams that are not over: their totals are still asked for. */
  get flowCount(): number {
    return this.#flows.size;
  }
  /** Times usage was added under `(other)` for lack of room. */
  get folded(): number {
    return this.#folded;
  }

  /** A stream begins. It is counted at once, so that one without bytes is told as well. */
  open(subject: UsageSubject, source: UsageSource): UsageFlow {
    const flow = new UsageFlow(this, subject, source);
    flow.place = this.#flows.add(flow);
    this.#entryFor(flow, this.#now()).streams++;
    return flow;
  }

  /** Adds what live flows gained since the last time. */
  sweep(): void {
    for (const _turn of this.sweepInTurns(Number.POSITIVE_INFINITY));
  }

  /** The same, with a pause for the caller after so many flows: flows may come and go meanwhile. */
  *sweepInTurns(flowsMax: number): Generator<void> {
    let seen = 0;
    let nowMs = this.#now();
    for (const flow of this.#flows) {
      if (seen++ === flowsMax) {
        yield;
        seen = 1;
        nowMs = this.#now();
      }
      this.#add(flow, nowMs);
    }
  }

  /** Takes up to `max` entries out, those of earlier days first. */
  take(max: number): DestinationUsage[] {
    const taken = this.#closed.splice(0, max);
    for (const entry of this.#entries.values()) {
      if (taken.length >= max) break;
      taken.push(entry);
      this.#entries.delete(entry.key);
    }
    return taken.map((entry) => {
      entry.open = false;
      const left = (this.#ofBuyer.get(entry.buyerId) ?? 1) - 1;
      if (left > 0) this.#ofBuyer.set(entry.buyerId, left);
      else this.#ofBuyer.delete(entry.buyerId);
      const { key: _key, open: _open, ...usage } = entry;
      return usage;
    });
  }

  /** @internal */
  ended(flow: UsageFlow): void {
    if (flow.place !== null && this.#flows.remove(flow.place)) this.#add(flow, this.#now());
  }

  #add(flow: UsageFlow, nowMs: number): void {
    const { bytesUp, bytesDown } = flow.source;
    const up = bytesUp - flow.bytesUp;
    const down = bytesDown - flow.bytesDown;
    if (up === 0 && down === 0) return;
    flow.bytesUp = bytesUp;
    flow.bytesDown = bytesDown;
    const entry = this.#entryFor(flow, nowMs);
    entry.bytesUp += up;
    entry.bytesDown += down;
    if (nowMs > entry.lastAtMs) entry.lastAtMs = nowMs;
  }

  /** Also the moment at which a new day is noticed: entries are of one day each. */
  #now(): number {
    const nowMs = this.#clock.nowMs();
    const day = Math.floor(nowMs / DAY_MS);
    if (day !== this.#day) {
      for (const entry of this.#entries.values()) {
        entry.open = false;
        this.#closed.push(entry);
      }
      this.#entries.clear();
      this.#day = day;
    }
    return nowMs;
  }

  #entryFor(flow: UsageFlow, nowMs: number): Entry {
    if (!flow.entry?.open) flow.entry = this.#find(flow, nowMs);
    return flow.entry;
  }

  #find(flow: UsageFlow, nowMs: number): Entry {
    const { subject } = flow;
    const exact = this.#entries.get(flow.key);
    if (exact) return exact;
    const room = this.#roomParts(subject.buyerId);
    if (room > ROOM_PARTS - EXACT_PARTS) return this.#make(flow.key, subject, nowMs);

    this.#folded++;
    const hostless = { ...subject, host: OTHER, port: 0 };
    const hostlessKey = keyOf(hostless);
    const known = this.#entries.get(hostlessKey);
    if (known) return known;
    if (room > 0) return this.#make(hostlessKey, hostless, nowMs);

    const bare = {
      ...hostless,
      tag: subject.tag === null ? null : OTHER,
      sessionName: subject.sessionName === null ? null : OTHER,
    };
    const bareKey = keyOf(bare);
    return this.#entries.get(bareKey) ?? this.#make(bareKey, bare, nowMs);
  }

  /** What is free of the room, in parts; below 0 when nothing is. */
  #roomParts(buyerId: string): number {
    const { usageEntriesMax, usageEntriesPerBuyerMax } = this.#limits;
    const used = Math.max(
      this.size / usageEntriesMax,
      (this.#ofBuyer.get(buyerId) ?? 0) / usageEntriesPerBuyerMax,
    );
    return ROOM_PARTS * (1 - used);
  }

  #make(key: string, subject: UsageSubject, nowMs: number): Entry {
    const entry = {
      ...subject,
      bytesUp: 0,
      bytesDown: 0,
      streams: 0,
      firstAtMs: nowMs,
      lastAtMs: nowMs,
      key,
      open: true,
    };
    this.#entries.set(key, entry);
    this.#ofBuyer.set(subject.buyerId, (this.#ofBuyer.get(subject.buyerId) ?? 0) + 1);
    return entry;
  }
}

/** One live stream in the book. */
export class UsageFlow {
  readonly subject: UsageSubject;
  readonly source: UsageSource;
  readonly key: string;
  /** What of the source has been added. */
  bytesUp = 0;
  bytesDown = 0;
  entry: Entry | null = null;
  /** Where the book keeps it; null: not yet. */
  place: Place<UsageFlow> | null = null;
  readonly #book: UsageBook;

  constructor(book: UsageBook, subject: UsageSubject, source: UsageSource) {
    this.#book = book;
    this.subject = subject;
    this.source = source;
    this.key = keyOf(subject);
  }

  /** The stream is over and its source counts no more. A second call does nothing. */
  end(): void {
    this.#book.ended(this);
  }
}

/** A blank is in none of the parts, and no host, tag or name is empty. */
function keyOf(s: UsageSubject): string {
  return `${s.sessionId} ${s.allocationId} ${s.subUserId ?? ''} ${s.host} ${s.port} ${s.tag ?? ''} ${s.sessionName ?? ''}`;
}
