import type { ProxyFailure } from '../errors.js';

/** Where a buyer's connection is to go out, as the proxy username asks. A place left open is null. */
export interface RouteParams {
  /** 4 to 32 lower-case letters and digits. */
  account: string;
  /** ISO 3166 alpha-2 in upper case, `EU` for any country of the EU/EEA, null for any. */
  country: string | null;
  /** As written, with spaces for `_`; compare without case. Only together with a single country. */
  state: string | null;
  /** As `state`. */
  city: string | null;
  /** Autonomous system number, 1 to 4294967295. */
  asn: number | null;
  /** As written, with spaces for `_`; compare without case. */
  isp: string | null;
  /** Name of the session that keeps its exit, 1 to 32 letters and digits; null: a new exit may be taken each time. */
  session: string | null;
  /** Minutes an idle session keeps its exit, 1 to 1440. */
  ttlMinutes: number;
  /** A lost exit fails the request (SESSION_LOST) instead of being replaced. */
  strict: boolean;
  /** What to take when the place asked for has no device. */
  fallback: 'none' | 'country' | 'any';
  net: 'wifi' | 'mobile' | 'any';
  /** UUID with dashes, lower case: route through exactly this pulled package. */
  packageId: string | null;
  /** Cost label, as written. */
  tag: string | null;
}

export type ParsedUsername = { ok: true; params: RouteParams } | ProxyFailure;

/** Longest username in bytes: what SOCKS5 can carry (RFC 1929). */
export const USERNAME_BYTES_MAX = 255;
/** Idle minutes of a session that names none. */
export const SESSION_TTL_MINUTES_DEFAULT = 10;
const SESSION_TTL_MINUTES_MAX = 1440;

type Field = keyof RouteParams | 'rotate';
type Reading = { [F in Field]?: F extends keyof RouteParams ? RouteParams[F] : true };

/** How a key's value is read into its field: undefined means the value is bad. */
interface Key<F extends Field = Field> {
  field: F;
  read(value: string): Reading[F] | undefined;
}

function key<F extends Field>(field: F, read: Key<F>['read']): Key {
  return { field, read } as Key;
}

const words = (value: string) => value.replaceAll('_', ' ');

function oneOf<W extends string>(...choices: W[]): (value: string) => W | undefined {
  return (value) => choices.find((choice) => choice === value.toLowerCase());
}

function wholeNumber(value: string, max: number): number | undefined {
  if (!/^[0-9]{1,10}$/.test(value)) return undefined;
  const n = Number(value);
  return n >= 1 && n <= max ? n : undefined;
}

const country = key('country', (value) => {
  const code = value.toUpperCase();
  if (code === 'ANY') return null;
  if (code === 'UK') return 'GB';
  return code === 'EU' || COUNTRIES.has(code) ? code : undefined;
});
const state = key('state', words);
const session = key('session', (value) => (/^[A-Za-z0-9]{1,32}$/.test(value) ? value : undefined));
const ttl = key('ttlMinutes', (value) => wholeNumber(value, SESSION_TTL_MINUTES_MAX));
const strict = key('strict', (value) => (value === '1' ? true : value === '0' ? false : undefined));
const packageId = key('packageId', (value) =>
  /^[0-9a-f]{32}$/i.test(value)
    ? value.toLowerCase().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
    : undefined,
);

/** Every key and alias of PROXY.md, "Username grammar". Aliases share a field, so one beside the other is a repetition. */
const KEYS: ReadonlyMap<string, Key> = new Map([
  ['country', country],
  ['cc', country],
  ['cr', country],
  ['state', state],
  ['st', state],
  ['region', state],
  ['city', key('city', words)],
  ['asn', key('asn', (value) => wholeNumber(value.replace(/^as/i, ''), 0xffff_ffff))],
  ['isp', key('isp', words)],
  ['session', session],
  ['sessid', session],
  ['sid', session],
  ['sessionid', session],
  ['ttl', ttl],
  ['sesstime', ttl],
  ['sessionduration', ttl],
  ['lifetime', ttl],
  ['sessttl', ttl],
  [
    'sessionlength',
    key('ttlMinutes', (value) => {
      const seconds = wholeNumber(value, SESSION_TTL_MINUTES_MAX * 60);
      // Rounded up: an exit is kept at least as long as was asked.
      return seconds === undefined ? undefined : Math.ceil(seconds / 60);
    }),
  ],
  ['strict', strict],
  ['oneip', strict],
  ['hardsession', strict],
  ['fallback', key('fallback', oneOf('none', 'country', 'any'))],
  ['net', key('net', oneOf('wifi', 'mobile', 'any'))],
  ['package', packageId],
  ['pkg', packageId],
  ['tag', key('tag', (value) => value)],
  ['rotate', key('rotate', () => true)],
]);

/**
 * Reads a proxy username (PROXY.md, "Username grammar"). Anything not understood is BAD_PARAM with the key as
 * detail, `account` for the account itself, `username` for the whole: a mistyped country must not be billed for the
 * wrong exit. Never throws.
 */
export function parseUsername(username: string): ParsedUsername {
  if (Buffer.byteLength(username) > USERNAME_BYTES_MAX) return bad('username');
  const parts = username.split('-');
  if (startsWithPrefix(parts)) parts.shift();

  const account = parts[0] as string;
  if (!/^[a-z0-9]{4,32}$/.test(account)) return bad('account');

  const read: Reading = {};
  for (let i = 1; i < parts.length; i += 2) {
    const name = parts[i] as string;
    const value = parts[i + 1];
    const known = KEYS.get(name);
    if (known === undefined || known.field in read) return bad(name);
    if (value === undefined || !/^[A-Za-z0-9_.]{1,64}$/.test(value)) return bad(name);
    const meaning = known.read(value);
    if (meaning === undefined) return bad(name);
    Object.assign(read, { [known.field]: meaning });
  }
  const narrowed = !read.country || read.country === 'EU';
  if (narrowed && read.state) return bad('state');
  if (narrowed && read.city) return bad('city');

  return {
    ok: true,
    params: {
      account,
      country: read.country ?? null,
      state: read.state ?? null,
      city: read.city ?? null,
      asn: read.asn ?? null,
      isp: read.isp ?? null,
      session: read.session ?? null,
      ttlMinutes: read.ttlMinutes ?? SESSION_TTL_MINUTES_DEFAULT,
      strict: read.strict ?? false,
      fallback: read.fallback ?? 'none',
      net: read.net ?? 'any',
      packageId: read.packageId ?? null,
      tag: read.tag ?? null,
    },
  };
}

/**
 * Whether the first part is the vendor habit `user-`/`customer-` and not an account of that name. Keys come in
 * pairs, so an account alone leaves an odd number of parts; an odd number whose second part is no key is a prefix
 * with a value missing further on, and is better reported as that.
 */
function startsWithPrefix(parts: readonly string[]): boolean {
  if (parts[0] !== 'user' && parts[0] !== 'customer') return false;
  if (parts.length % 2 === 0) return true;
  return parts.length > 1 && !KEYS.has(parts[1] as string);
}

function bad(detail: string): ProxyFailure {
  return { ok: false, code: 'BAD_PARAM', detail };
}

/** ISO 3166-1 alpha-2, officially assigned, and XK (Kosovo), which GeoIP databases use. */
const COUNTRIES: ReadonlySet<string> = new Set(
  (
    'AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ ' +
    'CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO ' +
    'FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE ' +
    'JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO ' +
    'MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW ' +
    'PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM ' +
    'TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW'
  ).split(' '),
);

/** The account that a username names which can not be read; '' when it names none. */
export function accountIn(username: string): string {
  return /^(?:(?:user|customer)-)?([a-z0-9]*)/.exec(username)?.[1] ?? '';
}
