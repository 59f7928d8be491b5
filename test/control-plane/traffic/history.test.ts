import { randomUUID } from 'node:crypto';
import t from 'tap';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import {
  signedIn,
  startWorld,
  type TestUser,
  type TestWorld,
  withDevice,
} from '../../helpers/control-plane.js';

async function addSessions(world: TestWorld, user: TestUser, startedAt: string[]): Promise<string[]> {
  const { deviceId } = await withDevice(world, user);
  const ids = startedAt.map(() => randomUUID());
  await world.pool.query(
    `INSERT INTO traffic_sessions (id, user_id, device_id, status, exit_ip, country, client_version, started_at, bytes_up)
     SELECT id, $2, $3, 'completed', '198.51.100.1', 'DE', '1.0.0', at, 5
     FROM unnest($1::uuid[], $4::timestamptz[]) AS x (id, at)`,
    [ids, user.userId, deviceId, startedAt],
  );
  return ids;
}

t.test('history and sessions', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const other = await signedIn(world);
  const admin = await signedIn(world, 'admin');
  // Three within one ms: a cursor in ms would repeat or lose them.
  const times = [1, 2, 3].map((us) => `2026-05-01T10:00:00.00000${us}Z`);
  times.push('2026-05-02T10:00:00Z', '2026-05-03T10:00:00Z', '2026-05-03T10:00:00Z', '2026-05-04T00:00:00Z');
  const ids = await addSessions(world, user, times);
  const [foreign] = await addSessions(world, other, ['2026-05-02T10:00:00Z']);
  const get = (path: string, token = user.token) => world.call('GET', path, { token });

  await t.test('pages by cursor: each once, latest first', async (t) => {
    for (const path of ['/api/traffic/history', '/api/sessions']) {
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const query: string = cursor === null ? '' : `&cursor=${cursor}`;
        const { body } = await get(`${path}?limit=2${query}`);
        t.ok(body.items.length <= 2);
        seen.push(...body.items.map((i: { id: string }) => i.id));
        cursor = body.next_cursor;
      } while (cursor !== null);
      t.equal(seen.length, ids.length);
      t.same(new Set(seen), new Set(ids));
      t.equal(seen[0], ids.at(-1));
      t.equal(seen.at(-1), ids[0]);
    }
  });

  await t.test('by page, with the total', async (t) => {
    const first = (await get('/api/traffic/history?page=1&limit=5')).body;
    const second = (await get('/api/traffic/history?page=2&limit=5')).body;
    t.same([first.total, first.items.length, second.items.length], [7, 5, 2]);
  });

  await t.test('filters', async (t) => {
    const range = await get('/api/traffic/history?from=2026-05-02T00:00:00Z&to=2026-05-04T00:00:00Z');
    t.equal(range.body.items.length, 3);
    const one = await get(`/api/traffic/history?session_id=${ids[0]}`);
    t.match(one.body.items, [{ id: ids[0], bytes: 5, earned: '0.000000' }]);
    t.equal((await get('/api/sessions?status=active')).body.items.length, 0);
  });

  await t.test('only one’s own; an admin names whose, or sees all', async (t) => {
    t.equal((await get(`/api/sessions/${foreign}`)).status, 403);
    t.equal((await get(`/api/traffic/history?session_id=${foreign}`)).status, 403);
    t.equal((await get(`/api/traffic/history?user_id=${other.userId}`)).status, 403);
    t.equal((await get(`/api/sessions/${randomUUID()}`)).status, 404);
    t.equal((await get(`/api/traffic/history?user_id=${other.userId}`, admin.token)).body.items.length, 1);
    t.equal((await get('/api/sessions?limit=200', admin.token)).body.items.length, 8);
    t.equal((await get('/api/traffic/history', admin.token)).status, 400);
    t.equal((await get(`/api/sessions/${foreign}`, admin.token)).status, 200);
  });

  await t.test('bad paging is 400, never SQL', async (t) => {
    const bent = Buffer.from(JSON.stringify(["2026-05-01'; DROP TABLE users;--", ids[0]])).toString(
      'base64url',
    );
    for (const query of [
      'limit=0',
      'limit=201',
      'limit=x',
      'cursor=%%%',
      `cursor=${bent}`,
      'cursor=e30',
      'page=0',
      'from=x',
    ]) {
      const { status, body } = await get(`/api/sessions?${query.replaceAll('%', '%25')}`);
      t.match([status, body.code], [400, 'validation_failed'], query);
    }
  });
});

t.test('figures', async (t) => {
  // A Wednesday, the first of its month.
  const world = await startWorld(t, { clock: new ManualClock(Date.parse('2026-07-01T12:00:00Z')) });
  const user = await signedIn(world);
  const other = await signedIn(world);
  const admin = await signedIn(world, 'admin');
  const usage = (userId: string, day: string, up: bigint, down: bigint, earned: bigint) =>
    world.pool.query('INSERT INTO usage_daily_provider VALUES ($1, $2, $3, $4, $5)', [
      userId,
      day,
      up,
      down,
      earned,
    ]);
  await usage(user.userId, '2026-07-01', 1_000_000_000n, 500_000_000n, 750_000n);
  await usage(user.userId, '2026-06-29', 0n, 1n, 1n); // Monday of the week, month before
  await usage(user.userId, '2026-06-28', 2n, 0n, 2n); // Sunday before
  await usage(user.userId, '2025-01-31', 4n, 0n, 4n);
  await usage(other.userId, '2026-07-01', 100n, 0n, 0n);
  await addSessions(world, user, ['2026-07-01T01:00:00Z', '2026-06-30T23:00:00Z']);
  const get = (path: string, token = user.token) => world.call('GET', path, { token });

  const { body } = await get('/api/traffic/summary');
  t.match(body, {
    day: {
      bytes_up: 1_000_000_000,
      bytes_down: 500_000_000,
      bytes: 1_500_000_000,
      gb: 1.5,
      sessions: 1,
      earned: '0.750000',
    },
    week: { bytes: 1_500_000_001, sessions: 2, earned: '0.750001' },
    month: { bytes: 1_500_000_000, sessions: 1 },
    all: { bytes: 1_500_000_007, sessions: 2, earned: '0.750007' },
  });
  t.equal((await get('/api/traffic/summary', admin.token)).body.day.bytes, 1_500_000_100, 'everyone');
  t.equal((await get(`/api/traffic/summary?user_id=${other.userId}`, admin.token)).body.all.bytes, 100);
  t.equal((await get(`/api/traffic/summary?user_id=${other.userId}`)).status, 403);

  const points = async (path: string) =>
    (await get(path)).body.items.map((p: { from: string; bytes: number }) => [p.from, p.bytes]);
  t.same(await points('/api/stats/daily?points=4'), [
    ['2026-06-28', 2],
    ['2026-06-29', 1],
    ['2026-06-30', 0],
    ['2026-07-01', 1_500_000_000],
  ]);
  t.same(await points('/api/stats/weekly?points=2'), [
    ['2026-06-22', 2],
    ['2026-06-29', 1_500_000_001],
  ]);
  t.same((await points('/api/stats/monthly?points=18')).at(0), ['2025-02-01', 0]);
  t.same((await points('/api/stats/monthly?points=19')).at(0), ['2025-01-01', 4]);
  t.equal((await get('/api/stats/daily')).body.items.length, 30);
  t.equal((await get('/api/stats/yearly')).status, 400);
});
