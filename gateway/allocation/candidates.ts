import type { PackageRoute } from '../live/records.js';
import { EU_EEA_COUNTRIES } from '../runtime/origin/countries.js';
import { placeWords } from '../runtime/origin/place-words.js';

/** A device that hangs on this gateway, as far as choosing needs to know it. */
export interface Candidate {
  readonly deviceId: string;
  readonly providerId: string;
  /** The traffic session it shares under. */
  readonly sessionId: string;
  readonly exitIp: string;
  /** ISO 3166 alpha-2, upper case. */
  readonly country: string;
  readonly city: string | null;
  readonly asn: number | null;
  /** Left out where the origin check does not know it: then no request for a state or ISP matches. */
  readonly state?: string | null;
  /** The part of ISO 3166-2 behind the country. */
  readonly stateCode?: string | null;
  /** The whole name of the network's organisation. */
  readonly isp?: string | null;
  readonly networkType: 'wifi' | 'mobile' | 'ethernet' | 'unknown';
  /** Bytes a buyer may use through it in one allocation. */
  readonly offerBytes: number;
  /** Only `sharing` takes new streams. */
  readonly status: 'sharing' | 'paused' | 'draining';
  /** It carries as many streams as it may: passed over until one ends. Left out: never. */
  readonly isFull?: boolean;
  /** false: it can not carry associations. */
  readonly udp?: boolean;
  /** When its tunnel was opened, ms by Redis's clock. Left out: not known, so it takes nothing over from an earlier one. */
  readonly sinceMs?: number;
  /** It has a tunnel at another gateway by now. Left out: no. */
  readonly hasLeft?: boolean;
}

/** Whether the device takes another stream now. */
export function takesStreams(candidate: Candidate): boolean {
  return candidate.status === 'sharing' && candidate.isFull !== true && candidate.hasLeft !== true;
}

/** What the connection's username asks for; `RouteParams` of the buyers' stage fits it. */
export interface RouteWish {
  /** ISO 3166 alpha-2, upper case, or `EU`; null: any. */
  readonly country: string | null;
  /** Text in any case, as for `city` and `isp`. */
  readonly state: string | null;
  readonly city: string | null;
  readonly asn: number | null;
  readonly isp: string | null;
  /** Name of the session that keeps its exit; null: exits rotate. */
  readonly session: string | null;
  /** Minutes an idle session keeps its exit. */
  readonly ttlMinutes: number;
  /** A lost exit is SESSION_LOST instead of being replaced. */
  readonly strict: boolean;
  readonly fallback: 'none' | 'country' | 'any';
  readonly net: 'wifi' | 'mobile' | 'any';
  /** Route through exactly this pulled package. */
  readonly packageId: string | null;
  /** Another worker that had the session's device could not use it: it is not asked again. Left out: it is. */
  readonly stays?: boolean;
  /** For an association: devices that are known not to carry any do not fit. Left out: not for one. */
  readonly udp?: boolean;
}

/** For whom an exit is chosen; `BuyerAccess` of the buyers' stage fits it. */
export interface AllocationBuyer {
  readonly account: string;
  readonly buyerId: string;
  /** The pulled package that the username names; null: none. */
  readonly packageRoute: PackageRoute | null;
}

/** What a device must fit; null and `any` are open. Text is in the form of `placeWords`. */
export interface Place {
  /** `EU` stands for any country of the EU/EEA. */
  readonly country: string | null;
  /** Name or code. */
  readonly state: string | null;
  readonly city: string | null;
  readonly asn: number | null;
  /** Words that follow one another in the organisation's name: `comcast` for Comcast Cable Communications, LLC. */
  readonly isp: string | null;
  readonly net: 'wifi' | 'mobile' | 'any';
  /** It is to carry an association. */
  readonly udp?: boolean;
}

/**
 * The places to try, best first: what was asked for, then what `fallback` allows. `net` and `udp` are no places: they hold
 * in every one.
 */
export function placesOf(wish: RouteWish): Place[] {
  const { country, asn, net, fallback } = wish;
  const everywhere = wish.udp === true ? { net, udp: true } : { net };
  const asked: Place = {
    country,
    state: wish.state === null ? null : stateWords(wish.state, country),
    city: wish.city === null ? null : placeWords(wish.city),
    asn,
    isp: wish.isp === null ? null : placeWords(wish.isp),
    ...everywhere,
  };
  const places = [asked];
  const anywhere: Place = { country: null, state: null, city: null, asn: null, isp: null, ...everywhere };
  const narrower = asked.state ?? asked.city ?? asked.asn ?? asked.isp;
  if (fallback !== 'none' && country !== null && narrower !== null) places.push({ ...anywhere, country });
  const open = country === null && narrower === null;
  if (fallback === 'any' && !open) places.push(anywhere);
  return places;
}

/** Some vendors put the country first: `us_california`. */
function stateWords(state: string, country: string | null): string {
  const words = placeWords(state);
  const prefix = `${country?.toLowerCase()} `;
  return words.startsWith(prefix) ? words.slice(prefix.length) : words;
}

/** What is known of a candidate's place in the form of `placeWords`; null: not known. */
export interface CandidateWords {
  readonly city: string | null;
  readonly state: string | null;
  readonly stateCode: string | null;
  readonly isp: string | null;
}

/** Made once for each candidate: a place never changes, and choosing compares many. */
const knownWords = new WeakMap<Candidate, CandidateWords>();

/** The words of the candidate's place. */
export function wordsOf(candidate: Candidate): CandidateWords {
  let words = knownWords.get(candidate);
  if (words === undefined) {
    const { city, state, stateCode, isp } = candidate;
    const of = (text: string | null | undefined) => (text == null ? null : placeWords(text) || null);
    words = { city: of(city), state: of(state), stateCode: of(stateCode), isp: of(isp) };
    knownWords.set(candidate, words);
  }
  return words;
}

/** Whether the device is where the place says and of the network type asked for. What is unknown never fits. */
export function fits(candidate: Candidate, place: Place): boolean {
  const { country, state, city, asn, isp, net, udp } = place;
  if (udp === true && candidate.udp === false) return false;
  if (country === 'EU') {
    if (!EU_EEA_COUNTRIES.has(candidate.country)) return false;
  } else if (country !== null && candidate.country !== country) return false;
  if (asn !== null && candidate.asn !== asn) return false;
  if (net !== 'any' && candidate.networkType !== net) return false;
  if ((city ?? state ?? isp) === null) return true;
  const words = wordsOf(candidate);
  if (city !== null && words.city !== city) return false;
  if (state !== null && words.state !== state && words.stateCode !== state) return false;
  return isp === null || (words.isp !== null && ` ${words.isp} `.includes(` ${isp} `));
}

/** The name of an exit: one provider at one address. Claims are held on it. */
export function exitKey(exit: { providerId: string; exitIp: string }): string {
  return `${exit.providerId}|${exit.exitIp}`;
}
