import type { MeterReport, SettledMark, WalletAsk, WalletRecord } from '../../gateway/live/records.js';
import { type Clock, ManualClock } from '../../gateway/runtime/clock.js';
import type { Random } from './random.js';

/** What a field of a hash holds. A script reads the same text again and again: what it has read is kept. */
class Field {
  readonly text: string;
  #json: unknown;
  constructor(text: string) {
    this.text = text;
  }
  get json(): unknown {
    this.#json ??= JSON.parse(this.text);
    return this.#json;
  }
}

type Hash = Map<string, Field>;

/** An entry of a stream: its id, and fields and values in turn. */
export type StreamEntry = [id: string, fields: string[]];

/** Never trimmed: a history has far fewer entries than any stream keeps. */
interface Stream {
  entries: StreamEntry[];
  lastMs: number;
  lastSequence: number;
}

type Value = string | Hash | Set<string> | Stream;

/** How the way to Redis misbehaves; probabilities of one command. */
export interface RedisFaults {
  /** Carried out, but the answer is lost: the caller sees a rejection. */
  answerLost: number;
  /** Not carried out now, but later, after others; the caller sees a rejection. Writes only. */
  late: number;
  /** Carried out, and once more later. Writes only. */
  twice: number;
}

const NOTHING: ReadonlyMap<string, Field> = new Map();

/** A way on which nothing goes wrong. */
export const NO_FAULTS: Readonly<RedisFaults> = { answerLost: 0, late: 0, twice: 0 };

/**
 * Redis as this project uses it, in memory: the commands behind the live state, and what its scripts do. It loses
 * everything or goes back to an earlier state when told to; commands may be lost, late or carried out twice.
 */
export class SimulatedRedis {
  faults: RedisFaults = NO_FAULTS;
  away = false;
  /** Reports replace what is there, newer or not: a variant of the scripts that must be caught. */
  setInsteadOfMax = false;
  /** Settled marks are answered from what was reported, not from what Postgres committed: a variant, too. */
  acknowledgesReports = false;
  #data = new Map<string, Value>();
  #saved: Map<string, Value> | null = null;
  /** Commands still under way: they happen at any later moment, in any order. */
  readonly #underWay: Array<() => void> = [];
  readonly #expiries = new Map<string, number>();
  readonly #clock: Clock;

  constructor(clock: Clock = new ManualClock()) {
    this.#clock = clock;
  }

  get underWay(): number {
    return this.#underWay.length;
  }
  wipe(): void {
    this.#data = new Map();
  }
  /** What a later `rollBack` goes back to: a snapshot file, or a replica that lags. */
  save(): void {
    this.#saved = copyOf(this.#data);
  }
  rollBack(): void {
    this.#data = this.#saved === null ? new Map() : copyOf(this.#saved);
  }
  /** One of the commands under way arrives. */
  arrive(random: Random): void {
    if (this.#underWay.length === 0) return;
    const [command] = this.#underWay.splice(random.below(this.#underWay.length), 1);
    if (!this.away) command?.();
  }

  /** A command that arrives at some later moment. */
  delay(command: () => void): void {
    this.#underWay.push(command);
  }

  get(key: string): string | null {
    return this.#text(key) ?? null;
  }
  hgetall(key: string): Record<string, string> {
    return Object.fromEntries(Array.from(this.#hash(key) ?? NOTHING, ([field, { text }]) => [field, text]));
  }
  hlen(key: string): number {
    return this.#hash(key)?.size ?? 0;
  }
  /** Fields and values in turn, as HSCAN gives them. */
  hpairs(key: string): string[] {
    const pairs: string[] = [];
    for (const [field, { text }] of this.#hash(key) ?? NOTHING) pairs.push(field, text);
    return pairs;
  }
  smembers(key: string): string[] {
    const set = this.#set(key);
    return set === undefined ? [] : [...set];
  }

  /** As SET, with PX when there is a ttl. */
  set(key: string, value: string, ttlMs?: number): 'OK' {
    this.#data.set(key, value);
    if (ttlMs === undefined) this.#expiries.delete(key);
    else this.#expiries.set(key, this.#clock.monotonicMs() + ttlMs);
    return 'OK';
  }

  #text(key: string): string | undefined {
    const expiry = this.#expiries.get(key);
    if (expiry !== undefined && expiry <= this.#clock.monotonicMs()) this.#data.delete(key);
    const value = this.#data.get(key);
    return typeof value === 'string' ? value : undefined;
  }
  #hash(key: string): Hash | undefined {
    const value = this.#data.get(key);
    return value instanceof Map ? value : undefined;
  }
  #set(key: string): Set<string> | undefined {
    const value = this.#data.get(key);
    return value instanceof Set ? value : undefined;
  }
  #hashOrNew(key: string): Hash {
    let value = this.#hash(key);
    if (value === undefined) {
      value = new Map();
      this.#data.set(key, value);
    }
    return value;
  }
  #stream(key: string): Stream | undefined {
    const value = this.#data.get(key);
    return typeof value === 'object' && 'lastMs' in value ? value : undefined;
  }

  /** As HMGET. */
  hmget(key: string, fields: readonly string[]): Array<string | null> {
    const hash = this.#hash(key);
    if (this.acknowledgesReports && key.includes('meters-settled')) {
      const meters = this.#hash(key.replace('-settled', ''));
      return fields.map((field) => meters?.get(field)?.text ?? hash?.get(field)?.text ?? null);
    }
    return fields.map((field) => hash?.get(field)?.text ?? null);
  }
  /** As HSET. */
  hset(key: string, pairs: readonly string[]): number {
    const hash = this.#hashOrNew(key);
    const before = hash.size;
    for (let i = 0; i + 1 < pairs.length; i += 2)
      hash.set(pairs[i] as string, new Field(pairs[i + 1] as string));
    return hash.size - before;
  }
  /** As HDEL. */
  hdel(key: string, fields: readonly string[]): number {
    const hash = this.#hash(key);
    if (hash === undefined) return 0;
    let gone = 0;
    for (const field of fields) if (hash.delete(field)) gone++;
    if (hash.size === 0) this.#data.delete(key);
    return gone;
  }
  /** As SADD. */
  sadd(key: string, members: readonly string[]): number {
    let set = this.#set(key);
    if (set === undefined) {
      set = new Set();
      this.#data.set(key, set);
    }
    const before = set.size;
    for (const member of members) set.add(member);
    return set.size - before;
  }
  /** As SREM. */
  srem(key: string, members: readonly string[]): number {
    const set = this.#set(key);
    if (set === undefined) return 0;
    let gone = 0;
    for (const member of members) if (set.delete(member)) gone++;
    if (set.size === 0) this.#data.delete(key);
    return gone;
  }

  /** As XADD with `*`: the time of the server, unless the stream has a later id already. */
  xadd(key: string, fields: string[]): string {
    let stream = this.#stream(key);
    if (stream === undefined) {
      stream = { entries: [], lastMs: 0, lastSequence: 0 };
      this.#data.set(key, stream);
    }
    const nowMs = this.#clock.nowMs();
    if (nowMs > stream.lastMs) {
      stream.lastMs = nowMs;
      stream.lastSequence = 0;
    } else stream.lastSequence++;
    const id = `${stream.lastMs}-${stream.lastSequence}`;
    stream.entries.push([id, fields]);
    return id;
  }
  /** As XREAD of one stream: the oldest entries after `afterId`. */
  xread(key: string, afterId: string, max: number): StreamEntry[] {
    const entries = this.#stream(key)?.entries ?? [];
    const [afterMs, afterSequence] = placeOfId(afterId);
    let first = entries.length;
    // From the end: most readers have all but the last ones.
    for (; first > 0; first--) {
      const [ms, sequence] = placeOfId((entries[first - 1] as StreamEntry)[0]);
      if (ms < afterMs || (ms === afterMs && sequence <= afterSequence)) break;
    }
    return entries.slice(first, first + max);
  }
  /** As XREVRANGE over all of it. */
  xrevrange(key: string, max: number): StreamEntry[] {
    return (this.#stream(key)?.entries ?? []).slice(-max).reverse();
  }

  /** What the script `reportMeters` does. */
  reportMeters(metersKey: string, dirtyKey: string, args: readonly string[]): number {
    let changed = 0;
    for (let i = 0; i < args.length; i += 6) {
      const key = args[i] as string;
      let json = args[i + 5] as string;
      const stored = this.#hash(metersKey)?.get(key);
      if (stored !== undefined && !this.setInsteadOfMax) {
        const old = stored.json as MeterReport;
        const up = Number(args[i + 1]);
        const down = Number(args[i + 2]);
        const final = args[i + 3] === '1';
        const ended = args[i + 4] === '1';
        const newer =
          up > old.bytesUp ||
          down > old.bytesDown ||
          (final && !old.final) ||
          (ended && !old.allocationEnded);
        if (!newer) continue;
        const older =
          up < old.bytesUp ||
          down < old.bytesDown ||
          (old.final && !final) ||
          (old.allocationEnded && !ended);
        if (older)
          json = JSON.stringify({
            ...(JSON.parse(json) as MeterReport),
            bytesUp: Math.max(up, old.bytesUp),
            bytesDown: Math.max(down, old.bytesDown),
            final: final || old.final,
            allocationEnded: ended || old.allocationEnded,
          });
      }
      this.#hashOrNew(metersKey).set(key, new Field(json));
      this.sadd(dirtyKey, [key]);
      changed++;
    }
    return changed;
  }

  /** What the script `settleMeters` does. */
  settleMeters(metersKey: string, dirtyKey: string, settledKey: string, args: readonly string[]): number[] {
    const clean: number[] = [];
    for (let i = 0; i < args.length; i += 4) {
      const key = args[i] as string;
      let bytesUp = Number(args[i + 1]);
      let bytesDown = Number(args[i + 2]);
      let final = args[i + 3] === '1';
      const settled = this.#hash(settledKey)?.get(key);
      if (settled !== undefined) {
        const old = settled.json as SettledMark;
        bytesUp = Math.max(bytesUp, old.bytesUp);
        bytesDown = Math.max(bytesDown, old.bytesDown);
        final = final || old.final;
      }
      this.#hashOrNew(settledKey).set(
        key,
        new Field(`{"bytesUp":${bytesUp},"bytesDown":${bytesDown},"final":${final}}`),
      );
      const stored = this.#hash(metersKey)?.get(key);
      let done = true;
      if (stored !== undefined) {
        const report = stored.json as MeterReport;
        done = report.bytesUp <= bytesUp && report.bytesDown <= bytesDown && (final || !report.final);
        if (done && final) this.hdel(metersKey, [key]);
      }
      if (done) this.srem(dirtyKey, [key]);
      clean.push(done ? 1 : 0);
    }
    return clean;
  }

  /** What the script `askWallets` does. */
  askWallets(asksKey: string, args: readonly string[]): number {
    let changed = 0;
    for (let i = 0; i < args.length; i += 5) {
      const field = args[i] as string;
      let want = Number(args[i + 1]);
      let renounced = Number(args[i + 2]);
      let withdrawn = Number(args[i + 3]);
      let finished = args[i + 4] === '1';
      const stored = this.#hash(asksKey)?.get(field);
      if (stored !== undefined) {
        const old = stored.json as WalletAsk;
        want = Math.max(want, Number(old.wantGranted));
        renounced = Math.max(renounced, Number(old.renounced));
        withdrawn = Math.max(withdrawn, Number(old.withdrawn ?? 0));
        finished = finished || old.finished;
      }
      const json = `{"wantGranted":"${want}","renounced":"${renounced}","withdrawn":"${withdrawn}","finished":${finished}}`;
      if (json === stored?.text) continue;
      this.#hashOrNew(asksKey).set(field, new Field(json));
      changed++;
    }
    return changed;
  }

  /** What the script `showWallets` does. */
  showWallets(walletsKey: string, args: readonly string[]): number {
    for (let i = 0; i < args.length; i += 5) {
      const field = args[i] as string;
      let granted = Number(args[i + 1]);
      let answered = Number(args[i + 2]);
      let state = args[i + 3] as WalletRecord['state'];
      let beyond = args[i + 4] as string;
      const stored = this.#hash(walletsKey)?.get(field);
      if (stored !== undefined) {
        const old = stored.json as WalletRecord;
        const oldGranted = Number(old.granted);
        const oldAnswered = Number(old.answered);
        if (oldAnswered > answered || (oldAnswered === answered && oldGranted > granted)) {
          answered = oldAnswered;
          state = old.state;
          beyond = '';
        }
        if (beyond === '') beyond = old.beyond ?? '';
        granted = Math.max(granted, oldGranted);
      }
      this.#hashOrNew(walletsKey).set(
        field,
        new Field(
          `{"granted":"${granted}","answered":"${answered}","state":"${state}"${beyond === '' ? '' : `,"beyond":"${beyond}"`}}`,
        ),
      );
    }
    return args.length / 5;
  }

  /** What the script `dropOrphanMeters` does. */
  dropOrphanMeters(metersKey: string, dirtyKey: string, keys: readonly string[]): number {
    return this.srem(
      dirtyKey,
      keys.filter((key) => !this.#hash(metersKey)?.has(key)),
    );
  }
}

/** Of an entry's id, `<ms>-<sequence>`. */
function placeOfId(id: string): [ms: number, sequence: number] {
  const dash = id.indexOf('-');
  return [Number(id.slice(0, dash)), Number(id.slice(dash + 1))];
}

function copyOf(data: ReadonlyMap<string, Value>): Map<string, Value> {
  const copy = new Map<string, Value>();
  for (const [key, value] of data) copy.set(key, copyOfValue(value));
  return copy;
}

function copyOfValue(value: Value): Value {
  if (typeof value === 'string') return value;
  if (value instanceof Map) return new Map(value);
  if (value instanceof Set) return new Set(value);
  return { ...value, entries: [...value.entries] };
}
