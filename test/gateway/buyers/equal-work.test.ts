/** What an attempt costs must not tell what is known: counted, since times are noise. */
import * as crypto from 'node:crypto';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import t from 'tap';
import { authenticate } from '../../../gateway/buyers/authenticate.js';
import type { AccountEntry } from '../../../gateway/buyers/directory.js';
import type { PackageRoute } from '../../../gateway/live/records.js';
import { accountSnapshot, claimRecord } from '../live/servers.js';

const NOW_MS = 1_700_000_000_000;
const sha256 = (text: string) => crypto.createHash('sha256').update(text).digest();

/** What one attempt did. */
const work = { hashes: 0, comparisons: 0, lookups: 0, packageLookups: 0 };

// What is imported from node:crypto by name is this from now on, everywhere in this process.
const counted = createRequire(import.meta.url)('node:crypto') as {
  -readonly [K in keyof typeof crypto]: (typeof crypto)[K];
};
const { hash: realHash, timingSafeEqual: realComparison } = crypto;
counted.hash = ((...of: Parameters<typeof crypto.hash>) => {
  work.hashes += 1;
  return realHash(...of);
}) as typeof crypto.hash;
counted.timingSafeEqual = (one, other) => {
  work.comparisons += 1;
  return realComparison(one, other);
};
syncBuiltinESMExports();

function entry(passwords: readonly string[], snapshot = accountSnapshot({})): AccountEntry {
  return {
    snapshot,
    priceMicrosPerGb: 1n,
    allowedIps: [],
    rules: [],
    passwordlessIps: new Set() as unknown as AccountEntry['passwordlessIps'],
    credentials: passwords.map((password, i) => ({
      tokenId: `token${i}`,
      sha256: sha256(password),
      expiresAtMs: null,
      allowedIps: null,
    })),
  };
}

const route: PackageRoute = {
  ...claimRecord('a'),
  packageId: 'pk1',
  providerId: 'p',
  exitIp: '203.0.113.7',
  passwordSha256Hex: sha256('package').toString('hex'),
  expiresAtMs: NOW_MS + 1,
};

async function attempt(
  known: AccountEntry | null,
  password: string | null,
  packageRoute?: PackageRoute | null,
) {
  Object.assign(work, { hashes: 0, comparisons: 0, lookups: 0, packageLookups: 0 });
  const directory = {
    lookup: async () => {
      work.lookups += 1;
      return known;
    },
    lookupPackage: async () => {
      work.packageLookups += 1;
      return packageRoute ?? null;
    },
  };
  const outcome = await authenticate(
    directory,
    { password, clientAddress: '198.51.100.9' },
    { account: 'acme', packageId: packageRoute === undefined ? null : 'pk1' },
    NOW_MS,
  );
  return { ok: outcome.ok, code: outcome.ok ? null : outcome.code, ...work };
}

t.test('an unknown account costs what a known one costs, right or wrong', async (t) => {
  const eight = Array.from({ length: 8 }, (_, i) => `password${i}`);
  const reference = await attempt(null, 'guess');
  t.match(reference, { ok: false, code: 'AUTH_FAILED', hashes: 1, comparisons: 9, lookups: 1 });
  const failed: Array<[string, AccountEntry | null, string | null]> = [
    ['one credential', entry(['open']), 'guess'],
    ['none', entry([]), 'guess'],
    ['eight', entry(eight), 'guess'],
    ['no password', entry(['open']), null],
    ['unknown, no password', null, null],
    ['empty password', entry(['open']), ''],
    ['suspended', entry(['open'], accountSnapshot({ status: 'suspended' })), 'guess'],
  ];
  for (const [what, known, password] of failed) t.same(await attempt(known, password), reference, what);
  for (const password of ['password0', 'password7'])
    t.same(
      await attempt(entry(eight), password),
      { ...reference, ok: true, code: null },
      `right: ${password}`,
    );
});

t.test('the same for packages', async (t) => {
  const reference = await attempt(null, 'guess', null);
  t.match(reference, { ok: false, code: 'AUTH_FAILED', packageLookups: 1 });
  t.same(await attempt(entry(['open']), 'guess', route), reference, 'a package that exists');
  t.same(await attempt(null, 'package', route), reference, 'its password, of an unknown account');
  t.same(await attempt(entry(['open']), 'guess', null), reference, 'none, of a known account');
});
