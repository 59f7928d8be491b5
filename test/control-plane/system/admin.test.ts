import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { sumInterfaces } from '../../../control-plane/system/host.js';
import { RecentLog } from '../../../control-plane/system/recent-log.js';
import { RequestCounts } from '../../../control-plane/system/request-counts.js';
import { createLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('requests by minute', (t) => {
  let nowMs = 5_000_000;
  const counts = new RequestCounts(() => nowMs);
  t.same(counts.last(15), { requests: 0, refused: 0, failed: 0, meanMs: 0 });
  counts.count(200, 10);
  counts.count(404, 20);
  nowMs += 59_000;
  counts.count(503, 60);
  t.same(counts.last(1), { requests: 3, refused: 1, failed: 1, meanMs: 30 });
  nowMs += 2_000;
  t.match(counts.last(1), { requests: 1, failed: 1 });
  t.match(counts.last(5), { requests: 3 });
  nowMs += 840_000;
  t.match(counts.last(15), { requests: 1 }, 'the first two are older');
  nowMs += 899_000;
  counts.count(200, 1);
  t.match(counts.last(15), { requests: 1, failed: 0 }, 'a second that comes round again starts anew');
  t.end();
});

t.test('recent lines', (t) => {
  const line = (n: number, level = 30, fields = {}) =>
    JSON.stringify({
      level,
      time: '2026-11-26T10:00:00.000Z',
      name: 'x',
      pid: 1,
      n,
      ...fields,
      msg: `event_${n}`,
    });
  const log = new RecentLog(3);
  const numbers = (query = '', level: 'debug' | 'warn' = 'debug', limit = 10) =>
    log.search({ level, query, limit }).map((e) => e.fields.n);
  t.same(numbers(), []);
  log.push(line(1));
  log.push(line(2, 40, { ip: '203.0.113.5' }));
  t.same(numbers(), [2, 1]);
  for (const n of [3, 4]) log.push(line(n, 50));
  t.same(numbers(), [4, 3, 2], 'the oldest went');
  t.same(numbers('', 'debug', 2), [4, 3]);
  t.same(numbers('', 'warn'), [4, 3, 2]);
  t.same(numbers('EVENT_2 203.0.113'), [2], 'all words, in any case');
  t.same(numbers('event_2 nothing'), []);
  t.same(log.search({ level: 'debug', query: 'event_2', limit: 1 }), [
    {
      time: '2026-11-26T10:00:00.000Z',
      level: 'warn',
      event: 'event_2',
      fields: { n: 2, ip: '203.0.113.5' },
    },
  ]);
  log.push('not JSON');
  log.push('x'.repeat(20_000));
  t.same(numbers(), [4, 3]);
  const bounded = new RecentLog(10_000);
  for (let n = 0; n < 1_000; n++) bounded.push(line(n, 30, { text: 'y'.repeat(10_000) }));
  const kept = bounded.search({ level: 'debug', query: '', limit: 10_000 });
  t.ok(kept.length > 350 && kept.length < 420, `${kept.length} lines in 4 Mi characters`);
  t.equal(kept[0]?.fields.n, 999);
  new RecentLog(0).push(line(1));
  t.end();
});

t.test('a line is kept as it was written, without secrets', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'traffic-share-log-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const recent = new RecentLog(10);
  const path = join(folder, 'log');
  const log = createLog('test', 'info', openSync(path, 'a'), (line) => recent.push(line));
  log.info({ token: 'tsb_secret', body: { password: 'hidden' }, kept: 1 }, 'happened');
  log.debug({}, 'too quiet');
  // Secrets that hide in texts: errors name addresses, and carry what was to be sent.
  const hidden = {
    bot: 'bot123456789:AAH-hidden_hidden_hidden_hidden_hidde',
    buyer: `tsb${'a1B2'.repeat(10)}`,
    refresh: `tsr_${'hidden-_'.repeat(5)}`,
    device: `tsd_${'hidden-_'.repeat(5)}`,
    jwt: 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJoaWRkZW4ifQ.hidden_hidden_hidden',
  };
  const text = `${Object.values(hidden).join(' ')} postgres://ann:hidden@db/x redis://:hidden@redis:6379`;
  const error = Object.assign(new Error(`https://api.telegram.org/${hidden.bot}/sendMessage failed`), {
    payload: { text: 'Your code: hidden' },
    error: new Error(text),
  });
  log.warn({ err: error, note: text }, 'failed');
  const [failed] = recent.search({ level: 'warn', query: 'failed', limit: 1 });
  t.match(failed, { fields: { err: { message: 'https://api.telegram.org/[Redacted]/sendMessage failed' } } });
  t.match(
    failed?.fields.note,
    /^(\[Redacted\] ){5}postgres:\/\/ann:\[Redacted\]@db\/x redis:\/\/:\[Redacted\]@redis:6379$/,
  );
  t.notMatch(JSON.stringify(failed), /hidden|a1B2a1B2/);

  const found = recent.search({ level: 'debug', query: 'happened', limit: 10 });
  t.match(found, [{ event: 'happened', fields: { kept: 1, token: '[Redacted]' } }]);
  t.equal(found.length, 1);
  t.notMatch(JSON.stringify(found), /tsb_secret|hidden/);
  while (readFileSync(path, 'utf8') === '') await new Promise((resolve) => setImmediate(resolve));
  const [first = ''] = readFileSync(path, 'utf8').split('\n');
  t.match(JSON.parse(first), { msg: 'happened', token: '[Redacted]' });
  t.notMatch(readFileSync(path, 'utf8'), /hidden/);
});

t.test('interfaces', (t) => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0
  eth1:  10 1 0 0 0 0 0 0  20 1 0 0 0 0 0 0
`;
  t.same(sumInterfaces(text), { received_bytes: 110, sent_bytes: 220 });
  t.end();
});

t.test('the API', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const get = (path: string) => world.call('GET', path, { token: admin.token });
  const paths = ['/api/system/requests', '/api/system/logs', '/api/system/stats', '/api/admin/metrics'];
  for (const path of paths) {
    t.equal((await world.call('GET', path)).status, 401, path);
    t.equal((await world.call('GET', path, { token: user.token })).status, 403, path);
    t.equal((await get(path)).status, 200, path);
  }
  const { last_1_minute: last } = (await get('/api/system/requests')).body;
  t.ok(last.requests >= 12, 'those above');
  t.ok(last.refused >= 8);
  t.match((await get('/api/system/stats')).body, {
    cpu: { cores: Number },
    memory: { total_bytes: Number },
    disk: Object,
  });
  t.match((await get('/api/admin/metrics')).body, {
    counters: { jobs_failed: 0, postgres_connections: Number },
  });
  for (const query of ['level=loud', `q=${'x'.repeat(201)}`, 'limit=0', 'nothing=1'])
    t.equal((await get(`/api/system/logs?${query}`)).status, 400, query);
});
