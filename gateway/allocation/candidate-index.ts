import type { DeviceCounts } from '../live/summaries.js';
import { EU_EEA_COUNTRIES } from '../runtime/origin/countries.js';
import { type Candidate, exitKey, fits, type Place, takesStreams, wordsOf } from './candidates.js';

/**
 * Devices that have something in common. The first `free` of them can be given out now, so that choosing one at
 * random needs no search; an entry knows its position in each of its groups and moves by swapping.
 */
interface Group<C> {
  readonly entries: Array<Entry<C>>;
  free: number;
}

interface Entry<C> {
  candidate: C;
  readonly exit: string;
  readonly groups: Array<Group<C>>;
  readonly positions: number[];
  free: boolean;
  /** Where it is counted as sharing, and free while it is; null: it does not share. */
  counted: Counted | null;
}

/** Of one country and type of network. */
type Counted = [free: number, sharing: number];

/** Key of the group that holds every device. */
const EVERYWHERE = '*';

/**
 * The devices of this gateway by where they are and whether they can be given out: choosing among 10 000 looks at a
 * few. A device is free when it shares and nobody holds its exit (`setTaken`).
 */
export class CandidateIndex<C extends Candidate> {
  readonly #byDevice = new Map<string, Entry<C>>();
  readonly #byExit = new Map<string, Set<Entry<C>>>();
  readonly #groups = new Map<string, Group<C>>();
  readonly #taken = new Set<string>();
  /** By country, then type of network. */
  readonly #counts = new Map<string, Map<string, Counted>>();

  /** `random` gives numbers in [0, 1). */
  constructor(private readonly random: () => number = Math.random) {}

  get size(): number {
    return this.#byDevice.size;
  }

  /** Adds the device; another candidate of the same device is replaced. */
  add(candidate: C): void {
    const replaced = this.#byDevice.get(candidate.deviceId);
    if (replaced) this.remove(replaced.candidate);
    const exit = exitKey(candidate);
    const entry: Entry<C> = { candidate, exit, groups: [], positions: [], free: false, counted: null };
    this.#byDevice.set(candidate.deviceId, entry);
    const onExit = this.#byExit.get(exit);
    if (onExit) onExit.add(entry);
    else this.#byExit.set(exit, new Set([entry]));
    for (const key of groupKeys(candidate)) {
      let group = this.#groups.get(key);
      if (!group) {
        group = { entries: [], free: 0 };
        this.#groups.set(key, group);
      }
      entry.groups.push(group);
      entry.positions.push(group.entries.length);
      group.entries.push(entry);
    }
    this.#place(entry);
  }

  /** Removes this very candidate; false when it is not (or no longer) here. */
  remove(candidate: C): boolean {
    const entry = this.#byDevice.get(candidate.deviceId);
    if (entry?.candidate !== candidate) return false;
    this.#setFree(entry, false);
    this.#countAs(entry, null);
    entry.groups.forEach((group, i) => {
      this.#swap(group, entry.positions[i] as number, group.entries.length - 1);
      group.entries.pop();
    });
    for (const key of groupKeys(candidate))
      if (this.#groups.get(key)?.entries.length === 0) this.#groups.delete(key);
    this.#byDevice.delete(candidate.deviceId);
    const onExit = this.#byExit.get(entry.exit);
    onExit?.delete(entry);
    if (onExit?.size === 0) this.#byExit.delete(entry.exit);
    return true;
  }

  /** The candidate's `status` or `networkType` changed; its place and exit never do. */
  changed(candidate: C): void {
    const entry = this.#byDevice.get(candidate.deviceId);
    if (entry?.candidate === candidate) this.#place(entry);
  }

  /** How many are free and how many share, by country and type of network; where none shares is left out. */
  counts(): DeviceCounts {
    const counts: DeviceCounts = {};
    for (const [country, byNetwork] of this.#counts) {
      const some = [...byNetwork].filter(([, [, sharing]]) => sharing > 0);
      if (some.length > 0) counts[country] = Object.fromEntries(some);
    }
    return counts;
  }

  byDevice(deviceId: string): C | undefined {
    return this.#byDevice.get(deviceId)?.candidate;
  }

  /** A device of the provider at this address that takes streams now and is not in `exclude`, or undefined. */
  byExit(exit: string, exclude: ReadonlySet<string>): C | undefined {
    for (const { candidate } of this.#byExit.get(exit) ?? [])
      if (takesStreams(candidate) && !exclude.has(candidate.deviceId)) return candidate;
    return undefined;
  }

  /** Somebody holds the exit (here or on another gateway), or does not any more. */
  setTaken(exit: string, taken: boolean): void {
    if (taken) this.#taken.add(exit);
    else this.#taken.delete(exit);
    for (const entry of this.#byExit.get(exit) ?? []) this.#place(entry);
  }

  /** An upper bound of the free devices at the place. */
  freeCount(place: Place): number {
    return this.#groupFor(place)?.free ?? 0;
  }

  /** A free device that fits and is not in `exclude`, at random; undefined: none. */
  pickFree(place: Place, exclude: ReadonlySet<string>): C | undefined {
    const group = this.#groupFor(place);
    if (!group) return undefined;
    const start = Math.floor(this.random() * group.free);
    for (let i = 0; i < group.free; i++) {
      const { candidate } = group.entries[(start + i) % group.free] as Entry<C>;
      if (fits(candidate, place) && !exclude.has(candidate.deviceId)) return candidate;
    }
    return undefined;
  }

  /** The smallest group that holds every device of the place. */
  #groupFor(place: Place): Group<C> | undefined {
    let smallest: Group<C> | undefined;
    for (const key of placeKeys(place)) {
      const group = this.#groups.get(key);
      if (!group) return undefined;
      if (!smallest || group.free < smallest.free) smallest = group;
    }
    return smallest;
  }

  #place(entry: Entry<C>): void {
    const { candidate, exit } = entry;
    const shares = candidate.status === 'sharing';
    this.#countAs(entry, shares ? this.#countOf(candidate) : null);
    this.#setFree(entry, shares && !this.#taken.has(exit));
  }

  #countOf({ country, networkType }: C): Counted {
    let byNetwork = this.#counts.get(country);
    if (byNetwork === undefined) {
      byNetwork = new Map();
      this.#counts.set(country, byNetwork);
    }
    let count = byNetwork.get(networkType);
    if (count === undefined) {
      count = [0, 0];
      byNetwork.set(networkType, count);
    }
    return count;
  }

  #countAs(entry: Entry<C>, counted: Counted | null): void {
    const before = entry.counted;
    if (before === counted) return;
    const free = entry.free ? 1 : 0;
    if (before !== null) {
      before[0] -= free;
      before[1]--;
    }
    if (counted !== null) {
      counted[0] += free;
      counted[1]++;
    }
    entry.counted = counted;
  }

  #setFree(entry: Entry<C>, free: boolean): void {
    if (entry.free === free) return;
    entry.free = free;
    if (entry.counted !== null) entry.counted[0] += free ? 1 : -1;
    entry.groups.forEach((group, i) => {
      if (!free) group.free--;
      this.#swap(group, entry.positions[i] as number, group.free);
      if (free) group.free++;
    });
  }

  #swap(group: Group<C>, a: number, b: number): void {
    const first = group.entries[a] as Entry<C>;
    const second = group.entries[b] as Entry<C>;
    group.entries[a] = second;
    group.entries[b] = first;
    second.positions[second.groups.indexOf(group)] = a;
    first.positions[first.groups.indexOf(group)] = b;
  }
}

const countryKey = (country: string) => `country ${country}`;
const cityKey = (country: string, city: string) => `city ${country} ${city}`;
const stateKey = (country: string, state: string) => `state ${country} ${state}`;
const asnKey = (asn: number) => `asn ${asn}`;
const ispKey = (word: string) => `isp ${word}`;

/** Groups that the candidate is in, each once. */
function groupKeys(candidate: Candidate): Set<string> {
  const { country, asn } = candidate;
  const { city, state, stateCode, isp } = wordsOf(candidate);
  const keys = new Set([EVERYWHERE, countryKey(country)]);
  if (EU_EEA_COUNTRIES.has(country)) keys.add(countryKey('EU'));
  if (city !== null) keys.add(cityKey(country, city));
  if (state !== null) keys.add(stateKey(country, state));
  if (stateCode !== null) keys.add(stateKey(country, stateCode));
  if (asn !== null) keys.add(asnKey(asn));
  for (const word of isp?.split(' ') ?? []) keys.add(ispKey(word));
  return keys;
}

/** Groups each of which holds every device of the place. */
function placeKeys({ country, state, city, asn, isp }: Place): string[] {
  const keys = [country === null ? EVERYWHERE : countryKey(country)];
  if (country !== null && country !== 'EU') {
    if (city !== null) keys.push(cityKey(country, city));
    if (state !== null) keys.push(stateKey(country, state));
  }
  if (asn !== null) keys.push(asnKey(asn));
  for (const word of isp?.split(' ') ?? []) keys.push(ispKey(word));
  return keys;
}
