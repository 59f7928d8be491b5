/**
 * A record that is put back to an earlier moment while gateways have metered on: what their journals hold is booked again,
 * exactly; what nobody holds any more is known, and an operator can end it.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BackupArchive } from '../../../control-plane/backup/archive.js';
import { Backups } from '../../../control-plane/backup/backup.js';
import { FolderStorage } from '../../../control-plane/backup/folder-storage.js';
import { restoreBackup } from '../../../control-plane/backup/restore.js';
import { migrateJobQueue } from '../../../control-plane/db/job-queue.js';
import { migrate } from '../../../control-plane/db/migrate.js';
import { createPool, withTransaction } from '../../../control-plane/db/pool.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { writeOffMeters } from '../../../control-plane/settlement/write-off.js';
import { answerWallets } from '../../../control-plane/wallets/wallets.js';
import { forgetControlPlaneState } from '../../../gateway/live/forget.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { runOf } from '../../../gateway/live/records.js';
import { MeterDelivery } from '../../../gateway/metering/delivery.js';
import { redisMeterSink } from '../../../gateway/metering/redis-sink.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import {
  GATEWAY,
  folder as journalFolder,
  mustOpen,
  startMetering,
  subject,
} from '../../gateway/metering/harness.js';
import { addBuyer, addSession, addUser, startMoneyRedis } from '../../helpers/money-world.js';
import { createDatabase } from '../../helpers/services.js';
import { startSystemPostgres } from '../../helpers/system-postgres.js';
import { createWorker, fund } from '../settlement/world.js';

const MB = 1_000_000;
const PRICES = { providerPriceMicrosPerGb: '500000', buyerPriceMicrosPerGb: '1000000000' };
const { signal } = new AbortController();

t.test('gateways metered on after the backup', async (t) => {
  const postgres = await startSystemPostgres(t);
  if (postgres === null) return;
  const dumps = await mkdtemp(join(tmpdir(), 'ts-reconcile-'));
  t.teardown(() => rm(dumps, { recursive: true, force: true }));
  const { redis } = await startMoneyRedis(t);
  const poolOf = (databaseUrl: string) => {
    const pool = createPool({ databaseUrl, applicationName: 'test', statementTimeoutMs: 60_000 });
    t.teardown(() => pool.end());
    return pool;
  };
  const lostUrl = await createDatabase(postgres.url);
  await migrate(lostUrl);
  await migrateJobQueue(lostUrl);
  const lost = poolOf(lostUrl);

  // A gateway with a journal of its own, as in the product, whose wallets are granted by hand.
  const metering = await startMetering(t, join(journalFolder(t), 'meters.journal'));
  const delivery = new MeterDelivery({
    gatewayId: GATEWAY,
    registry: metering.registry,
    sink: redisMeterSink(redis),
    clock: systemClock,
    log: silentLog,
    settings: metering.settings,
  });
  t.teardown(() => delivery.stop());
  const user = await addUser(lost);
  const { sessionId } = await addSession(lost, user);
  const [early, fresh, unpaid] = [await addBuyer(lost), await addBuyer(lost), await addBuyer(lost)];
  await fund(lost, [early, fresh], 1_000_000_000n);
  const granted = (owner: string) =>
    lost.query(
      `INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted) VALUES ('buyer', $1, $2, $3, 50000000)`,
      [owner, GATEWAY, run],
    );
  const meterOf = (buyerId: string, session = sessionId) =>
    mustOpen(metering.registry, subject({ ...PRICES, buyerId, sessionId: session }));
  const settle = async (pool: typeof lost) => {
    delivery.resendAll();
    t.equal(await delivery.tick(), true);
    await createWorker(pool, redis).settleNow();
    await delivery.tick();
  };
  const meters = async (pool: typeof lost) => {
    const { rows } = await pool.query(
      `SELECT a.buyer_id, m.session_id, m.bytes_up, m.charged_micros, m.earned_micros, m.final
         FROM meters m JOIN allocations a ON a.id = m.allocation_id ORDER BY m.bytes_up`,
    );
    return rows as { buyer_id: string; bytes_up: bigint; charged_micros: bigint; final: boolean }[];
  };
  const balance = async (pool: typeof lost, buyerId: string) =>
    (
      await pool.query(
        "SELECT balance_micros FROM ledger_accounts WHERE kind = 'buyer_prepaid' AND owner_id = $1",
        [buyerId],
      )
    ).rows[0]?.balance_micros ?? 0n;

  const going = meterOf(early);
  const run = runOf((metering.registry.snapshot()[0] as { epoch: string }).epoch);
  await granted(early);
  const ended = meterOf(early);
  going.countUp(1 * MB);
  ended.countUp(2 * MB);
  await settle(lost);
  t.same(await invariants(lost), []);

  const archive = new BackupArchive(new FolderStorage(dumps), { current: null, old: [] }, silentLog);
  const tools = {
    pgDump: postgres.program('pg_dump'),
    pgRestore: postgres.program('pg_restore'),
    environment: {},
  };
  const retention = { days: 1, weeks: 0, months: 0 };
  const backups = new Backups({
    pool: lost,
    log: silentLog,
    databaseUrl: lostUrl,
    tools,
    archive,
    retention,
  });
  const { manifest } = await backups.make(signal);

  // Life goes on: more of a meter, one that ends, a buyer who comes, one whose top-up comes, and a new session.
  going.countUp(3 * MB);
  ended.countUp(10 * MB);
  metering.registry.close(ended, { allocationEnded: true });
  await granted(fresh);
  const came = meterOf(fresh);
  came.countUp(4.5 * MB);
  await fund(lost, [unpaid], 100_000_000n);
  await granted(unpaid);
  const paidLater = meterOf(unpaid);
  paidLater.countUp(6 * MB);
  const { sessionId: laterSession } = await addSession(lost, user);
  const ofLaterSession = meterOf(early, laterSession);
  ofLaterSession.countUp(7 * MB);
  await settle(lost);
  await settle(lost);
  t.same(
    (await meters(lost)).map((m) => [m.bytes_up, m.final]),
    [
      [4n * 1_000_000n, false],
      [4_500_000n, false],
      [6n * 1_000_000n, false],
      [7n * 1_000_000n, false],
      [12n * 1_000_000n, true],
    ],
  );
  t.same(await invariants(lost), []);
  t.equal(metering.registry.meterCount, 4, 'the slot of the ended one is free');
  // Counted, and not told to anybody when the database is lost.
  going.countUp(1 * MB);

  const restoredUrl = new URL('/reconciled', postgres.url).href;
  await restoreBackup(manifest, restoredUrl, 'empty', { archive, tools, signal });
  const restored = poolOf(restoredUrl);
  t.ok((await redis.hlen(liveKeys.settled(GATEWAY))) > 0, 'Redis has marks that the record knows nothing of');
  await forgetControlPlaneState(redis);
  await settle(restored);

  await t.test('what a journal holds is booked to the byte, once', async (t) => {
    const [old, ...others] = await meters(restored);
    t.match(old, { bytes_up: 2_000_000n, final: false }, 'the one whose slot was free');
    t.same(
      others.map((m) => [m.buyer_id, m.bytes_up, m.charged_micros]),
      [
        [fresh, 4_500_000n, 4_500_000n],
        [early, 5_000_000n, 5_000_000n],
        [unpaid, 6_000_000n, 6_000_000n],
      ],
    );
    await settle(restored);
    t.equal((await meters(restored)).length, 4, 'and no more of it');
    t.same(await invariants(restored), []);
    t.equal(await balance(restored, fresh), 995_500_000n);
    t.equal(
      await balance(restored, unpaid),
      -6_000_000n,
      'a top-up that is lost is owed until it is booked again',
    );
  });

  await t.test('a run that was granted more than the record knows goes on with its wallet', async (t) => {
    const { rows } = await restored.query(
      'SELECT owner_id, granted, spent FROM wallet_holds WHERE owner_id = ANY ($1) ORDER BY spent',
      [[early, fresh]],
    );
    t.same(rows, [
      { owner_id: fresh, granted: 0n, spent: 4_500_000n },
      { owner_id: early, granted: 50_000_000n, spent: 7_000_000n },
    ]);
    const question = {
      gatewayId: GATEWAY,
      run,
      owner: { kind: 'buyer' as const, ownerId: fresh },
      wantGranted: 60_000_000n,
      renounced: 0n,
      withdrawn: 0n,
      finished: false,
      again: false,
    };
    const [reply] = await withTransaction(restored, (client) =>
      answerWallets(client, [question], { defaultBuyerPriceMicrosPerGb: 1n }),
    );
    t.match(reply, { state: 'open', granted: 60_000_000n });
    t.same(await invariants(restored), []);
  });

  await t.test(
    'what the record never heard of waits in the journal; what nobody holds is written off',
    async (t) => {
      const left = metering.registry.snapshot().filter((report) => report.sessionId === laterSession);
      t.equal(left.length, 1, 'traffic of a session that began after the backup stays where it is');
      const worker = createWorker(restored, redis);
      await worker.settleNow();
      t.equal(worker.counts.setAside.unknown_session, 1, 'and an alarm counts it');

      for (const binding of [going, came, paidLater])
        metering.registry.close(binding, { allocationEnded: true });
      await settle(restored);
      await settle(restored);
      const open = (await meters(restored)).filter((m) => !m.final);
      t.match(open, [{ bytes_up: 2_000_000n }]);
      const admin = await addUser(restored);
      await withTransaction(restored, (client) =>
        writeOffMeters(client, { gatewayId: GATEWAY, run }, admin, 'its FINAL was booked after the backup'),
      );
      t.same(await invariants(restored), []);
      const { rows } = await restored.query(
        'SELECT count(*)::int AS n FROM wallet_holds WHERE closed_at IS NULL',
      );
      t.same(rows, [{ n: 0 }], 'nothing is held of anybody any more');
    },
  );
});
