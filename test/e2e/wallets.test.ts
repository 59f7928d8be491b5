/** A balance, a package and a limit are kept exactly, on two gateways, whatever Redis does. */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { withTransaction } from '../../control-plane/db/pool.js';
import { chargeMicros, formatMicros } from '../../control-plane/ledger/money.js';
import { allocatePackages } from '../../control-plane/packages/allocate.js';
import { answerWallets, type WalletQuestion } from '../../control-plane/wallets/wallets.js';
import type { GatewayConfig } from '../../gateway/config.js';
import { type Gateway, startGateway } from '../../gateway/gateway.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { signedIn, startWorld, type TestWorld } from '../helpers/control-plane.js';
import { floodDevice } from '../helpers/flood-device.js';
import { assertLedger } from '../helpers/ledger.js';
import { addBuyer } from '../helpers/money-world.js';
import { socksConnect } from '../helpers/socks-client.js';
import { sharingProvider, worldGateway } from '../helpers/world-gateway.js';

const MiB = 2 ** 20;
const PRICE = 2_000_000n;
const PASSWORD = 'q8Yt2LwR5mZx7Kc1';

interface Site {
  gateway: Gateway;
  config: GatewayConfig;
}

let world: TestWorld;
let adminToken: string;
const sites: Site[] = [];

const startSite = (t: Test, name: string): Promise<Site> =>
  worldGateway(t, world, name, {
    TS_WALLET_WAIT_MS: '4000',
    TS_WALLET_IDLE_MS: '1000',
    TS_ALLOCATION_IDLE_MS: '1000',
  });

/** A provider with a device on the site that serves streams; `again` connects it anew, to the same session. */
async function share(
  site: Site,
): Promise<{ sessionId: string; userId: string; again: () => Promise<string> }> {
  const { userId, start } = await sharingProvider(world);
  const again = async () => {
    const { sessionId, ticket } = await start();
    const device = await floodDevice(site.gateway.tunnelPort, ticket);
    t.teardown(() => device.socket.terminate());
    return sessionId;
  };
  return { sessionId: await again(), userId, again };
}

interface Payer {
  buyerId: string;
  account: string;
}

/** An approved buyer with a proxy password and so much money. */
async function payer(micros: bigint): Promise<Payer> {
  const buyerId = await addBuyer(world.pool, PRICE);
  await world.pool.query(
    `INSERT INTO buyer_tokens (id, buyer_id, kind, token_hash, prefix, scopes)
     VALUES ($1, $2, 'proxy_password', $3, 'x', '{proxy}')`,
    [randomUUID(), buyerId, sha256(PASSWORD + buyerId)],
  );
  if (micros > 0n) await topUp(buyerId, micros);
  else await world.services.live.accountsChanged([buyerId]);
  const { rows } = await world.pool.query<{ account: string }>('SELECT account FROM buyers WHERE id = $1', [
    buyerId,
  ]);
  return { buyerId, account: rows[0]?.account as string };
}

const sha256 = (text: string) => createHash('sha256').update(text).digest();

async function topUp(buyerId: string, micros: bigint): Promise<number> {
  const { status, body } = await world.call('POST', '/api/admin/credits', {
    token: adminToken,
    body: { buyer_id: buyerId, amount: formatMicros(micros), reason: 'a test' },
  });
  if (status !== 201 && status !== 422) throw new Error(JSON.stringify(body));
  return status;
}

interface Download {
  socket: Socket;
  received: number;
  ended: boolean;
}

async function download(site: Site, username: string, password: string): Promise<Download | number> {
  const { socket, auth, reply } = await socksConnect({
    proxyPort: site.gateway.proxyPort,
    username,
    password,
    host: 'example.com',
    port: 80,
  });
  if (reply !== 0) {
    socket.destroy();
    return auth === 0 ? (reply ?? -1) : (auth ?? -1);
  }
  const one: Download = { socket, received: 0, ended: false };
  t.teardown(() => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    one.received += chunk.length;
  });
  socket.on('end', () => socket.end());
  socket.on('close', () => {
    one.ended = true;
  });
  return one;
}

const isDownload = (one: Download | number): one is Download => typeof one !== 'number';
const sum = (some: readonly Download[]) => some.reduce((total, one) => total + one.received, 0);

async function until(what: () => boolean | Promise<boolean>, withinMs: number): Promise<boolean> {
  const endMs = performance.now() + withinMs;
  while (performance.now() < endMs) {
    if (await what()) return true;
    await delay(50);
  }
  return false;
}

/** Balance less what is held, every 100 ms; `stop` gives the least. */
function watch(buyerId: string): { stop: () => Promise<{ least: bigint; samples: number }> } {
  let stopped = false;
  let least = 2n ** 60n;
  let samples = 0;
  const loop = (async () => {
    while (!stopped) {
      const { rows } = await world.pool.query<{ gap: bigint }>(
        `SELECT (balance_micros - wallet_held('buyer', owner_id))::bigint AS gap FROM ledger_accounts
          WHERE owner_id = $1 AND kind = 'buyer_prepaid'`,
        [buyerId],
      );
      samples++;
      if (rows[0] && rows[0].gap < least) least = rows[0].gap;
      await delay(100);
    }
  })();
  return {
    async stop() {
      stopped = true;
      await loop;
      return { least, samples };
    },
  };
}

async function wallets(buyerId: string) {
  const { status, body } = await world.call('GET', `/api/admin/wallets?buyer_id=${buyerId}`, {
    token: adminToken,
  });
  if (status !== 200) throw new Error(JSON.stringify(body));
  return body as {
    balance: string;
    held: string;
    available: string;
    holds: Array<{ run: string; held: string }>;
  };
}

t.before(async () => {
  world = await startWorld(t, {
    background: true,
    env: { TS_OFFER_BYTES: '1000000000', TS_API_REQUESTS_PER_MINUTE: '100000' },
  });
  adminToken = (await signedIn(world, 'admin')).token;
  sites.push(await startSite(t, 'ga'), await startSite(t, 'gb'));
  for (const site of sites) for (let i = 0; i < 2; i++) await share(site);
});

t.test('10 MiB of balance, 50 downloads over two gateways, Redis emptied midway', async (t) => {
  const micros = chargeMicros(BigInt(10 * MiB), PRICE) + 1n;
  const bytesMax = Number((micros * 1_000_000_000n) / PRICE);
  const { buyerId, account } = await payer(micros);
  const gap = watch(buyerId);
  const begun = await Promise.all(
    Array.from({ length: 50 }, (_, n) => download(sites[n % 2] as Site, account, PASSWORD + buyerId)),
  );
  const streams = begun.filter(isDownload);
  t.ok(streams.length >= 40, `${streams.length} streams`);
  t.ok(await until(() => sum(streams) >= 3 * MiB, 10_000), 'bytes flow');
  await world.redis.flushall();
  t.ok(await until(() => streams.every((one) => one.ended), 25_000), 'all streams end');
  const received = sum(streams);
  t.ok(received <= bytesMax, `${received} received of ${bytesMax}`);
  t.ok(received >= 9.5 * MiB, `${(received / MiB).toFixed(2)} MiB received`);
  const { least, samples } = await gap.stop();
  t.ok(samples >= 5);
  t.ok(least >= 0n, `balance ≥ held: ${least}`);
  t.ok(
    await until(
      async () => typeof (await download(sites[0] as Site, account, PASSWORD + buyerId)) === 'number',
      5_000,
    ),
  );
  t.ok(
    await until(async () => (await wallets(buyerId)).balance === (await wallets(buyerId)).available, 15_000),
    'nothing stays held',
  );
});

t.test('topped up while streams wait: they go on; new ones within a second', async (t) => {
  const { buyerId, account } = await payer(chargeMicros(BigInt(2 * MiB), PRICE));
  // Another gateway holds the rest: whoever asks is told to wait.
  const other: WalletQuestion = {
    gatewayId: 'elsewhere',
    run: randomBytes(12).toString('hex'),
    owner: { kind: 'buyer', ownerId: buyerId },
    wantGranted: 1_000n,
    renounced: 0n,
    withdrawn: 0n,
    finished: false,
    again: false,
  };
  await withTransaction(world.pool, (client) =>
    answerWallets(client, [other], { defaultBuyerPriceMicrosPerGb: PRICE }),
  );
  const site = sites[0] as Site;
  const stream = await download(site, account, PASSWORD + buyerId);
  if (!isDownload(stream)) throw new Error(`refused: ${stream}`);
  let before = -1;
  t.ok(
    await until(async () => {
      const still = stream.received > 0 && stream.received === before;
      before = stream.received;
      await delay(300);
      return still;
    }, 10_000),
    'it waits',
  );
  t.notOk(stream.ended);
  t.ok(stream.received <= 2 * MiB, `${stream.received}`);
  t.equal(await topUp(buyerId, -1_000n), 422, 'what is held cannot be taken away');
  await topUp(buyerId, chargeMicros(BigInt(4 * MiB), PRICE));
  t.ok(await until(() => stream.received > before, 1_000), 'goes on within a second');
  t.ok(await until(() => stream.ended, 20_000));
  t.ok(stream.received > 5 * MiB && stream.received <= 6 * MiB, `${stream.received}`);
  const gone = { ...other, renounced: 1_000n };
  await withTransaction(world.pool, (client) =>
    answerWallets(client, [gone], { defaultBuyerPriceMicrosPerGb: PRICE }),
  );
  let answer: Download | number = 0;
  t.ok(
    await until(async () => {
      answer = await download(site, account, PASSWORD + buyerId);
      if (isDownload(answer)) answer.socket.destroy();
      return answer === 2;
    }, 15_000),
    'NO_BALANCE to new ones',
  );
  await topUp(buyerId, 1_000_000n);
  t.ok(
    await until(async () => {
      answer = await download(site, account, PASSWORD + buyerId);
      if (isDownload(answer)) answer.socket.destroy();
      return isDownload(answer);
    }, 1_000),
    'and admitted within a second of a top-up',
  );
});

t.test('a sub-user’s limit, raised while it is in use', async (t) => {
  const { buyerId } = await payer(10_000_000n);
  const account = randomBytes(6).toString('hex');
  const subUserId = randomUUID();
  const password = PASSWORD + account;
  await world.pool.query(
    `INSERT INTO sub_users (id, buyer_id, account, name, password_hash, bytes_max) VALUES ($1, $2, $3, 'one', $4, $5)`,
    [subUserId, buyerId, account, sha256(password), 3 * MiB],
  );
  await world.services.live.accountsChanged([buyerId]);
  const streams = (
    await Promise.all(Array.from({ length: 6 }, (_, n) => download(sites[n % 2] as Site, account, password)))
  ).filter(isDownload);
  t.ok(streams.length >= 2);
  t.ok(await until(() => streams.every((one) => one.ended), 20_000));
  t.ok(sum(streams) <= 3 * MiB && sum(streams) >= 2.5 * MiB, `${sum(streams)}`);
  t.ok(
    await until(async () => {
      // What a gateway's hold had left is admitted once more when it has come back.
      const rest = await download(sites[0] as Site, account, password);
      if (!isDownload(rest)) return rest === 2;
      streams.push(rest);
      await until(() => rest.ended, 20_000);
      return false;
    }, 20_000),
    'QUOTA_REACHED',
  );
  t.ok(sum(streams) <= 3 * MiB, `${sum(streams)}`);
  await world.pool.query(
    'UPDATE sub_users SET bytes_max = $2, version = version + 1, updated_at = now() WHERE id = $1',
    [subUserId, 5 * MiB],
  );
  await world.services.live.accountsChanged([buyerId]);
  let more: Download | number = 0;
  t.ok(
    await until(async () => {
      more = await download(sites[0] as Site, account, password);
      return isDownload(more);
    }, 2_000),
  );
  const next = more as unknown as Download;
  t.ok(await until(() => next.ended, 20_000));
  const all = sum(streams) + next.received;
  t.ok(all <= 5 * MiB && all >= 4.5 * MiB, `${all}`);
  const { rows } = await world.pool.query<{ ok: boolean }>(
    "SELECT bytes_max >= bytes_used + wallet_held('sub_user', id) AS ok FROM sub_users WHERE id = $1",
    [subUserId],
  );
  t.equal(rows[0]?.ok, true);
});

t.test('a pulled package is bounded across a restart of its gateway', async (t) => {
  const { buyerId, account } = await payer(10_000_000n);
  const site = await startSite(t, 'gp');
  const { sessionId, userId, again } = await share(site);
  await world.pool.query(
    "UPDATE packages SET size_bytes = $2 WHERE session_id = $1 AND status = 'available'",
    [sessionId, 4 * MiB],
  );
  const { rows } = await world.pool.query<{ id: string }>(
    "SELECT id FROM packages WHERE session_id = $1 AND status = 'available'",
    [sessionId],
  );
  const [pulled] = await allocatePackages(
    { pool: world.pool, redis: world.redis, clock: world.collaborators.clock },
    { buyerId, account },
    { countries: null, city: null, asn: null, bytesMin: null, packageId: rows[0]?.id as string },
    1,
    3_600_000,
  );
  if (!pulled) throw new Error('nothing pulled');
  t.equal(pulled.userId, userId);
  const first = await download(site, pulled.username, pulled.password);
  if (!isDownload(first)) throw new Error(`refused: ${first}`);
  t.ok(await until(() => first.received > MiB, 5_000));
  first.socket.destroy();
  await site.gateway.stop(0);
  site.gateway = await startGateway(site.config, silentLog);
  const user = await world.pool.query<{ bytes: bigint }>(
    'SELECT bytes_up + bytes_down AS bytes FROM allocations WHERE id = $1',
    [pulled.allocationId],
  );
  t.ok((user.rows[0]?.bytes ?? 0n) > BigInt(MiB), 'booked before the gateway ended');
  const { rows: sizes } = await world.pool.query<{ left: bigint; held: bigint }>(
    `SELECT size_bytes - bytes_up - bytes_down AS left, wallet_held('package', id)::bigint AS held
       FROM allocations WHERE id = $1`,
    [pulled.allocationId],
  );
  t.ok((sizes[0]?.held ?? 1n) <= (sizes[0]?.left ?? 0n));
  t.equal(await again(), sessionId);
  const second = await download(site, pulled.username, pulled.password);
  if (!isDownload(second)) throw new Error(`refused: ${second}`);
  t.ok(await until(() => second.ended, 10_000), 'cut at its size');
  const booked = async () => {
    const { rows } = await world.pool.query<{ bytes: bigint }>(
      'SELECT bytes_up + bytes_down AS bytes FROM allocations WHERE id = $1',
      [pulled.allocationId],
    );
    return Number(rows[0]?.bytes ?? 0n);
  };
  t.ok(await until(async () => (await booked()) > 4 * MiB - 64 * 1024, 5_000), 'used to the last piece');
  t.ok((await booked()) <= 4 * MiB, `${await booked()}`);
});

t.test('a gateway whose meters are not settled: its hold stays until it is back', async (t) => {
  const micros = 5_000_000n;
  const { buyerId, account } = await payer(micros);
  const site = await startSite(t, 'gk');
  await share(site);
  const stream = await download(site, account, PASSWORD + buyerId);
  if (!isDownload(stream)) throw new Error(`refused: ${stream}`);
  t.ok(await until(() => stream.received > MiB, 5_000));
  await world.services.settlement.stop();
  await delay(100);
  const before = stream.received;
  t.ok(await until(() => stream.received > before + 4 * MiB, 5_000));
  await site.gateway.stop(0);
  t.ok((await wallets(buyerId)).held !== '0.000000', 'what is spent and not booked is held');
  const { rows } = await world.pool.query(
    'SELECT 1 FROM wallet_holds WHERE owner_id = $1 AND closed_at IS NULL',
    [buyerId],
  );
  t.equal(rows.length, 1);
  await world.services.settlement.settleNow();
  site.gateway = await startGateway(site.config, silentLog);
  const settling = setInterval(() => void world.services.settlement.settleNow().catch(() => {}), 200);
  t.teardown(() => clearInterval(settling));
  t.ok(await until(async () => (await wallets(buyerId)).held === '0.000000', 10_000), 'closed');
  const state = await wallets(buyerId);
  t.equal(state.balance, state.available);
  clearInterval(settling);
  await assertLedger(t, world.pool);
});
