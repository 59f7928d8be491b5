import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import t from 'tap';
import { withTransaction } from '../../../control-plane/db/pool.js';
import { post, readBalances } from '../../../control-plane/ledger/ledger.js';
import { bookMeters } from '../../../control-plane/settlement/book.js';
import { readReport } from '../../../control-plane/settlement/reports.js';
import { readHeld } from '../../../control-plane/wallets/held.js';
import { rebuildWallets, WalletKeeper } from '../../../control-plane/wallets/keeper.js';
import {
  answerWallets,
  closeHoldsOfRun,
  type WalletQuestion,
} from '../../../control-plane/wallets/wallets.js';
import { connectLive } from '../../../gateway/live/connection.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { writeGatewayPresence } from '../../../gateway/live/presence.js';
import { meterKey, runOf, type WalletOwner, walletField } from '../../../gateway/live/records.js';
import { askWallets, readWallets, ringWalletBell } from '../../../gateway/live/wallets.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import {
  addBuyer,
  addSession,
  addUser,
  startMoneyDatabase,
  startMoneyRedis,
  TestMeter,
} from '../../helpers/money-world.js';

const USD = 1_000_000n;
const newRun = () => randomBytes(12).toString('hex');
const PRICE = { defaultBuyerPriceMicrosPerGb: 2_000_000n };

async function fund(pool: pg.Pool, buyerId: string, amountMicros: bigint): Promise<void> {
  await withTransaction(pool, (client) =>
    post(client, [
      {
        kind: 'admin_adjustment',
        sourceId: randomUUID(),
        entries: [
          {
            account: { kind: 'buyer_prepaid', ownerId: buyerId },
            entryKind: 'admin_adjustment',
            amountMicros,
          },
          {
            account: { kind: 'platform_funding', ownerId: null },
            entryKind: 'admin_adjustment',
            amountMicros: -amountMicros,
          },
        ],
      },
    ]),
  );
}

function question(owner: WalletOwner, more: Partial<WalletQuestion> = {}): WalletQuestion {
  return {
    owner,
    gatewayId: 'gw',
    run: newRun(),
    wantGranted: 0n,
    renounced: 0n,
    withdrawn: 0n,
    finished: false,
    again: false,
    ...more,
  };
}

const answer = (pool: pg.Pool, questions: WalletQuestion[]) =>
  withTransaction(pool, (client) => answerWallets(client, questions, PRICE));

async function heldOf(pool: pg.Pool, owner: WalletOwner): Promise<bigint> {
  return (await readHeld(pool, owner.kind, [owner.ownerId])).get(owner.ownerId) ?? 0n;
}

t.test('answers in Postgres', async (t) => {
  const pool = await startMoneyDatabase(t);

  t.test('a buyer’s money: granted, held, given back, granted to another', async (t) => {
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 10n * USD);
    const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
    const one = question(owner, { wantGranted: 4n * USD });
    const other = question(owner, { wantGranted: 8n * USD, gatewayId: 'gw2' });
    t.match(await answer(pool, [one]), [{ granted: 4n * USD, state: 'open', answered: 4n * USD }]);
    t.match(await answer(pool, [one]), [{ granted: 4n * USD }], 'asking again gives nothing more');
    t.match(await answer(pool, [other]), [{ granted: 3n * USD, state: 'open' }], 'half of what is left');
    t.match(await answer(pool, [{ ...other, wantGranted: 9n * USD }]), [
      { granted: 4_500_000n, state: 'open' },
    ]);
    t.equal(await heldOf(pool, owner), 8_500_000n);
    t.match(await answer(pool, [{ ...one, renounced: 4n * USD }]), [{ gaveBack: true }]);
    t.equal(await heldOf(pool, owner), 4_500_000n);
    t.match(await answer(pool, [{ ...other, wantGranted: 7n * USD, again: true }]), [{ granted: 7n * USD }]);
    t.match(
      await answer(pool, [{ ...one, wantGranted: 1n, renounced: 1n }]),
      [{ granted: 4n * USD }],
      'late',
    );
    t.equal(await heldOf(pool, owner), 7n * USD, 'a late ask takes nothing back');
    t.match(await answer(pool, [question(owner, { wantGranted: 100n * USD })]), [
      { granted: 1_500_000n, state: 'open' },
    ]);
    t.match(
      await answer(pool, [question({ kind: 'buyer', ownerId: randomUUID() }, { wantGranted: 5n })]),
      [{ granted: 0n, state: 'exhausted', closed: false }],
      'nobody',
    );
  });

  t.test('the last micro-dollar can be had, and then it is told whether to wait', async (t) => {
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 3n);
    const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
    const one = question(owner, { wantGranted: 1_000n });
    t.match(await answer(pool, [one]), [{ granted: 3n, state: 'exhausted' }]);
    const other = question(owner, { wantGranted: 1_000n, gatewayId: 'gw2' });
    t.match(await answer(pool, [other]), [{ granted: 0n, state: 'wait' }]);
    t.equal(
      (
        await pool.query('SELECT 1 FROM wallet_holds WHERE gateway_id = $1 AND owner_id = $2', [
          'gw2',
          buyerId,
        ])
      ).rowCount,
      0,
    );
    t.match(await answer(pool, [{ ...one, renounced: 3n, withdrawn: 1_000n }, other]), [
      { granted: 3n },
      { granted: 3n, state: 'exhausted' },
    ]);
  });

  t.test('the size of a pulled package and the limit of a sub-user', async (t) => {
    const buyerId = await addBuyer(pool);
    const user = await addUser(pool);
    const packageId = randomUUID();
    const allocationId = randomUUID();
    await pool.query(
      `INSERT INTO packages (id, user_id, exit_ip, size_bytes, origin, status) VALUES ($1, $2, '198.51.100.7', 1000, 'ingest', 'allocated')`,
      [packageId, user],
    );
    await pool.query(
      `INSERT INTO allocations (id, package_id, buyer_id, via, status, size_bytes, bytes_up, bytes_down)
       VALUES ($1, $2, $3, 'pull', 'in_progress', 1000, 100, 50)`,
      [allocationId, packageId, buyerId],
    );
    const pack: WalletOwner = { kind: 'package', ownerId: allocationId };
    t.match(await answer(pool, [question(pack, { wantGranted: 5_000n })]), [
      { granted: 850n, state: 'exhausted' },
    ]);
    t.match(await answer(pool, [question(pack, { wantGranted: 5_000n })]), [{ granted: 0n, state: 'wait' }]);

    const subUserId = randomUUID();
    await pool.query(
      `INSERT INTO sub_users (id, buyer_id, account, name, password_hash, bytes_max, bytes_used)
       VALUES ($1, $2, $3, 'one', $4, 500, 100)`,
      [subUserId, buyerId, randomBytes(6).toString('hex'), randomBytes(32)],
    );
    const sub: WalletOwner = { kind: 'sub_user', ownerId: subUserId };
    const ask = question(sub, { wantGranted: 5_000n });
    t.match(await answer(pool, [ask]), [{ granted: 400n, state: 'exhausted' }]);
    await pool.query('UPDATE sub_users SET bytes_max = 600 WHERE id = $1', [subUserId]);
    t.match(await answer(pool, [ask]), [{ granted: 400n, state: 'open' }], 'one answer, but there is more');
    t.match(await answer(pool, [{ ...ask, again: true }]), [{ granted: 500n, state: 'exhausted' }]);
    await pool.query('UPDATE sub_users SET bytes_max = 10 WHERE id = $1', [subUserId]);
    t.match(
      await answer(pool, [{ ...ask, wantGranted: 6_000n }]),
      [{ granted: 500n }],
      'below what is held: nothing',
    );
    await pool.query('UPDATE sub_users SET bytes_max = NULL WHERE id = $1', [subUserId]);
    t.match(await answer(pool, [{ ...ask, wantGranted: 6_001n }]), [{ granted: 6_001n, state: 'open' }]);
  });

  t.test('a hold is closed when its run is over and each of its meters FINAL or written off', async (t) => {
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 10n * USD);
    const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
    const session = await addSession(pool, await addUser(pool));
    const meter = new TestMeter('gw', session.sessionId, buyerId).count(400_000_000, 600_000_000);
    const run = runOf(meter.epoch);
    const ask = question(owner, { run, wantGranted: 5n * USD });
    await answer(pool, [ask]);
    const settle = (end: { final?: boolean } = {}) =>
      withTransaction(pool, async (client) => {
        const report = meter.report(end);
        const read = readReport(meterKey(report), JSON.stringify(report), Date.now());
        if (!read.ok) throw new Error(read.reason);
        return bookMeters(client, 'gw', [read.claim], { referralPercent: 10, offerBytes: 10 ** 9 });
      });
    await settle();
    t.equal(await heldOf(pool, owner), 3n * USD, 'spent lowers what is held');
    const finished = { ...ask, finished: true };
    t.match(await answer(pool, [finished]), [{ closed: false }], 'a meter of it is open');
    t.equal(await heldOf(pool, owner), 3n * USD);
    await settle({ final: true });
    t.match(await answer(pool, [finished]), [{ closed: true, gaveBack: true }]);
    t.equal(await heldOf(pool, owner), 0n);
    t.match(await answer(pool, [{ ...ask, wantGranted: 6n * USD }]), [{ closed: true }], 'for ever');
    t.match(await answer(pool, [question(owner, { finished: true })]), [{ closed: true }], 'never was');

    const lost = new TestMeter('lost', session.sessionId, buyerId);
    await answer(pool, [question(owner, { gatewayId: 'lost', run: runOf(lost.epoch), wantGranted: USD })]);
    const { rows } = await pool.query<{ allocation_id: string }>('SELECT allocation_id FROM meters LIMIT 1');
    await pool.query(
      `INSERT INTO meters (session_id, allocation_id, gateway_id, epoch, provider_price_micros_per_gb,
                           buyer_price_micros_per_gb, opened_at) VALUES ($1, $2, 'lost', $3, 1, 1, now())`,
      [session.sessionId, rows[0]?.allocation_id, lost.epoch],
    );
    t.equal(await closeHoldsOfRun(pool, 'lost', runOf(lost.epoch)), 0);
    await pool.query("UPDATE meters SET written_off_at = now() WHERE gateway_id = 'lost'");
    t.equal(await closeHoldsOfRun(pool, 'lost', runOf(lost.epoch)), 1);
  });

  t.test('the database refuses what would hold more than there is', async (t) => {
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 10n * USD);
    const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
    const ask = question(owner, { wantGranted: 4n * USD });
    await answer(pool, [ask]);
    const held = { code: '23514', constraint: 'held_within_balance' };
    await t.rejects(
      pool.query('UPDATE wallet_holds SET granted = 10000001 WHERE owner_id = $1', [buyerId]),
      held,
    );
    await t.rejects(
      pool.query(
        "INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted) VALUES ('buyer', $1, 'x', $2, 6000001)",
        [buyerId, newRun()],
      ),
      held,
    );
    await t.rejects(
      pool.query(
        "INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted) VALUES ('buyer', $1, 'x', $2, 1)",
        [randomUUID(), newRun()],
      ),
      held,
      'of nobody’s money',
    );
    await t.rejects(fund(pool, buyerId, -6_000_001n), { code: '23514', constraint: 'held_by_traffic' });
    await t.resolves(fund(pool, buyerId, -6n * USD));
    t.match(await answer(pool, [{ ...ask, wantGranted: 5n * USD }]), [{ granted: 4n * USD }]);
  });

  t.test(
    'grants, settlement and top-ups at once, from many sides: balance ≥ held at every moment',
    async (t) => {
      const buyerId = await addBuyer(pool);
      await fund(pool, buyerId, 2n * USD);
      const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
      const session = await addSession(pool, await addUser(pool));
      const runs = Array.from({ length: 4 }, (_, i) => {
        const meter = new TestMeter(`gw${i}`, session.sessionId, buyerId, randomUUID(), {
          provider: '500000',
          buyer: '2000000',
        });
        return { meter, ask: question(owner, { gatewayId: `gw${i}`, run: runOf(meter.epoch) }) };
      });
      let stop = false;
      let samples = 0;
      let worst = 0n;
      const sampler = (async () => {
        while (!stop) {
          const { rows } = await pool.query<{ gap: bigint }>(
            "SELECT (balance_micros - wallet_held('buyer', owner_id))::bigint AS gap FROM ledger_accounts WHERE owner_id = $1",
            [buyerId],
          );
          samples++;
          if ((rows[0]?.gap ?? 0n) < worst) worst = rows[0]?.gap ?? 0n;
        }
      })();
      await Promise.all(
        runs.map(async ({ meter, ask }, n) => {
          let granted = 0n;
          for (let i = 0; i < 25; i++) {
            ask.wantGranted = granted + 200_000n;
            // Two control planes answer the same ask at once.
            const [a, b] = await Promise.all([answer(pool, [{ ...ask }]), answer(pool, [{ ...ask }])]);
            granted = [a[0]?.granted ?? 0n, b[0]?.granted ?? 0n].reduce((x, y) => (x > y ? x : y));
            const bytes = Number(((granted - ask.renounced) * 1_000_000_000n) / 2_000_000n);
            meter.bytesDown = Math.max(meter.bytesDown, Math.floor(bytes * 0.9));
            const report = meter.report();
            const read = readReport(meterKey(report), JSON.stringify(report), Date.now());
            if (!read.ok) throw new Error(read.reason);
            await withTransaction(pool, (client) =>
              bookMeters(client, ask.gatewayId, [read.claim], { referralPercent: 10, offerBytes: 10 ** 9 }),
            );
            if (n === 0 && i % 5 === 0) await fund(pool, buyerId, 100_000n);
          }
        }),
      );
      stop = true;
      await sampler;
      t.ok(samples > 20, `${samples} samples`);
      t.equal(worst, 0n);
    },
  );
});

t.test('the keeper', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { redis, url } = await startMoneyRedis(t);
  const keeper = (sweepMs: number) => {
    const made = new WalletKeeper({
      pool,
      redis,
      openBell: () => connectLive({ url, log: silentLog }),
      log: silentLog,
      defaultBuyerPriceMicrosPerGb: () => 2_000_000n,
      sweepMs,
    });
    return made;
  };
  const present = (gatewayId: string, run: string) =>
    writeGatewayPresence(redis, {
      gatewayId,
      epoch: `${run}00000000`,
      version: '1',
      startedAtMs: 0,
      tunnels: 0,
      streams: 0,
      draining: false,
    });
  const ask = async (
    gatewayId: string,
    field: string,
    want: bigint,
    more: { renounced?: bigint; finished?: boolean; ring?: boolean } = {},
  ) => {
    const { renounced = 0n, finished = false, ring = true } = more;
    await askWallets(redis, gatewayId, [
      { field, wantGranted: want.toString(), renounced: renounced.toString(), finished },
    ]);
    if (ring) await ringWalletBell(redis, gatewayId, [field]);
  };
  const shown = async (gatewayId: string, field: string) =>
    (await readWallets(redis, gatewayId, [field]))[0] ?? null;
  const until = async (what: () => Promise<boolean>) => {
    for (let i = 0; i < 400; i++) {
      if (await what()) return true;
      await delay(10);
    }
    return false;
  };

  t.test('two keepers answer the bell; nothing is granted twice', async (t) => {
    const keepers = [keeper(600_000), keeper(600_000)];
    for (const one of keepers) {
      t.teardown(() => one.stop());
      one.start();
    }
    await delay(100); // both have found their place in the stream
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 10n * USD);
    const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
    const [a, b] = [walletField(newRun(), owner), walletField(newRun(), owner)];
    await Promise.all([ask('ga', a, 3n * USD), ask('gb', b, 3n * USD)]);
    t.ok(await until(async () => (await shown('ga', a))?.answered === String(3n * USD)));
    t.ok(await until(async () => (await shown('gb', b))?.answered === String(3n * USD)));
    t.equal(await heldOf(pool, owner), 6n * USD);
    await ask('gb', b, 20n * USD);
    t.ok(await until(async () => (await shown('gb', b))?.granted === String(5n * USD)));

    await ask('ga', a, 3n * USD, { renounced: 2n * USD });
    t.ok(await until(async () => (await heldOf(pool, owner)) === 6n * USD), 'given back');
    await ask('ga', a, 3n * USD, { renounced: 2n * USD, finished: true });
    t.ok(await until(async () => (await shown('ga', a)) === null), 'closed, and gone from Redis');
    t.equal(await redis.hexists(liveKeys.walletAsks('ga'), a), 0);
  });

  t.test('a bell whose ids start lower than they were is heard again', async (t) => {
    const one = keeper(600_000);
    await redis.xadd(liveKeys.walletBell(), '9999999999999-0', 'g', 'nobody', 'w', 'nothing');
    t.teardown(() => one.stop());
    one.start();
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 10n * USD);
    const field = walletField(newRun(), { kind: 'buyer', ownerId: buyerId });
    const ringing = connectLive({ url, log: silentLog });
    t.teardown(() => ringing.disconnect());
    // It has found its place when it waits behind the ring from the future.
    t.ok(await until(async () => /cmd=xread /.test(String(await ringing.client('LIST')))));
    await redis.del(liveKeys.walletBell());
    await ask('gc', field, 3n * USD);
    t.ok(await until(async () => (await shown('gc', field))?.answered === String(3n * USD)));
  });

  t.test('what the bell missed is found by the sweep; who waits gets what came back', async (t) => {
    const one = keeper(600_000);
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 4n * USD);
    const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
    const [runA, runB, dead] = [newRun(), newRun(), newRun()];
    const [a, b, c] = [walletField(runA, owner), walletField(runB, owner), walletField(dead, owner)];
    await present('ga', runA);
    await present('gb', runB);
    await ask('ga', a, 2n * USD, { ring: false });
    await one.sweep();
    t.match(await shown('ga', a), { granted: String(2n * USD), state: 'open' });
    await ask('ga', a, 2n * USD, { renounced: 2n * USD, ring: false });
    // Gateways are swept in no order: what comes back must be there before it is asked for.
    await one.sweep();
    await ask('gb', b, 4n * USD, { ring: false });
    await ask('gb', c, 4n * USD, { ring: false });
    await one.sweep();
    t.match(await shown('gb', b), { granted: String(2n * USD) });
    t.equal(await shown('gb', c), null, 'nothing is granted to a run that is not there');
    for (let i = 0; i < 30; i++) {
      await ask('gb', b, 4n * USD + BigInt(i), { ring: false });
      await one.sweep();
    }
    t.match(await shown('gb', b), { granted: String(4n * USD), state: 'exhausted' });
    await fund(pool, buyerId, 10n);
    await one.sweep();
    t.match(
      await shown('gb', b),
      { granted: String(4n * USD + 10n), state: 'exhausted' },
      'a top-up is answered',
    );
  });

  t.test('a run is not finished while meters of it that its journal lost wait in Redis', async (t) => {
    const one = keeper(600_000);
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 6n * USD);
    const owner: WalletOwner = { kind: 'buyer', ownerId: buyerId };
    const session = await addSession(pool, await addUser(pool));
    const meter = new TestMeter('gd', session.sessionId, buyerId).count(0, 10 ** 9);
    const field = walletField(runOf(meter.epoch), owner);
    await present('gd', runOf(meter.epoch));
    await ask('gd', field, 3n * USD, { ring: false });
    await one.sweep();
    t.equal(await heldOf(pool, owner), 3n * USD);
    await reportMeters(redis, 'gd', [meter.report()]);
    await ask('gd', field, 3n * USD, { renounced: 500_000n, finished: true, ring: false });
    await one.sweep();
    t.equal(await heldOf(pool, owner), 2_500_000n, 'what is given back is taken, the rest stays held');
    await withTransaction(pool, async (client) => {
      const report = meter.report({ final: true });
      const read = readReport(meterKey(report), JSON.stringify(report), Date.now());
      if (!read.ok) throw new Error(read.reason);
      return bookMeters(client, 'gd', [read.claim], { referralPercent: 10, offerBytes: 10 ** 9 });
    });
    await one.sweep();
    t.equal(await heldOf(pool, owner), 0n, 'booked, though still dirty: it is closed');
    t.equal((await readBalances(pool, 'buyer_prepaid', [buyerId])).get(buyerId)?.balanceMicros, 4n * USD);
  });

  t.test('Redis is emptied: everything is shown again, old runs included', async (t) => {
    const one = keeper(600_000);
    const buyerId = await addBuyer(pool);
    await fund(pool, buyerId, 4n * USD);
    const field = walletField(newRun(), { kind: 'buyer', ownerId: buyerId });
    await present('gc', field.slice(0, 24));
    await ask('gc', field, USD, { ring: false });
    await one.sweep();
    await redis.flushall();
    await rebuildWallets(pool, redis);
    t.match(await shown('gc', field), { granted: String(USD) });
    await redis.flushall();
    await one.sweep();
    t.match(await shown('gc', field), { granted: String(USD) }, 'the sweep heals it as well');
    await redis.hset(liveKeys.wallets('gc'), field, '{"granted":"5","answered":"5","state":"open"}');
    await one.sweep();
    t.match(await shown('gc', field), { granted: String(USD) }, 'and one that was rolled back');
  });
});
