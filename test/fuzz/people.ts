/** Who may use the fuzzed gateway, and who may not although they know a password. */
import { createHash, randomUUID } from 'node:crypto';
import type { AccountSnapshot } from '../../gateway/live/records.js';
import type { Random } from '../sim/random.js';

export interface Login {
  username: string;
  password: string;
}

/** Good: what inputs that are marked valid log in with. Its devices are in the United States. */
export const MEMBER: Login = { username: 'acme', password: 'q8Yt2LwR5mZx7Kc1' };
/** Good, and never part of an input: the client that must be served whatever the others do. Its device is in France. */
export const BYSTANDER: Login = { username: 'bystander', password: 'T3hVn9Qz6Jb4Wd8s' };
/** Without a password from these addresses; the second is only ever announced by a balancer. */
export const WALK_IN_ADDRESSES = { direct: '127.99.99.99', announced: '203.0.113.77' } as const;

/** Known, with the right password, and yet not to be let in. */
const SHUT_OUT: readonly Login[] = [
  { username: 'suspended', password: 'Mf5Lk2Xw8Rt1Bn7c' },
  { username: 'unverified', password: 'Zp4Gd9Hs3Vy6Jq2k' },
  { username: 'expired', password: 'Xc7Nb1Tr5Wm8Lf4h' },
  { username: 'elsewhere', password: 'Kj2Qs6Pv9Dg3Yz5r' },
];
/** Of an account whose name is in no input. */
const OTHERS_PASSWORD = 'Ht8Wc3Zn5Rk1Xb6m';

const hash = (password: string) => createHash('sha256').update(password).digest('hex');

function account(login: Login, fields: Partial<AccountSnapshot> = {}): AccountSnapshot {
  return {
    account: login.username,
    buyerId: randomUUID(),
    subUser: null,
    status: 'active',
    kycStatus: 'approved',
    aupAccepted: true,
    credentials: [
      { tokenId: randomUUID(), sha256Hex: hash(login.password), expiresAtMs: null, allowedIps: [] },
    ],
    passwordlessIps: [],
    priceMicrosPerGb: '2000000',
    limits: {
      streamsMax: 100_000,
      connectionsPerSecondMax: 1_000_000,
      extraPorts: [],
      grantedPorts: [],
      udp: true,
    },
    version: 1,
    ...fields,
  };
}

/** Every account of the world. */
export function accounts(): AccountSnapshot[] {
  const [suspended, unverified, expired, elsewhere] = SHUT_OUT as [Login, Login, Login, Login];
  const credential = (login: Login, fields: object) => ({
    credentials: [
      {
        tokenId: randomUUID(),
        sha256Hex: hash(login.password),
        expiresAtMs: null,
        allowedIps: [] as string[],
        ...fields,
      },
    ],
  });
  return [
    account(MEMBER),
    account(BYSTANDER),
    account({ username: 'notnamed', password: OTHERS_PASSWORD }),
    account(
      { username: 'walkin', password: 'Vd6Bq1Xk9Mz4Th7w' },
      { passwordlessIps: Object.values(WALK_IN_ADDRESSES).map((address) => `${address}/32`) },
    ),
    account(suspended, { status: 'suspended' }),
    account(unverified, { kycStatus: 'pending' }),
    account(expired, credential(expired, { expiresAtMs: 1_000 })),
    account(elsewhere, credential(elsewhere, { allowedIps: ['198.51.100.7/32'] })),
  ];
}

const PARAMS = [
  '-country-us',
  '-cc-US-city-new_york',
  '-session-s1',
  '-country-us-session-s2-ttl-5',
  '-session-s3-strict-1',
  '-net-wifi',
  '-fallback-any-country-us-state-texas',
  '-tag-fuzz',
  '-rotate-1',
  '-asn-7922',
];
const BAD_PARAMS = [
  '-country-zz',
  '-planet-mars',
  '-session-',
  '-ttl-0-ttl-1',
  '-',
  '--',
  '-country',
  '-city-x',
];

/** A login that opens the member's account, unless a parameter asks for what is not there. */
export function goodLogin(random: Random): Login {
  if (random.chance(0.5)) return { ...MEMBER, username: `${MEMBER.username}-country-us` };
  const username = (random.chance(0.1) ? 'user-' : '') + MEMBER.username + random.pick(['', ...PARAMS]);
  return { ...MEMBER, username };
}

/**
 * A login that opens nothing, and does not become a good one by a few changed bytes: the member's own password is in
 * none of them.
 */
export function badLogin(random: Random): Login {
  const name = random.chance(0.75)
    ? MEMBER.username
    : random.pick(['acmf', 'nobody77', 'walkin', 'admin', 'a', '']);
  switch (random.below(10)) {
    case 0:
      return random.pick(SHUT_OUT);
    case 1:
      return { username: name, password: '' };
    case 2:
      return {
        username: MEMBER.username,
        password: hash(MEMBER.password).slice(0, random.pick([16, 32, 64])),
      };
    case 3:
      return { username: MEMBER.username, password: OTHERS_PASSWORD };
    case 4:
      return { username: MEMBER.username, password: MEMBER.password.slice(0, random.below(10)) };
    case 5:
      return {
        username: MEMBER.username + random.pick([...PARAMS, ...BAD_PARAMS]),
        password: random.hex(16),
      };
    case 6:
      return {
        username: name.repeat(random.between(1, 80)).slice(0, 255),
        password: 'x'.repeat(random.below(256)),
      };
    case 7:
      return {
        username: `${MEMBER.username}-package-${random.hex(32)}`,
        password: random.chance(0.5) ? '' : random.hex(32),
      };
    default:
      return { username: name, password: random.hex(random.between(1, 32)) };
  }
}
