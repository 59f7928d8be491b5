import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import t from 'tap';
import { recordAudit } from '../../../control-plane/audit/audit.js';
import {
  AuditChainer,
  extendChain,
  formatHead,
  linkHash,
  parseHead,
} from '../../../control-plane/audit/chain.js';
import { verifyAudit } from '../../../control-plane/audit/verify.js';
import { createPool, withTransaction } from '../../../control-plane/db/pool.js';
import { type Log, silentLog } from '../../../gateway/runtime/logging.js';
import { startMigratedPostgres } from '../../helpers/services.js';

t.test('the hash of a row', (t) => {
  const row = {
    id: 7n,
    at_us: 1_790_000_000_000_001n,
    actor_role: 'admin',
    actor_id: 'a',
    action: 'x',
    object_type: 'y',
    object_id: null,
    before: null,
    after: '{"a": 1}',
    ip: '203.0.113.1',
    request_id: 'r',
  };
  const previous = Buffer.alloc(32);
  const text = '["7","1790000000000001","admin","a","x","y",null,null,"{\\"a\\": 1}","203.0.113.1","r"]';
  t.equal(
    linkHash(previous, row).toString('hex'),
    createHash('sha256')
      .update(Buffer.concat([previous, Buffer.from(text)]))
      .digest('hex'),
    'as it is documented, for those who prove a copy',
  );
  const others = [
    { id: 8n },
    { at_us: 1n },
    { actor_id: null },
    { object_id: '' },
    { before: 'null' },
    { ip: null },
  ];
  for (const other of others)
    t.notSame(
      linkHash(previous, { ...row, ...other }),
      linkHash(previous, row),
      JSON.stringify(Object.keys(other)),
    );
  t.notSame(linkHash(Buffer.alloc(32, 1), row), linkHash(previous, row));
  const head = { seq: 12n, hash: linkHash(previous, row) };
  t.same(parseHead(formatHead(head)), head);
  for (const wrong of ['', '12', '12:ab', `x:${'0'.repeat(64)}`]) t.equal(parseHead(wrong), null);
  t.end();
});

t.test('chain and proof', async (t) => {
  const postgres = await startMigratedPostgres();
  t.teardown(() => postgres.stop());
  const pool = createPool({ databaseUrl: postgres.url, applicationName: 'test' });
  t.teardown(() => pool.end());
  const write = (client: Pick<typeof pool, 'query'>, n: number) =>
    recordAudit(client as never, {
      actor: { role: 'system' },
      action: 'tested',
      objectType: 'thing',
      objectId: String(n),
      before: { n, text: 'ü\n"' },
      after: [1.5, null],
      ip: '203.0.113.9',
    });
  for (let n = 0; n < 20; n++) await write(pool, n);

  await t.test('rows wait for their links, and a writer never for the chain', async (t) => {
    t.match(await verifyAudit(pool, null), { ok: true, links: 0, waiting: 20 });
    const late = await pool.connect();
    await late.query('BEGIN');
    await write(late, 100); // takes its id now, and commits after others that come later
    await write(pool, 20);
    t.match(await extendChain(pool), { linked: 21 });
    await late.query('COMMIT');
    late.release();
    t.match(await extendChain(pool), { linked: 1, head: { seq: 22n } });
    const steps: number[] = [];
    t.match(await verifyAudit(pool, null, (done) => steps.push(done)), { ok: true, links: 22, waiting: 0 });
    t.same(steps, [22]);
  });

  await t.test('several at once make one chain', async (t) => {
    await Promise.all(
      [0, 1, 2, 3].map(async (writer) => {
        for (let n = 0; n < 50; n++)
          await Promise.all([
            withTransaction(pool, (client) => write(client, writer * 1000 + n)),
            extendChain(pool),
          ]);
      }),
    );
    while ((await extendChain(pool)) === null);
    t.match(await verifyAudit(pool, null), { ok: true, links: 222, waiting: 0 });
  });

  await t.test('every second, with the head in the log', async (t) => {
    const heads: unknown[] = [];
    const told = new Promise<void>((resolve) => {
      const log: Log = {
        ...silentLog,
        info: (fields, event) => {
          heads.push({ event, ...fields });
          resolve();
        },
      };
      const chainer = new AuditChainer({ pool, log, intervalMs: 10 });
      t.teardown(() => chainer.stop());
      chainer.start();
    });
    await write(pool, 9);
    await told;
    const { head } = await verifyAudit(pool, null);
    t.same(heads, [{ event: 'audit_chained', linked: 1, head }]);
  });

  await t.test('the database refuses changes', async (t) => {
    for (const sql of [
      `UPDATE audit_log SET action = 'x' WHERE id = 1`,
      'DELETE FROM audit_log WHERE id = 1',
      'TRUNCATE audit_log CASCADE',
      `UPDATE audit_chain SET hash = hash WHERE seq = 1`,
      'DELETE FROM audit_chain WHERE seq = 1',
      'UPDATE audit_head SET seq = seq - 1',
      'UPDATE audit_head SET seq = seq',
      'DELETE FROM audit_head',
      'TRUNCATE audit_head',
    ])
      await t.rejects(pool.query(sql), { code: '23001' }, sql);
  });

  const { head: anchor } = await verifyAudit(pool, null);
  const verifyCli = (...args: string[]) =>
    promisify(execFile)(process.execPath, ['dist/deploy/cli.js', 'audit', 'verify', ...args], {
      env: { ...process.env, TS_DATABASE_URL: postgres.url },
    }).then(
      ({ stdout }) => ({ code: 0, stdout }),
      (error: { code: number; stdout: string }) => ({ code: error.code, stdout: error.stdout }),
    );

  /** What somebody does who may do everything in the database; undone after the look. */
  const tampered = async (look: () => Promise<void>, ...statements: string[]) => {
    await pool.query(`CREATE TABLE kept_log AS TABLE audit_log; CREATE TABLE kept_chain AS TABLE audit_chain;
                      CREATE TABLE kept_head AS TABLE audit_head`);
    const client = await pool.connect();
    try {
      await client.query(`SET session_replication_role = replica`); // no triggers
      for (const sql of statements) await client.query(sql);
      await look();
      await client.query(`DELETE FROM audit_chain; DELETE FROM audit_log; DELETE FROM audit_head; DELETE FROM audit_unchained;
        INSERT INTO audit_log OVERRIDING SYSTEM VALUE SELECT * FROM kept_log; INSERT INTO audit_chain SELECT * FROM kept_chain;
        INSERT INTO audit_head SELECT * FROM kept_head; DROP TABLE kept_log, kept_chain, kept_head`);
      await client.query(`SET session_replication_role = origin`);
    } finally {
      client.release();
    }
  };
  const finds = (code: string, faults: number, ...statements: string[]) =>
    tampered(
      async () => {
        const report = await verifyAudit(pool, parseHead(anchor));
        t.equal(report.ok, false, statements.join('; '));
        t.match(report.faults[0], { code }, JSON.stringify(report.faults));
        t.equal(report.faults.length, faults, JSON.stringify(report.faults));
      },
      ...statements,
    );
  const fifth = '(SELECT audit_id FROM audit_chain WHERE seq = 5)';

  for (const change of [
    `action = 'other'`,
    `at = at + interval '1 microsecond'`,
    `actor_id = 'me'`,
    `actor_role = 'admin'`,
    `object_type = 'o'`,
    `object_id = NULL`,
    `before = NULL`,
    `after = '[1.5]'`,
    `ip = '203.0.113.8'`,
    `request_id = 'x'`,
  ])
    await finds('row_changed', 1, `UPDATE audit_log SET ${change} WHERE id = ${fifth}`);
  await finds('row_missing', 1, `DELETE FROM audit_log WHERE id = ${fifth}`);
  await finds(
    'link_missing',
    1,
    `DELETE FROM audit_log WHERE id = ${fifth}`,
    'DELETE FROM audit_chain WHERE seq = 5',
  );
  await finds(
    'row_unlinked',
    1,
    `INSERT INTO audit_log (actor_role, action, object_type) VALUES ('admin', 'a', 'b')`,
  );
  await finds(
    'link_missing',
    2,
    'DELETE FROM audit_chain WHERE seq = 5', // its row is unlinked as well
  );
  const { rows: last } = await pool.query<{ seq: bigint; audit_id: bigint }>(
    'SELECT seq, audit_id FROM audit_chain ORDER BY seq DESC LIMIT 1',
  );
  const { seq = 0n, audit_id: lastId } = last[0] ?? {};
  const cutOff = [
    `DELETE FROM audit_log WHERE id = ${lastId}`,
    `DELETE FROM audit_chain WHERE seq = ${seq}`,
  ] as const;
  await finds('head_differs', 2, ...cutOff);
  const rewindHead = `UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit_chain ORDER BY seq DESC LIMIT 1)`;
  await finds('anchor_ahead', 1, ...cutOff, rewindHead);
  await tampered(
    async () => {
      t.match(
        await verifyAudit(pool, null),
        { ok: true },
        'the last rows are safe as far as a head is kept elsewhere',
      );
      // A log that was made anew from the first row: right in itself, and another than the anchor's.
      while (((await extendChain(pool))?.linked ?? 1) > 0);
      t.match(await verifyAudit(pool, null), { ok: true });
      t.match(await verifyAudit(pool, parseHead(anchor)), {
        ok: false,
        faults: [{ code: 'anchor_differs' }],
      });
    },
    `UPDATE audit_log SET action = 'harmless' WHERE id = ${fifth}`,
    'DELETE FROM audit_chain',
    `UPDATE audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')`,
    'INSERT INTO audit_unchained SELECT id FROM audit_log',
  );
  t.match(await verifyAudit(pool, parseHead(anchor)), { ok: true }, 'all as before');

  await t.test('the command', async (t) => {
    const good = await verifyCli('--json', '--anchor', anchor);
    t.equal(good.code, 0);
    t.match(JSON.parse(good.stdout), { ok: true, links: 223, head: anchor, faults: [] });
    t.match(await verifyCli('--anchor', 'nonsense'), { code: 1 });
    await tampered(async () => {
      const bad = await verifyCli();
      t.equal(bad.code, 1);
      t.match(bad.stdout, /FAULT row_changed: row \d+ is not the one of link 5/);
    }, `UPDATE audit_log SET action = 'other' WHERE id = ${fifth}`);
  });
});
