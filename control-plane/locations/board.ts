import { readClaims } from '../../gateway/live/claims.js';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readPresences } from '../../gateway/live/presence.js';
import type { DevicePresence } from '../../gateway/live/records.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { placeWords } from '../../gateway/runtime/origin/place-words.js';
import { live } from '../db/redis.js';

export interface LocationBoardDeps {
  redis: LiveRedis;
  clock: Clock;
  /** What was read is answered with for this long, ms. */
  ttlMs: number;
}

/** Where exits are, as the gateways looked it up. */
export interface Place {
  /** ISO 3166 alpha-2. */
  country: string;
  state: string | null;
  /** The part of ISO 3166-2 behind the country. */
  stateCode: string | null;
  city: string | null;
  asn: number | null;
  isp: string | null;
}

/** Exits (a provider's address: one serves one buyer at a time). */
export interface Counts {
  /** Sharing now. */
  online: number;
  /** Of these, free or held by the buyer who asks. */
  available: number;
}

/** Narrows to exits where all of it holds, names compared as in proxy usernames; null: anywhere. */
export interface LocationFilter {
  countries: readonly string[] | null;
  state: string | null;
  city: string | null;
  asn: number | null;
  isp: string | null;
}

export interface Locations {
  /** When the live state was read, ms since the Unix epoch. */
  readAtMs: number;
  total: Counts;
  countries: Array<Counts & Pick<Place, 'country'>>;
  /** Only where the city is known. */
  cities: Array<Counts & Pick<Place, 'country' | 'state' | 'city'>>;
  /** Only where the network is known. */
  asns: Array<Counts & Pick<Place, 'country' | 'asn' | 'isp'>>;
}

interface PlaceEntry extends Place {
  cityWords: string;
  stateWords: string;
  stateCodeWords: string;
  ispWords: string;
  online: number;
  free: number;
  /** Exits held, by buyer. */
  held: Map<string, number>;
}

interface Snapshot {
  readAtMs: number;
  endsAtMs: number;
  places: PlaceEntry[];
}

/**
 * Where devices share now, for all buyers: the live state is read once in `ttlMs` however many ask, and added up by
 * place, so that no provider is in what is kept.
 */
export class LocationBoard {
  readonly #deps: LocationBoardDeps;
  #snapshot: Snapshot | null = null;
  #reading: Promise<Snapshot> | null = null;

  constructor(deps: LocationBoardDeps) {
    this.#deps = deps;
  }

  /** What the buyer could be given. Rejects with LiveStateUnavailable while Redis is away. */
  async find(buyerId: string, filter: LocationFilter): Promise<Locations> {
    const { readAtMs, places } = await this.#current();
    const words = {
      state: filter.state === null ? null : placeWords(filter.state),
      city: filter.city === null ? null : placeWords(filter.city),
      isp: filter.isp === null ? null : placeWords(filter.isp),
    };
    const countries = new Map<string, Counts & Pick<Place, 'country'>>();
    const cities = new Map<string, Counts & Pick<Place, 'country' | 'state' | 'city'>>();
    const asns = new Map<string, Counts & Pick<Place, 'country' | 'asn' | 'isp'>>();
    const total = { online: 0, available: 0 };
    for (const place of places) {
      if (!fits(place, filter, words)) continue;
      const { country, state, city, asn, isp, online } = place;
      const counts = { online, available: place.free + (place.held.get(buyerId) ?? 0) };
      add(total, counts);
      addTo(countries, country, { country }, counts);
      if (city !== null)
        addTo(cities, `${country}|${place.stateWords}|${place.cityWords}`, { country, state, city }, counts);
      if (asn !== null) addTo(asns, `${country}|${asn}`, { country, asn, isp }, counts);
    }
    return {
      readAtMs,
      total,
      countries: mostFirst(countries),
      cities: mostFirst(cities),
      asns: mostFirst(asns),
    };
  }

  /** Exits by country, for admins. Rejects with LiveStateUnavailable while Redis is away. */
  async countByCountry(): Promise<{
    readAtMs: number;
    countries: Array<{ country: string; online: number; free: number }>;
  }> {
    const { readAtMs, places } = await this.#current();
    const countries = new Map<string, { country: string; online: number; free: number }>();
    for (const { country, online, free } of places) {
      const sum = countries.get(country) ?? { country, online: 0, free: 0 };
      sum.online += online;
      sum.free += free;
      countries.set(country, sum);
    }
    return { readAtMs, countries: [...countries.values()].sort((a, b) => b.online - a.online) };
  }

  async #current(): Promise<Snapshot> {
    const held = this.#snapshot;
    if (held !== null && this.#deps.clock.monotonicMs() < held.endsAtMs) return held;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #read(): Promise<Snapshot> {
    const { redis, clock, ttlMs } = this.#deps;
    const readAtMs = clock.nowMs();
    const exits = new Map<string, DevicePresence>();
    for (const presence of await live(readPresences(redis, readAtMs)))
      if (presence.status === 'sharing') exits.set(`${presence.providerId}|${presence.exitIp}`, presence);
    const sharing = [...exits.values()];
    const claims = await live(readClaims(redis, sharing));
    const places = new Map<string, PlaceEntry>();
    sharing.forEach((presence, i) => {
      const entry = placeFor(places, presence);
      entry.online++;
      const holder = claims[i]?.buyerId;
      if (holder === undefined) entry.free++;
      else entry.held.set(holder, (entry.held.get(holder) ?? 0) + 1);
    });
    const snapshot = { readAtMs, endsAtMs: clock.monotonicMs() + ttlMs, places: [...places.values()] };
    this.#snapshot = snapshot;
    return snapshot;
  }
}

function placeFor(places: Map<string, PlaceEntry>, presence: DevicePresence): PlaceEntry {
  const { country, city, asn, state = null, stateCode = null, isp = null } = presence;
  const key = JSON.stringify([country, state, stateCode, city, asn, isp]);
  let entry = places.get(key);
  if (entry === undefined) {
    const words = (text: string | null) => (text === null ? '' : placeWords(text));
    entry = {
      ...{ country, state, stateCode, city, asn, isp },
      cityWords: words(city),
      stateWords: words(state),
      stateCodeWords: words(stateCode),
      ispWords: words(isp),
      online: 0,
      free: 0,
      held: new Map(),
    };
    places.set(key, entry);
  }
  return entry;
}

function fits(
  place: PlaceEntry,
  { countries, asn }: LocationFilter,
  { state, city, isp }: Record<'state' | 'city' | 'isp', string | null>,
): boolean {
  if (countries !== null && !countries.includes(place.country)) return false;
  if (asn !== null && place.asn !== asn) return false;
  if (state !== null && place.stateWords !== state && place.stateCodeWords !== state) return false;
  if (city !== null && place.cityWords !== city) return false;
  return isp === null || ` ${place.ispWords} `.includes(` ${isp} `);
}

function add(sum: Counts, counts: Counts): void {
  sum.online += counts.online;
  sum.available += counts.available;
}

function addTo<T extends object>(sums: Map<string, Counts & T>, key: string, names: T, counts: Counts): void {
  const sum = sums.get(key);
  if (sum === undefined) sums.set(key, { ...names, ...counts });
  else add(sum, counts);
}

/** What can be had most of first; equals in a stable order. */
function mostFirst<T extends Counts>(sums: ReadonlyMap<string, T>): T[] {
  return [...sums]
    .sort(
      ([keyA, a], [keyB, b]) => b.available - a.available || b.online - a.online || (keyA < keyB ? -1 : 1),
    )
    .map(([, sum]) => sum);
}
