import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import { authenticate } from '../../../gateway/buyers/authenticate.js';
import { BuyerDirectory } from '../../../gateway/buyers/directory.js';
import type { AccountSnapshot, PackageRoute } from '../../../gateway/live/records.js';
import {
  deleteAccount,
  deletePackageRoute,
  markReady,
  writeAccount,
  writePackageRoute,
} from '../../../gateway/live/store.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { accountSnapshot, claimRecord, connect, onEachRedis } from '../live/servers.js';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const NOW_MS = Date.now();
const HERE = '198.51.100.9';

const SNAPSHOT = accountSnapshot({
  credentials: [
    { tokenId: 'plain', sha256Hex: sha256('open'), expiresAtMs: null, allowedIps: [] },
    { tokenId: 'expired', sha256Hex: sha256('old'), expiresAtMs: NOW_MS, allowedIps: [] },
    { tokenId: 'lasting', sha256Hex: sha256('young'), expiresAtMs: NOW_MS + 1, allowedIps: [] },
    {
      tokenId: 'bound',
      sha256Hex: sha256('office'),
      expiresAtMs: null,
      allowedIps: ['198.51.100.0/24', '2001:db8::/32'],
    },
    { tokenId: 'nowhere', sha256Hex: sha256('nowhere'), expiresAtMs: null, allowedIps: ['rubbish'] },
    ...Array.from({ length: 10 }, (_, i) => ({
      tokenId: `more${i}`,
      sha256Hex: sha256(`more${i}`),
      expiresAtMs: null,
      allowedIps: [],
    })),
  ],
  passwordlessIps: ['192.0.2.5', '2001:db8:7::/48'],
});
const ROUTE: PackageRoute = {
  ...claimRecord('a'),
  packageId: 'pk1',
  providerId: 'p',
  exitIp: '203.0.113.7',
  passwordSha256Hex: sha256('package'),
  expiresAtMs: NOW_MS + 60_000,
};

onEachRedis(t, async (t, server) => {
  async function world(t: Test, snapshot: Partial<AccountSnapshot> = {}) {
    const redis = server.connect(t);
    await redis.flushall();
    await markReady(redis);
    await writeAccount(redis, { ...SNAPSHOT, ...snapshot });
    await writePackageRoute(redis, ROUTE, NOW_MS);
    await writePackageRoute(redis, { ...ROUTE, packageId: 'foreign', buyerId: 'somebody-else' }, NOW_MS);
    const directory = new BuyerDirectory({ redis, clock: new ManualClock(), log: silentLog });
    return async (
      password: string | null,
      clientAddress = HERE,
      packageId: string | null = null,
      account = 'acme',
    ) => {
      const outcome = await authenticate(
        directory,
        { password, clientAddress },
        { account, packageId },
        NOW_MS,
      );
      return outcome.ok ? `ok ${outcome.buyer.access.tokenId}` : outcome.code;
    };
  }

  t.test(
    'client addresses of the account: whatever is proved, a buyer’s list and a sub-user’s',
    async (t) => {
      const limits = { ...SNAPSHOT.limits, allowedIps: ['198.51.100.0/24', '192.0.2.0/24', '2001:db8::/32'] };
      const buyer = await world(t, { limits });
      for (const [what, password, address, packageId, expected] of [
        ['a password', 'open', HERE, null, 'ok plain'],
        ['mapped', 'open', `::ffff:${HERE}`, null, 'ok plain'],
        ['IPv6', 'open', '2001:DB8::7', null, 'ok plain'],
        ['a password from elsewhere', 'open', '203.0.113.9', null, 'AUTH_FAILED'],
        ['from no address', 'open', 'no address at all', null, 'AUTH_FAILED'],
        ['a package’s password from elsewhere', 'package', '203.0.113.9', 'pk1', 'AUTH_FAILED'],
        ['without password, on both lists', null, '192.0.2.5', null, 'ok null'],
        ['a password bound to more than the account', 'office', '2001:db8::1', null, 'ok bound'],
      ] as const)
        t.equal(await buyer(password, address, packageId), expected, what);
      const open = await world(t, { limits: { ...limits, allowedIps: ['198.51.100.0/25'] } });
      t.equal(await open(null, '192.0.2.5'), 'AUTH_FAILED', 'needs no password, but is not allowed');

      const own = { allowedIps: ['198.51.100.8/29'] };
      const subUser = await world(t, { limits, subUser: { id: 's', limited: false, limits: own } });
      t.equal(await subUser('open', HERE), 'ok plain');
      t.equal(await subUser('open', '198.51.100.7'), 'AUTH_FAILED', 'the buyer’s list alone is not enough');
      t.equal(await subUser('package', '198.51.100.7', 'pk1'), 'AUTH_FAILED');
      t.equal(await subUser('package', HERE, 'pk1'), 'ok null');
      const other = await world(t, {
        limits: { ...limits, allowedIps: ['192.0.2.0/24'] },
        subUser: { id: 's', limited: false, limits: own },
      });
      t.equal(await other('open', HERE), 'AUTH_FAILED', 'nor the sub-user’s alone');
      const passwordless = await world(t, { subUser: { id: 's', limited: false, limits: {} } });
      t.equal(
        await passwordless(null, '::ffff:192.0.2.5'),
        'ok null',
        'sub-users, too, may need no password',
      );
    },
  );

  t.test('who gets in', async (t) => {
    const attempt = await world(t);
    const table: Array<[string, string | null, string, string | null, string]> = [
      // what, password, client address, package, outcome
      ['a password', 'open', HERE, null, 'ok plain'],
      ['from anywhere', 'open', 'no address at all', null, 'ok plain'],
      ['a wrong one', 'Open', HERE, null, 'AUTH_FAILED'],
      ['its hash', sha256('open'), HERE, null, 'AUTH_FAILED'],
      ['one that is long', 'x'.repeat(100_000), HERE, null, 'AUTH_FAILED'],
      ['expired this very millisecond', 'old', HERE, null, 'AUTH_FAILED'],
      ['expiring in one', 'young', HERE, null, 'ok lasting'],
      ['the last of many', 'more9', HERE, null, 'ok more9'],
      ['bound to a network, from there', 'office', HERE, null, 'ok bound'],
      ['mapped', 'office', `::ffff:${HERE}`, null, 'ok bound'],
      ['IPv6', 'office', '2001:DB8:0:0::1', null, 'ok bound'],
      ['from elsewhere', 'office', '198.51.101.9', null, 'AUTH_FAILED'],
      ['from no address', 'office', '', null, 'AUTH_FAILED'],
      ['bound to nothing readable', 'nowhere', HERE, null, 'AUTH_FAILED'],
      ['none', null, HERE, null, 'AUTH_FAILED'],
      ['empty', '', HERE, null, 'AUTH_FAILED'],
      ['none, allowlisted address', null, '192.0.2.5', null, 'ok null'],
      ['empty, allowlisted address', '', '::ffff:192.0.2.5', null, 'ok null'],
      ['allowlisted IPv6', null, '2001:db8:7:1::1', null, 'ok null'],
      ['allowlisted address, wrong password', 'wrong', '192.0.2.5', null, 'AUTH_FAILED'],
      ['allowlisted address, expired password', 'old', '192.0.2.5', null, 'AUTH_FAILED'],
      ['a package’s password, for it', 'package', HERE, 'pk1', 'ok null'],
      ['a package’s password, without it', 'package', HERE, null, 'AUTH_FAILED'],
      ['the account’s password, for its package', 'open', HERE, 'pk1', 'ok plain'],
      ['a foreign package, own password', 'open', HERE, 'foreign', 'AUTH_FAILED'],
      ['a foreign package, its password', 'package', HERE, 'foreign', 'AUTH_FAILED'],
      ['an unknown package', 'open', HERE, 'nothing', 'AUTH_FAILED'],
      ['allowlisted address, own package', null, '192.0.2.5', 'pk1', 'ok null'],
    ];
    for (const [what, password, address, packageId, expected] of table)
      t.equal(await attempt(password, address, packageId), expected, what);
    t.equal(await attempt('open', HERE, null, 'nobody'), 'AUTH_FAILED', 'unknown account');
    t.equal(await attempt(null, '192.0.2.5', null, 'nobody'), 'AUTH_FAILED');
  });

  t.test('what a proven buyer is told, and only they', async (t) => {
    const table: Array<[Partial<AccountSnapshot>, string]> = [
      [{}, 'ok plain'],
      [{ status: 'suspended' }, 'ACCOUNT_SUSPENDED'],
      [{ status: 'closed' }, 'ACCOUNT_SUSPENDED'],
      [{ kycStatus: 'pending' }, 'KYC_REQUIRED'],
      [{ kycStatus: 'rejected' }, 'KYC_REQUIRED'],
      [{ aupAccepted: false }, 'KYC_REQUIRED'],
      [{ status: 'suspended', kycStatus: 'pending' }, 'ACCOUNT_SUSPENDED'],
      [{ kycStatus: 'pending' }, 'KYC_REQUIRED'],
    ];
    for (const [snapshot, expected] of table) {
      const attempt = await world(t, snapshot);
      t.equal(await attempt('open'), expected, JSON.stringify(snapshot));
      t.equal(await attempt('wrong'), 'AUTH_FAILED', 'nothing is told to a stranger');
    }
  });

  t.test('the live state is empty and not rebuilt: nobody is called unknown', async (t) => {
    const redis = server.connect(t);
    await redis.flushall();
    const directory = new BuyerDirectory({ redis, clock: new ManualClock(), log: silentLog });
    const attempt = (packageId: string | null = null) =>
      authenticate(
        directory,
        { password: 'open', clientAddress: HERE },
        { account: 'acme', packageId },
        NOW_MS,
      );
    t.match(await attempt(), { ok: false, code: 'INTERNAL' });
    await writeAccount(redis, SNAPSHOT);
    t.match(await attempt(), { ok: true, buyer: { priceMicrosPerGb: 3_000_000n } });
    t.match(await attempt('pk1'), { ok: false, code: 'INTERNAL' }, 'the package may still come back');
    await markReady(redis);
    t.match(await attempt('pk1'), { ok: false, code: 'AUTH_FAILED' });
  });

  t.test('the directory serves from memory, refreshes, and follows commands', async (t) => {
    const redis = server.connect(t);
    await redis.flushall();
    await markReady(redis);
    await writeAccount(redis, SNAPSHOT);
    const clock = new ManualClock();
    const directory = new BuyerDirectory({ redis, clock, log: silentLog });
    const found = async () => {
      const entry = await directory.lookup('acme');
      return entry === null || entry === 'unavailable' ? entry : entry.snapshot.version;
    };
    /** Waits until a refresh in the background has come in. */
    const refreshed = async (expected: unknown) => {
      for (
        let i = 0;
        i < 200 && JSON.stringify(await found(), bigText) !== JSON.stringify(expected, bigText);
        i++
      )
        await redis.ping();
      t.same(await found(), expected);
    };

    const [first, second] = await Promise.all([directory.lookup('acme'), directory.lookup('acme')]);
    t.equal(first, second, 'one read for two who ask');
    t.equal(directory.cached('acme'), first);
    t.equal(directory.lookup('acme'), first, 'from then on at once');
    const login = { password: null, clientAddress: '192.0.2.1' };
    const named = { account: 'acme', packageId: null };
    t.notOk(authenticate(directory, login, named, 0) instanceof Promise, 'and so is a login judged');
    await writeAccount(redis, { ...SNAPSHOT, version: 2 });
    t.same(await found(), 1, 'from memory');
    clock.advance(1_001);
    t.same(await found(), 1, 'stale, while it is read again');
    await refreshed(2);

    await writeAccount(redis, { ...SNAPSHOT, version: 3 });
    directory.accountChanged('acme');
    t.same(await found(), 3, 'at once after the command');

    await writeAccount(redis, { ...SNAPSHOT, version: 4 });
    directory.resync();
    t.same(await found(), 4, 'at once after a resync');

    await deleteAccount(redis, 'acme');
    directory.accountChanged('acme');
    t.equal(await found(), null);
    await writeAccount(redis, SNAPSHOT);
    t.equal(await found(), null, 'an unknown account stays unknown for a moment');
    clock.advance(1_001);
    t.same(await found(), 1);

    await writePackageRoute(redis, ROUTE, NOW_MS);
    t.same(await directory.lookupPackage('pk1'), ROUTE);
    await deletePackageRoute(redis, 'pk1');
    t.same(await directory.lookupPackage('pk1'), ROUTE);
    clock.advance(1_001);
    await directory.lookupPackage('pk1');
    for (let i = 0; i < 200 && (await directory.lookupPackage('pk1')) !== null; i++) await redis.ping();
    t.equal(await directory.lookupPackage('pk1'), null);
  });

  t.test('a wiped Redis: known accounts go on for a minute', async (t) => {
    const redis = server.connect(t);
    await redis.flushall();
    await markReady(redis);
    await writeAccount(redis, SNAPSHOT);
    const clock = new ManualClock();
    const directory = new BuyerDirectory({ redis, clock, log: silentLog });
    await directory.lookup('acme');
    await redis.flushall();
    directory.resync();
    t.match(await directory.lookup('acme'), { snapshot: { account: 'acme' } });
    t.equal(await directory.lookup('other'), 'unavailable');
    clock.advance(59_000);
    t.match(await directory.lookup('acme'), { snapshot: { account: 'acme' } });
    clock.advance(1_001);
    t.equal(await directory.lookup('acme'), 'unavailable');
  });
});

t.test('Redis away: known accounts from memory, others unavailable', async (t) => {
  const redis = connect(t, { url: 'redis://127.0.0.1:1', commandTimeoutMs: 100 });
  const directory = new BuyerDirectory({ redis, clock: new ManualClock(), log: silentLog });
  t.equal(await directory.lookup('acme'), 'unavailable');
  t.equal(await directory.lookupPackage('pk'), 'unavailable');
});

t.test('memory is bounded', async (t) => {
  const { accountsMax, unknownMax } = { accountsMax: 3, unknownMax: 2 };
  let reads = 0;
  // Counts what reaches Redis; answers like an empty, complete one that knows accounts beginning with "k".
  const redis = {
    log: silentLog,
    primaryTags: [''],
    async get(key: string) {
      if (key.includes('ready')) return '1';
      const account = /\{(.*)\}/.exec(key)?.[1] ?? '';
      reads++;
      return account.startsWith('k') ? JSON.stringify(accountSnapshot({ account, buyerId: account })) : null;
    },
  };
  const clock = new ManualClock();
  const directory = new BuyerDirectory(
    { redis: redis as never, clock, log: silentLog },
    { accountsMax, unknownMax, refreshAfterMs: 60_000 },
  );
  const readsFor = async (account: string) => {
    reads = 0;
    await directory.lookup(account);
    return reads;
  };
  for (const account of ['k1', 'k2', 'k3']) t.equal(await readsFor(account), 1);
  clock.advance(1_001);
  t.equal(await readsFor('k1'), 0, 'used: the youngest now');
  t.equal(await readsFor('k4'), 1);
  t.equal(await readsFor('k1'), 0);
  t.equal(await readsFor('k2'), 1, 'the one used longest ago went');
  for (const account of ['u1', 'u2', 'u3']) t.equal(await readsFor(account), 1);
  t.equal(await readsFor('u3'), 0);
  t.equal(await readsFor('u1'), 1);
  t.equal(await readsFor('k2'), 0, 'guesses do not push out accounts');
});

function bigText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}
