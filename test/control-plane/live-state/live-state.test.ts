import { randomUUID } from 'node:crypto';
import t from 'tap';
import { readSnapshots } from '../../../control-plane/buyers/snapshots.js';
import { LiveState } from '../../../control-plane/live-state/live-state.js';
import { allocatePackages } from '../../../control-plane/packages/allocate.js';
import { offerPackage } from '../../../control-plane/packages/offer.js';
import { republishRoutes } from '../../../control-plane/packages/routes.js';
import { readClaim } from '../../../gateway/live/claims.js';
import { connectLive, type LiveRedis } from '../../../gateway/live/connection.js';
import { forgetControlPlaneState } from '../../../gateway/live/forget.js';
import {
  readAccount,
  readLiveSettings,
  readPackageRoute,
  readProviderPrice,
  readReady,
  writeProviderPrice,
} from '../../../gateway/live/store.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { addSession, addUser } from '../../helpers/money-world.js';
import { startRedis } from '../../helpers/services.js';

const PRICE = { microsPerGb: '1', effectiveFromMs: 0 };

t.test('live state', async (t) => {
  const world = await startWorld(t);
  const { pool, redis, call, collaborators } = world;
  const admin = await signedIn(world, 'admin');
  const asAdmin = (method: string, path: string, body: unknown) =>
    call(method, path, { token: admin.token, body });
  /** Of this world's Postgres, on another Redis. */
  const stateOn = (other: LiveRedis, rebuilders: Array<() => Promise<void>> = []) =>
    new LiveState({
      pool,
      redis: other,
      log: silentLog,
      tickMs: 50,
      snapshots: (selection) => readSnapshots(pool, selection, 1n),
      providerPrice: async () => PRICE,
      liveSettings: async () => ({ policyVersion: 1, termsVersion: '1', deniedDomains: [], deniedIps: [] }),
      rebuilders,
    });
  const live = new LiveState({
    pool,
    redis,
    log: silentLog,
    tickMs: 50,
    snapshots: (selection) => readSnapshots(pool, selection, 2_000_000n),
    providerPrice: async () => ({ microsPerGb: '500000', effectiveFromMs: 0 }),
    liveSettings: async () => ({
      policyVersion: 1,
      termsVersion: '1',
      deniedDomains: ['.bad.example'],
      deniedIps: [],
    }),
    rebuilders: [() => republishRoutes(pool, redis, collaborators.clock)],
  });
  t.teardown(() => live.stop());
  await live.start();
  const until = async (condition: () => Promise<boolean>) => {
    while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
  };

  await t.test('a Redis that comes back empty is rebuilt, then marked complete', async (t) => {
    const buyers = await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        const { body } = await asAdmin('POST', '/api/admin/buyers', {
          name: `B${i}`,
          kyc_status: 'approved',
        });
        await asAdmin('POST', '/api/admin/credits', {
          buyer_id: body.id,
          amount: `${i + 1}`,
          reason: 'test',
        });
        return body as { id: string; account: string };
      }),
    );
    const session = await addSession(pool, await addUser(pool));
    await offerPackage(pool, { ...session, country: 'DE', city: null, asn: null, sizeBytes: 10 });
    const taker = { buyerId: buyers[0]?.id ?? '', account: buyers[0]?.account ?? '' };
    const filter = { countries: null, city: null, asn: null, bytesMin: null, packageId: null };
    const [pulled] = await allocatePackages(collaborators, taker, filter, 1, 60_000);
    const before = await Promise.all(buyers.map((b) => readAccount(redis, b.account)));
    t.notOk(before.includes(null));
    const route = await readPackageRoute(redis, pulled?.packageId ?? '');
    const ready = await readReady(redis);

    await redis.flushall();
    await until(async () => (await readReady(redis)) !== null);
    t.not(await readReady(redis), ready, 'the marker is another one');
    t.same(await Promise.all(buyers.map((b) => readAccount(redis, b.account))), before);
    t.match(await readProviderPrice(redis), { microsPerGb: '500000' });
    t.match(await readLiveSettings(redis), { deniedDomains: ['.bad.example'] });
    t.same(await readPackageRoute(redis, pulled?.packageId ?? ''), { ...route, bytesUsed: 0 });
    t.equal((await readClaim(redis, session.userId, session.exitIp))?.allocationId, route?.allocationId);
  });

  await t.test('what is emptied while it is rebuilt is not complete, and is rebuilt again', async (t) => {
    const { body: buyer } = await asAdmin('POST', '/api/admin/buyers', { name: 'Emptied' });
    for (const empty of [(own: LiveRedis) => own.flushall(), forgetControlPlaneState]) {
      const server = await startRedis();
      t.teardown(() => server.stop());
      const own = connectLive({ url: server.url, log: silentLog });
      t.teardown(() => own.disconnect());
      let rebuilds = 0;
      const state = stateOn(own, [
        async () => {
          if (++rebuilds > 1) return;
          t.ok(await readAccount(own, buyer.account));
          await empty(own);
          // Another control plane has begun as well.
          await writeProviderPrice(own, PRICE);
        },
      ]);
      t.teardown(() => state.stop());
      await t.rejects(state.rebuild(), { message: 'the live state was emptied during a rebuild' });
      t.equal(await readReady(own), null);
      await state.start();
      t.ok(await readReady(own));
      t.ok(await readAccount(own, buyer.account));
    }
  });

  await t.test('a change committed by a process that died before publishing is found', async (t) => {
    const { body: buyer } = await asAdmin('POST', '/api/admin/buyers', { name: 'Silent' });
    await pool.query(
      "UPDATE buyers SET status = 'suspended', version = version + 1, updated_at = now() WHERE id = $1",
      [buyer.id],
    );
    await until(async () => (await readAccount(redis, buyer.account))?.status === 'suspended');
    t.equal((await readAccount(redis, buyer.account))?.status, 'suspended');
  });

  await t.test('what could not be written while Redis was away is written when it is back', async (t) => {
    const away = await startRedis();
    t.teardown(() => away.stop());
    const broken = connectLive({ url: away.url, log: silentLog, commandTimeoutMs: 300 });
    t.teardown(() => broken.disconnect());
    const failing = stateOn(broken);
    t.teardown(() => failing.stop());
    await failing.start();
    const { body: buyer } = await asAdmin('POST', '/api/admin/buyers', { name: 'Later' });
    const set = broken.set.bind(broken);
    Object.defineProperty(broken, 'set', {
      value: () => Promise.reject(new Error('away')),
      configurable: true,
    });
    await failing.accountsChanged([buyer.id]);
    await failing.command({ kind: 'end_allocation', allocationId: randomUUID() });
    t.equal(await readAccount(broken, buyer.account), null, 'the caller does not fail, nor wait');
    Object.defineProperty(broken, 'set', { value: set, configurable: true });
    await until(async () => (await readAccount(broken, buyer.account)) !== null);
    t.match(await readAccount(broken, buyer.account), { buyerId: buyer.id });
  });
});
