/** What a buyer wants of a connection, as the fields of the page hold it; empty: not said. */
export interface Wish {
  account: string;
  country: string;
  city: string;
  asn: string;
  /** Keep the same exit under this name. */
  session: string;
  ttlMinutes: string;
  strict: boolean;
  fallback: string;
  net: string;
  tag: string;
}

export const NO_WISH: Omit<Wish, 'account'> = {
  country: '',
  city: '',
  asn: '',
  session: '',
  ttlMinutes: '',
  strict: false,
  fallback: '',
  net: '',
  tag: '',
};

/** Name of a place as a username can say it: `São Paulo` is `sao_paulo`. */
export function placeValue(name: string): string {
  return name
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .replace(/^_+|_+$/g, '');
}

/** The username that says so, by the grammar of the proxy (README, "Usernames"). */
export function usernameOf(wish: Wish): string {
  const pairs: [key: string, value: string][] = [
    ['country', wish.country.toLowerCase()],
    ['city', wish.country === '' ? '' : placeValue(wish.city)],
    ['asn', wish.asn],
    ['session', wish.session],
    ['ttl', wish.session === '' ? '' : wish.ttlMinutes],
    ['strict', wish.session !== '' && wish.strict ? '1' : ''],
    ['fallback', wish.country === '' ? '' : wish.fallback],
    ['net', wish.net],
    ['tag', wish.tag],
  ];
  return [wish.account, ...pairs.filter(([, value]) => value !== '').flat()].join('-');
}

/** What of the wish the proxy would not understand, by field. */
export function findings(wish: Wish): Partial<Record<keyof Wish, string>> {
  const found: Partial<Record<keyof Wish, string>> = {};
  if (!/^[A-Za-z0-9]{0,32}$/.test(wish.session)) found.session = 'Up to 32 letters and digits.';
  if (!/^[A-Za-z0-9_.]{0,64}$/.test(wish.tag)) found.tag = 'Up to 64 letters, digits, dots and underscores.';
  if (!/^[0-9]{0,10}$/.test(wish.asn)) found.asn = 'A number, such as 3320.';
  const minutes = Number(wish.ttlMinutes);
  if (wish.ttlMinutes !== '' && !(Number.isInteger(minutes) && minutes >= 1 && minutes <= 1_440))
    found.ttlMinutes = 'Whole minutes, from 1 to 1440.';
  return found;
}
