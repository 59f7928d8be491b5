import { parseUsername } from '../../gateway/buyers/username.js';
import type { Authenticated } from '../../gateway/listeners/connect-pipeline.js';
import type { Random } from '../sim/random.js';
import type { SimTunnel } from './gateway.js';

/** A device, wherever it hangs. */
export interface SimDevice {
  readonly deviceId: string;
  readonly providerId: string;
  readonly exitIp: string;
  readonly country: string;
  readonly city: string;
  readonly asn: number;
  readonly isp: string;
  readonly networkType: 'wifi' | 'mobile';
  /** Attempts to connect that failed in a row. */
  failures: number;
}

/** Where providers are, with shares: a few countries have most, as providers of such networks tell. */
const COUNTRIES = [
  ...[
    'US',
    'IN',
    'BR',
    'UZ',
    'ID',
    'TR',
    'MX',
    'VN',
    'PH',
    'GB',
    'DE',
    'FR',
    'RU',
    'KZ',
    'ES',
    'IT',
    'PL',
    'UA',
  ],
  ...[
    'TH',
    'MY',
    'EG',
    'NG',
    'PK',
    'BD',
    'AR',
    'CO',
    'ZA',
    'CA',
    'AU',
    'JP',
    'KR',
    'NL',
    'RO',
    'PT',
    'GR',
    'CZ',
  ],
  ...[
    'HU',
    'SE',
    'BE',
    'AT',
    'CH',
    'IL',
    'AE',
    'SA',
    'MA',
    'KE',
    'PE',
    'CL',
    'EC',
    'GE',
    'AM',
    'AZ',
    'KG',
    'TJ',
  ],
];
const CITIES_PER_COUNTRY = 12;
const NETWORKS_PER_COUNTRY = 6;
/** Of the accounts: that ask for no place, for a country, and that name sessions. */
const ANYWHERE_SHARE = 0.3;
const SESSIONS_SHARE = 0.4;
const SESSIONS_PER_ACCOUNT = 20;

/** Zipf: the n-th of them is drawn 1/n as often as the first. */
function zipf(random: Random, n: number): number {
  const drawn = Math.exp((random.below(1_000_000) / 1_000_000) * Math.log(n + 1));
  return Math.min(n - 1, Math.floor(drawn) - 1);
}

/** So many devices: one in five shares its provider and address with another. */
export function drawDevices(count: number, random: Random): SimDevice[] {
  const devices: SimDevice[] = [];
  for (let i = 0; i < count; i++) {
    const neighbour = random.chance(0.2) ? devices[i - 1] : undefined;
    const c = zipf(random, COUNTRIES.length);
    const network = random.below(NETWORKS_PER_COUNTRY);
    devices.push({
      deviceId: `d0000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
      providerId: neighbour?.providerId ?? `e0000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
      exitIp: neighbour?.exitIp ?? `${10 + (i >> 24)}.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`,
      country: neighbour?.country ?? (COUNTRIES[c] as string),
      city: neighbour?.city ?? `City ${COUNTRIES[c]} ${zipf(random, CITIES_PER_COUNTRY)}`,
      asn: neighbour?.asn ?? 1_000 + c * NETWORKS_PER_COUNTRY + network,
      isp: neighbour?.isp ?? `Carrier ${network} of ${COUNTRIES[c]}`,
      networkType: neighbour?.networkType ?? (random.chance(0.6) ? 'wifi' : 'mobile'),
      failures: 0,
    });
  }
  return devices;
}

/** The device with a tunnel: a new one each time it connects. */
export function tunnelOf(device: SimDevice, sinceMs: number): SimTunnel {
  const { deviceId, providerId, exitIp, country, city, asn, isp, networkType } = device;
  return {
    ...{ deviceId, providerId, exitIp, country, city, asn, isp, networkType },
    sessionId: deviceId,
    sinceMs,
    offerBytes: 1_000_000_000,
    status: 'sharing',
    streams: 0,
    leaving: false,
  };
}

/** Usernames of buyers, as often as they are used. */
export class SimBuyers {
  readonly #known = new Map<string, Authenticated>();
  readonly #places: string[] = [];

  constructor(
    private readonly count: number,
    private readonly random: Random,
  ) {
    for (let i = 0; i < count; i++)
      this.#places.push(
        random.chance(ANYWHERE_SHARE)
          ? ''
          : `-country-${(COUNTRIES[zipf(random, COUNTRIES.length)] as string).toLowerCase()}`,
      );
  }

  /** Of the next connection. */
  draw(): string {
    const i = zipf(this.random, this.count);
    const session =
      i % 10 < SESSIONS_SHARE * 10 ? `-session-s${this.random.below(SESSIONS_PER_ACCOUNT)}` : '';
    return `buyer${i}${this.#places[i]}${session}`;
  }

  /** Throws for a name that can not be read. */
  logIn(username: string): Authenticated {
    const known = this.#known.get(username);
    if (known !== undefined) return known;
    const parsed = parseUsername(username);
    if (!parsed.ok) throw new Error(`${username}: ${parsed.code}`);
    const { account } = parsed.params;
    const buyer = { account, buyerId: account, packageRoute: null };
    const asked = { username, password: null, clientAddress: '' };
    const auth = { ok: true, buyer, params: parsed.params, asked } as unknown as Authenticated;
    this.#known.set(username, auth);
    return auth;
  }
}
