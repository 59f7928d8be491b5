import { lookup, Resolver } from 'node:dns';

/** Addresses of a name, in the order to try them; or none. */
export type Resolution =
  | { readonly ok: true; readonly addresses: readonly string[] }
  | { readonly ok: false; readonly code: string };

/** Looks a name up. Outcomes are values; it does not reject. */
export type Resolve = (name: string) => Promise<Resolution>;

/** One DNS query is given up after this long and sent once more. */
const QUERY_TIMEOUT_MS = 2_500;
const QUERY_TRIES = 2;

/** RFC 8305 section 3: how long the answer of one family waits for the other one's. */
const RESOLUTION_DELAY_MS = 50;

/** Addresses of one name that are tried; further ones are ignored. */
const ADDRESSES_MAX = 10;

/** Order of RFC 8305 section 4: the families take turns, IPv6 begins. */
export function interleaveFamilies(ipv6: readonly string[], ipv4: readonly string[]): string[] {
  const ordered: string[] = [];
  for (let i = 0; i < Math.max(ipv6.length, ipv4.length); i++) {
    const six = ipv6[i];
    const four = ipv4[i];
    if (six !== undefined) ordered.push(six);
    if (four !== undefined) ordered.push(four);
  }
  return ordered.slice(0, ADDRESSES_MAX);
}

/**
 * Resolves through DNS, A and AAAA at once. Not through getaddrinfo: that takes one of four threads for as long as
 * a dead name server keeps it waiting, and a scraper's list is full of dead names; it also knows the owner's hosts
 * file and search domains, which are none of a buyer's business. Where no name server answers at all (a phone
 * without resolv.conf), the system's way is used after all.
 */
export function dnsResolve(): Resolve {
  const resolver = new Resolver({ timeout: QUERY_TIMEOUT_MS, tries: QUERY_TRIES });
  return (name) =>
    new Promise((resolve) => {
      let ipv4: readonly string[] | null = null;
      let ipv6: readonly string[] | null = null;
      let code = 'ENOTFOUND';
      let settled = false;
      let delay: NodeJS.Timeout | undefined;
      const finish = () => {
        if (settled) return;
        settled = true;
        clearTimeout(delay);
        const addresses = interleaveFamilies(ipv6 ?? [], ipv4 ?? []);
        if (addresses.length > 0) resolve({ ok: true, addresses });
        else if (code === 'ECONNREFUSED') resolve(systemResolve(name));
        else resolve({ ok: false, code });
      };
      const answered = (error: NodeJS.ErrnoException | null, addresses: readonly string[], family: 4 | 6) => {
        if (error !== null && error.code !== 'ENODATA') code = error.code ?? code;
        if (family === 4) ipv4 = error === null ? addresses : [];
        else ipv6 = error === null ? addresses : [];
        if (ipv4 !== null && ipv6 !== null) finish();
        else if (error === null && addresses.length > 0) delay = setTimeout(finish, RESOLUTION_DELAY_MS);
      };
      resolver.resolve6(name, (error, addresses) => answered(error, addresses, 6));
      resolver.resolve4(name, (error, addresses) => answered(error, addresses, 4));
    });
}

/** Resolves as any program on this machine does: hosts file, search domains, whatever the system asks. */
export const systemResolve: Resolve = (name) =>
  new Promise((resolve) => {
    lookup(name, { all: true, verbatim: true }, (error, found) => {
      if (error !== null) return resolve({ ok: false, code: error.code ?? 'ENOTFOUND' });
      const family = (wanted: number) => found.filter((f) => f.family === wanted).map((f) => f.address);
      resolve({ ok: true, addresses: interleaveFamilies(family(6), family(4)) });
    });
  });

/** Bounds of `cachedResolve`. */
export interface ResolveCacheLimits {
  /** How long found addresses are used again. */
  readonly positiveMs: number;
  /** How long a failure is answered again without asking. */
  readonly negativeMs: number;
  /** Names kept; the oldest goes first. */
  readonly namesMax: number;
}

export const RESOLVE_CACHE: ResolveCacheLimits = { positiveMs: 30_000, negativeMs: 5_000, namesMax: 1_000 };

/** Remembers answers for a short time, and asks once for streams that want the same name together. */
export function cachedResolve(
  resolve: Resolve,
  monotonicMs: () => number,
  limits: ResolveCacheLimits = RESOLVE_CACHE,
): Resolve {
  const known = new Map<string, { resolution: Resolution; untilMs: number }>();
  const underWay = new Map<string, Promise<Resolution>>();
  const ask = async (name: string) => {
    const resolution = await resolve(name);
    underWay.delete(name);
    known.delete(name);
    known.set(name, {
      resolution,
      untilMs: monotonicMs() + (resolution.ok ? limits.positiveMs : limits.negativeMs),
    });
    if (known.size > limits.namesMax) {
      const oldest = known.keys().next();
      if (!oldest.done) known.delete(oldest.value);
    }
    return resolution;
  };
  return (name) => {
    const hit = known.get(name);
    if (hit !== undefined && hit.untilMs > monotonicMs()) return Promise.resolve(hit.resolution);
    let asked = underWay.get(name);
    if (asked === undefined) {
      asked = ask(name);
      underWay.set(name, asked);
    }
    return asked;
  };
}
