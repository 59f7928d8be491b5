import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { createPool, withTransaction } from '../../control-plane/db/pool.js';
import { post } from '../../control-plane/ledger/ledger.js';
import { Progress } from '../../deploy/commands/progress.js';
import { copyOffset } from '../../gateway/metering/journal-format.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { folder, GATEWAY, mustOpen, startMetering, subject } from '../gateway/metering/harness.js';
import { startCli } from '../helpers/cli-process.js';
import { addBuyer, addSession, addUser } from '../helpers/money-world.js';
import { startMigratedPostgres } from '../helpers/services.js';

const run = promisify(execFile);

const inOneProcess = startCli(t);
/** The command: how it ended and what it said. */
const cli = (words: string[], env: Record<string, string> = {}) => inOneProcess(words, env);

/** The same as an operator types it, a process of its own. */
async function cliProcess(words: string[], env: Record<string, string> = {}) {
  const args = [projectPath('dist/deploy/cli.js'), ...words];
  return run(process.execPath, args, { env: { PATH: process.env.PATH ?? '', ...env } }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

t.test('help', async (t) => {
  t.match((await cli(['--help'])).stdout, /ledger[\s\S]*journal/);
  t.match((await cli(['ledger', '--help'])).stdout, /verify .*prove/);
  t.match(await cli(['ledger', 'verify', '--help']), { code: 0, stdout: /--json/ });
  t.match(await cli(['journal', 'inspect', '--help']), { code: 0, stdout: /<path>[\s\S]*--json/ });
  t.match(await cli(['journal', 'inspect']), { code: 1, stderr: /missing required argument 'path'/ });
  t.match(await cli(['ledger', 'verify']), { code: 1, stderr: /TS_DATABASE_URL is required/ });
});

t.test('ledger verify', async (t) => {
  const server = await startMigratedPostgres();
  t.teardown(() => server.stop());
  const pool = createPool({ databaseUrl: server.url, applicationName: 'test' });
  t.teardown(() => pool.end());
  const env = { TS_DATABASE_URL: server.url };
  const verify = (...options: string[]) => cli(['ledger', 'verify', ...options], env);

  const owners = await Promise.all(Array.from({ length: 3 }, () => addBuyer(pool)));
  await withTransaction(pool, (client) =>
    post(
      client,
      owners.map((ownerId) => ({
        kind: 'admin_adjustment',
        sourceId: randomUUID(),
        entries: [
          { account: { kind: 'buyer_prepaid', ownerId }, entryKind: 'topup', amountMicros: 5_000_000n },
          {
            account: { kind: 'platform_funding', ownerId: null },
            entryKind: 'topup',
            amountMicros: -5_000_000n,
          },
        ],
      })),
    ),
  );

  await t.test('everything adds up', async (t) => {
    const ran = await cliProcess(['ledger', 'verify'], env);
    t.match(ran, { code: 0, stdout: '4 accounts, 3 transactions, 6 entries: everything adds up\n' });
    t.match(ran.stderr, /^4 of 4 accounts proven\n$/m, 'plain lines when nobody watches');
    const json = await verify('--json');
    t.same(JSON.parse(json.stdout), {
      ok: true,
      accounts: 4,
      transactions: 3,
      entries: 6,
      faults: [],
      books: [],
    });
  });

  await t.test('faults are named, and end it with 1', async (t) => {
    // Nobody but a superuser can do this: the database's guards are switched off.
    await pool.query('ALTER TABLE ledger_accounts DISABLE TRIGGER USER');
    await pool.query('UPDATE ledger_accounts SET balance_micros = balance_micros + 1 WHERE owner_id = $1', [
      owners[0],
    ]);
    await pool.query('ALTER TABLE ledger_accounts ENABLE TRIGGER USER');
    const ran = await verify();
    t.equal(ran.code, 1);
    t.match(
      ran.stdout,
      /^FAULT balance_differs: account \d+ \(buyer_prepaid\) holds 5000001, .* sum to 5000000$/m,
    );
    t.match(ran.stdout, /: 1 fault$/m);
    const json = await verify('--json');
    t.equal(json.code, 1);
    t.match(JSON.parse(json.stdout), { ok: false, faults: [{ code: 'balance_differs' }], books: [] });
    await pool.query('ALTER TABLE ledger_accounts DISABLE TRIGGER USER');
    await pool.query('UPDATE ledger_accounts SET balance_micros = balance_micros - 1 WHERE owner_id = $1', [
      owners[0],
    ]);
    await pool.query('ALTER TABLE ledger_accounts ENABLE TRIGGER USER');
  });

  await t.test('books that differ from a sound ledger are faults, too', async (t) => {
    const { sessionId } = await addSession(pool, await addUser(pool));
    await pool.query('UPDATE traffic_sessions SET bytes_down = 7 WHERE id = $1', [sessionId]);
    const ran = await verify();
    t.match(ran, { code: 1, stdout: /^FAULT bytes down: sessions = meters: 7 <> 0$/m });
    t.match(JSON.parse((await verify('--json')).stdout), { ok: false, faults: [], books: [/bytes down/] });
  });

  t.match(await cli(['ledger', 'verify'], { TS_DATABASE_URL: 'postgres://x:x@127.0.0.1:1/x' }), {
    code: 1,
    stderr: /can not be reached/,
    stdout: '',
  });
});

t.test('journal inspect', async (t) => {
  const path = join(folder(t), 'meters.journal');
  const { journal, registry } = await startMetering(t, path);
  const meter = mustOpen(registry, subject());
  meter.countUp(1_234);
  meter.countDown(5_678);
  const inspect = (file: string, ...options: string[]) => cli(['journal', 'inspect', file, ...options]);

  const ran = await inspect(path);
  t.equal(ran.code, 0, 'beside a gateway that has it open');
  t.match(ran.stdout, new RegExp(`^gateway +${GATEWAY}$`, 'm'));
  t.match(ran.stdout, /^slots +16, 15 free$/m);
  t.match(ran.stdout, /^slot \d+ {2}open$/m);
  t.match(ran.stdout, /up 1234, down 5678/);
  const json = JSON.parse((await inspect(path, '--json')).stdout);
  t.match(json, {
    header: { gatewayId: GATEWAY },
    meters: [{ report: { bytesUp: 1_234, final: false } }],
    problems: [],
  });
  const { slot } = json.meters[0];
  await journal.close();

  const fd = openSync(path, 'r+');
  for (const copy of [0, 1])
    writeSync(fd, Buffer.alloc(64, 0xff), 0, 64, copyOffset(slot, copy as 0 | 1, 8) + 64);
  closeSync(fd);
  const damaged = await cliProcess(['journal', 'inspect', path]);
  t.match(damaged, { code: 1, stdout: new RegExp(`^DAMAGE corrupt in slot ${slot}$`, 'm') });
  t.match(await inspect(`${path}.not-there`), { code: 1, stdout: '', stderr: /ENOENT/ });
  writeFileSync(`${path}.other`, 'something else');
  const other = await inspect(`${path}.other`);
  t.equal(other.code, 1);
  t.notMatch(other.stderr, / at .*\.js:/, 'said in a line, not as a stack');
});

t.test('progress: a bar for a person, lines for a file', async (t) => {
  const drawn = (isTTY: boolean, total: number) => {
    let text = '';
    const progress = new Progress(
      {
        isTTY,
        columns: 80,
        write: (piece: string) => {
          text += piece;
        },
      },
      'things',
    );
    for (let done = 0; done <= total; done++) progress.update(done, total);
    progress.end();
    return text;
  };
  const bar = drawn(true, 1_000);
  t.equal(bar.split('\r').length, 102, 'drawn anew for each percent, 0 to 100');
  t.match(bar, /\r\[#{20}\.{20}\] {2}50 % {2}500 of 1000 things/);
  t.match(bar, /\[#{40}\] 100 % {2}1000 of 1000 things\n$/);
  const lines = drawn(false, 1_000);
  t.equal(lines.split('\n').length, 12, 'eleven lines');
  t.notMatch(lines, /\r/);
  t.match(lines, /^1000 of 1000 things$/m);
});
