import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { notTooMuch } from '../../../control-plane/usage/answer.js';
import { USAGE_TOP_ROWS_MAX } from '../../../control-plane/usage/groups.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import type { DestinationUsage } from '../../../gateway/live/usage.js';
import { signedIn, startWorld, type TestWorld } from '../../helpers/control-plane.js';
import { addSession, TestMeter } from '../../helpers/money-world.js';
import { TestRun, usage } from './world.js';

const DAY_MS = 86_400_000;
const dayOf = (ms: number) => new Date(ms).toISOString().slice(0, 10);

/** A buyer with a token, made through the API. */
async function withBuyer(world: TestWorld, adminToken: string, name: string) {
  const { body: buyer } = await world.call('POST', '/api/admin/buyers', {
    token: adminToken,
    body: { name },
  });
  const { body } = await world.call('POST', `/api/admin/buyers/${buyer.id}/tokens`, {
    token: adminToken,
    body: {},
  });
  return { id: buyer.id as string, account: buyer.account as string, token: body.token as string };
}

/** Two providers, two buyers, and what went where. */
async function start(t: Test) {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const provider = await signedIn(world);
  const other = await signedIn(world);
  const buyer = await withBuyer(world, admin.token, 'Acme');
  const rival = await withBuyer(world, admin.token, 'Rival');
  const german = await addSession(world.pool, provider.userId, { exitIp: '198.51.100.7' });
  const french = await addSession(world.pool, provider.userId, { exitIp: '198.51.100.8', country: 'FR' });
  const foreign = await addSession(world.pool, other.userId, { exitIp: '198.51.100.9' });
  const run = new TestRun(world.redis);
  const book = async (...entries: Array<Partial<DestinationUsage> & { sessionId: string }>) => {
    await run.deliver(entries.map((fields) => usage({ buyerId: buyer.id, ...fields })));
    await world.services.usage.runOnce();
  };
  const get = (path: string, token: string) => world.call('GET', path, { token });
  return { world, admin, provider, other, buyer, rival, german, french, foreign, book, get };
}

t.test('a provider sees what went through their devices, and never whose it was', async (t) => {
  const { admin, provider, other, rival, german, french, foreign, book, get } = await start(t);
  const nowMs = Date.now();
  const yesterday = nowMs - DAY_MS;
  const allocationId = randomUUID();
  await book(
    {
      sessionId: german.sessionId,
      allocationId,
      host: 'a.example',
      bytesUp: 1,
      bytesDown: 1_000,
      tag: 'secret',
    },
    { sessionId: german.sessionId, host: 'a.example', bytesUp: 2, bytesDown: 2_000, buyerId: rival.id },
    { sessionId: german.sessionId, host: 'a.example', port: 8080, bytesUp: 0, bytesDown: 0 },
    {
      sessionId: german.sessionId,
      host: 'b.example',
      bytesUp: 7,
      bytesDown: 2 ** 52,
      firstAtMs: yesterday,
      lastAtMs: yesterday,
    },
    { sessionId: german.sessionId, host: 'b.example', bytesUp: 0, bytesDown: 2 ** 52, streams: 0 },
    { sessionId: french.sessionId, host: 'a.example', bytesUp: 5, bytesDown: 5 },
    { sessionId: foreign.sessionId, host: 'c.example', bytesUp: 9, bytesDown: 9 },
  );

  const history = await get(`/api/traffic/history?session_id=${german.sessionId}`, provider.token);
  t.equal(history.status, 200);
  t.match(history.body.items[0], {
    id: german.sessionId,
    destination_count: 3,
    destinations: [
      {
        host: 'b.example',
        port: 443,
        bytes_up: 7,
        bytes_down: String(2 ** 53),
        bytes: (2n ** 53n + 7n).toString(),
        streams: 1,
        first_at: new Date(yesterday).toISOString(),
      },
      { host: 'a.example', port: 443, bytes_up: 3, bytes_down: 3_000, bytes: 3_003, streams: 2 },
      { host: 'a.example', port: 8080, bytes: 0, streams: 1 },
    ],
  });
  t.notOk(
    'destinations' in (await get('/api/traffic/history', provider.token)).body.items[0],
    'only with one session',
  );
  t.equal((await get(`/api/traffic/history?session_id=${german.sessionId}`, other.token)).status, 403);

  const list = await get('/api/traffic/destinations', provider.token);
  const seen = (body: { items: Array<{ day: string; host: string; port: number; bytes_up: number }> }) =>
    body.items.map((i) => `${i.day} ${i.host}:${i.port} ${i.bytes_up}`);
  const all = [
    `${dayOf(nowMs)} a.example:443 8`,
    `${dayOf(nowMs)} a.example:8080 0`,
    `${dayOf(nowMs)} b.example:443 0`,
    `${dayOf(yesterday)} b.example:443 7`,
  ];
  t.same(seen(list.body), all);
  for (const body of [history.body, list.body]) {
    const text = JSON.stringify(body);
    for (const hidden of [rival.id, allocationId, 'secret', 'buyer']) t.notOk(text.includes(hidden), hidden);
  }
  const paged: string[] = [];
  let cursor = '';
  do {
    const { body } = await get(`/api/traffic/destinations?limit=1${cursor}`, provider.token);
    paged.push(...seen(body));
    cursor = body.next_cursor === null ? '' : `&cursor=${body.next_cursor}`;
  } while (cursor !== '');
  t.same(paged, all, 'page by page');

  const of = async (query: string, token = provider.token) =>
    seen((await get(`/api/traffic/destinations?${query}`, token)).body);
  t.same(await of(`session_id=${french.sessionId}`), [`${dayOf(nowMs)} a.example:443 5`]);
  t.same(await of('host=B.example'), all.slice(2));
  t.same(await of(`from=${dayOf(yesterday)}&to=${dayOf(yesterday)}`), all.slice(3));
  t.same(await of(`session_id=${foreign.sessionId}`), [], "another's session shows nothing");
  t.same(await of(`user_id=${other.userId}`, admin.token), [`${dayOf(nowMs)} c.example:443 9`]);
  t.equal((await get(`/api/traffic/destinations?user_id=${other.userId}`, provider.token)).status, 403);
  t.equal((await get('/api/traffic/destinations', admin.token)).status, 400);
  t.equal((await get('/api/traffic/destinations', rival.token)).status, 403);
  const cursors = [['x'], ['2026-02-31', 'a', '1'], [1, 'a', '1e3'], [1, "a' OR b", '1']];
  for (const parts of cursors) {
    const bad = Buffer.from(JSON.stringify(parts.map(String))).toString('base64url');
    t.match(await get(`/api/traffic/destinations?cursor=${bad}`, provider.token), { status: 400 }, bad);
  }
});

t.test("a buyer's usage by tag, session name, country, sub-user and destination", async (t) => {
  const { world, admin, buyer, rival, german, french, book, get } = await start(t);
  const { pool, redis, services, call } = world;
  const made = await call('POST', '/api/buyer/sub_users', {
    token: buyer.token,
    body: { name: 'team' },
  });
  t.equal(made.status, 201);
  const { id: subUserId, account } = made.body;
  // The same bytes, metered and charged: 2 USD a GB.
  const meters = [
    new TestMeter('gw-usage', german.sessionId, buyer.id).count(300_000_000, 700_000_000),
    new TestMeter('gw-usage', french.sessionId, buyer.id).count(0, 500_000_000),
  ];
  await reportMeters(
    redis,
    'gw-usage',
    meters.map((m) => m.report()),
  );
  await services.settlement.settleNow();
  await book(
    {
      sessionId: german.sessionId,
      tag: 'prices',
      sessionName: 's1',
      bytesUp: 300_000_000,
      bytesDown: 100_000_000,
    },
    {
      sessionId: german.sessionId,
      tag: 'ads',
      bytesUp: 0,
      bytesDown: 600_000_000,
      streams: 4,
      host: 'ads.example',
    },
    {
      sessionId: french.sessionId,
      tag: 'prices',
      sessionName: 's1',
      subUserId,
      bytesUp: 0,
      bytesDown: 500_000_000,
    },
    { sessionId: german.sessionId, bytesUp: 0, bytesDown: 0 },
    { sessionId: german.sessionId, buyerId: rival.id, tag: 'hidden', bytesDown: 1 },
  );

  const { body } = await get('/api/buyer/me/usage', buyer.token);
  t.match(body, {
    total: { bytes: 1_500_000_000, charged: '3.000000' },
    by_day: [{ bytes: 1_500_000_000 }],
    by_country: [
      { country: 'DE', bytes: 1_000_000_000 },
      { country: 'FR', bytes: 500_000_000 },
    ],
  });
  t.match(body.by_tag, [
    { tag: 'prices', bytes_up: 300_000_000, bytes_down: 600_000_000, streams: 2, charged_share: '1.800000' },
    { tag: 'ads', bytes: 600_000_000, streams: 4, charged_share: '1.200000' },
    { tag: null, bytes: 0, streams: 1, charged_share: '0.000000' },
  ]);
  t.match(body.by_session, [
    { session_name: 's1', bytes: 900_000_000 },
    { session_name: null, bytes: 600_000_000 },
  ]);
  t.match(body.by_sub_user, [
    { sub_user_id: null, account: null, bytes: 1_000_000_000 },
    { sub_user_id: subUserId, account, bytes: 500_000_000, charged_share: '1.000000' },
  ]);
  t.match(body.by_destination, [
    { host: 'www.example.com', port: 443, bytes: 900_000_000 },
    { host: 'ads.example', port: 443, bytes: 600_000_000 },
  ]);
  t.same([body.by_tag.length, body.by_session.length, body.by_destination.length], [3, 2, 2]);
  t.notOk('items' in body);
  t.notOk(JSON.stringify(body).includes('hidden'));

  const today = dayOf(Date.now());
  const rows: Array<[string, string, unknown[]]> = [
    ['tag', 'tag', ['ads', 'prices', null]],
    ['session', 'session_name', ['s1', null]],
    ['country', 'country', ['DE', 'FR']],
    ['day', 'day', [today]],
    ['sub_user', 'sub_user_id', [subUserId, null]],
    ['host', 'host', ['ads.example', 'www.example.com']],
  ];
  for (const [group, field, keys] of rows) {
    const one = (await get(`/api/buyer/me/usage?group_by=${group}`, buyer.token)).body;
    t.same(
      one.items.map((i: Record<string, unknown>) => i[field]),
      keys,
      group,
    );
    t.equal(one.group_by, group);
    t.equal(
      one.items.reduce((n: number, i: { bytes: number }) => n + i.bytes, 0),
      1_500_000_000,
      `${group}: all of it`,
    );
    t.same(
      Object.keys(one.items[0]).filter((k) => rows.some(([, f]) => f === k)),
      [field],
      `${group}: named by itself`,
    );
    const paged: unknown[] = [];
    let cursor = '';
    do {
      const page = (await get(`/api/buyer/me/usage?group_by=${group}&limit=1${cursor}`, buyer.token)).body;
      paged.push(...page.items.map((i: Record<string, unknown>) => i[field]));
      cursor = page.next_cursor === null ? '' : `&cursor=${page.next_cursor}`;
    } while (cursor !== '');
    t.same(paged, keys, `${group}: page by page`);
    t.same(
      (await get(`/api/admin/buyers/${buyer.id}/usage?group_by=${group}`, admin.token)).body.items,
      one.items,
    );
  }
  const asAdmin = (await get(`/api/admin/buyers/${buyer.id}/usage`, admin.token)).body;
  t.same(
    { ...asAdmin, assigned: undefined, active: undefined, completed: undefined },
    {
      ...body,
      assigned: undefined,
      active: undefined,
      completed: undefined,
    },
  );
  const before = dayOf(Date.now() - DAY_MS);
  t.match((await get(`/api/buyer/me/usage?to=${before}&group_by=tag`, buyer.token)).body, {
    items: [],
    by_tag: null,
  });
  t.same(
    (await get('/api/buyer/me/usage', rival.token)).body.by_tag.map((i: { tag: string }) => i.tag),
    ['hidden'],
  );

  for (const query of [
    'group_by=buyer',
    'group_by=tag&cursor=e30',
    'group_by=tag&limit=0',
    'from=2026-02-31',
  ])
    t.match(
      await get(`/api/buyer/me/usage?${query}`, buyer.token),
      { status: 400, body: { code: 'validation_failed' } },
      query,
    );
  t.equal((await get(`/api/admin/buyers/${buyer.id}/usage`, buyer.token)).status, 403);

  await pool.query(
    `INSERT INTO destination_usage (day, session_id, allocation_id, buyer_id, user_id, exit_ip, country, host, port, tag,
                                    bytes_up, bytes_down, streams, first_at, last_at)
     SELECT current_date, $1, gen_random_uuid(), $2, gen_random_uuid(), '198.51.100.1', 'DE', 'h' || n || '.example', 443,
            't' || n, n, 0, 1, now(), now() FROM generate_series(1, 150) n`,
    [german.sessionId, rival.id],
  );
  const listed = (await get('/api/buyer/me/usage?group_by=tag&limit=200', rival.token)).body;
  t.equal(listed.items.length, 151);
  const many = (await get('/api/buyer/me/usage', rival.token)).body;
  t.same([many.by_tag.length, many.by_destination.length], [100, 100]);
  t.equal(many.by_tag[0].tag, 't150', 'the largest first');

  await pool.query(
    `INSERT INTO destination_usage (day, session_id, allocation_id, buyer_id, user_id, exit_ip, country, host, port,
                                    bytes_up, bytes_down, streams, first_at, last_at)
     SELECT current_date, $1, gen_random_uuid(), $2, gen_random_uuid(), '198.51.100.1', 'DE', 'n' || n || '.example', 443,
            0, 0, 1, now(), now() FROM generate_series(1, $3) n`,
    [german.sessionId, rival.id, USAGE_TOP_ROWS_MAX],
  );
  const huge = (await get('/api/buyer/me/usage', rival.token)).body;
  t.match(huge, { by_tag: null, by_session: null, by_sub_user: null, by_destination: null, total: Object });
  t.equal((await get('/api/buyer/me/usage?group_by=host&limit=200', rival.token)).body.items.length, 200);
});

t.test('what takes too long to read is told so', async (t) => {
  const { pool } = await startWorld(t);
  const client = await pool.connect();
  await client.query('SET statement_timeout = 50');
  await t.rejects(notTooMuch(client.query('SELECT pg_sleep(5)')), {
    code: 'too_much_at_once',
    statusCode: 422,
  });
  await t.rejects(notTooMuch(client.query('SELECT nothing')), { code: '42703' });
  client.release(true);
});

t.test('an admin finds who reached a destination, and the search is on record', async (t) => {
  const { world, admin, provider, buyer, rival, german, foreign, book, get } = await start(t);
  const at = Date.now() - 3_600_000;
  const allocationId = randomUUID();
  const when = { firstAtMs: at, lastAtMs: at + 60_000 };
  await book(
    { sessionId: german.sessionId, allocationId, host: 'bank.example', tag: 'x', sessionName: 's1', ...when },
    { sessionId: german.sessionId, host: 'login.bank.example', ...when },
    { sessionId: german.sessionId, host: 'notbank.example' },
    { sessionId: foreign.sessionId, host: 'bank.example', buyerId: rival.id },
    { sessionId: foreign.sessionId, host: 'ban_.example', buyerId: rival.id },
    { sessionId: foreign.sessionId, host: '203.0.113.5', buyerId: rival.id },
  );
  const find = async (query: string) =>
    (await get(`/api/admin/destinations?${query}`, admin.token)).body.items.map(
      (i: { host: string; buyer_id: string }) => `${i.host} ${i.buyer_id === buyer.id ? 'acme' : 'rival'}`,
    );
  const answer = await get(`/api/admin/destinations?host=BANK.example&buyer_id=${buyer.id}`, admin.token);
  t.same(answer.body.items, [
    {
      day: dayOf(at + 60_000),
      host: 'bank.example',
      port: 443,
      bytes_up: 10,
      bytes_down: 100,
      bytes: 110,
      streams: 1,
      first_at: new Date(at).toISOString(),
      last_at: new Date(at + 60_000).toISOString(),
      buyer_id: buyer.id,
      buyer_account: buyer.account,
      tag: 'x',
      session_name: 's1',
      sub_user_id: null,
      session_id: german.sessionId,
      allocation_id: allocationId,
      user_id: provider.userId,
      exit_ip: '198.51.100.7',
      country: 'DE',
    },
  ]);
  const sorted = async (query: string) => (await find(query)).sort();
  t.same(await sorted('host=bank.example'), ['bank.example acme', 'bank.example rival']);
  t.same(await sorted('host=.bank.example'), [
    'bank.example acme',
    'bank.example rival',
    'login.bank.example acme',
  ]);
  t.same(await sorted('host=.ban_.example'), ['ban_.example rival'], 'no pattern but the name');
  t.same(await sorted('exit_ip=198.51.100.9&host=bank.example'), ['bank.example rival']);
  t.same(await sorted('exit_ip=198.51.100.200'), []);
  t.equal((await find(`user_id=${provider.userId}`)).length, 3);
  t.equal((await find(`session_id=${foreign.sessionId}`)).length, 3);
  t.equal((await find('')).length, 6, 'without a filter: the latest');
  const iso = (ms: number) => new Date(ms).toISOString();
  t.equal(
    (await find(`host=bank.example&from=${iso(at + 60_001)}`)).length,
    1,
    'after the last of the first',
  );
  t.equal((await find(`host=bank.example&from=${iso(at + 30_000)}&to=${iso(at + 40_000)}`)).length, 1);
  t.equal(
    (await find(`host=bank.example&from=${iso(at - 60_000)}&to=${iso(at)}`)).length,
    0,
    '`to` is not within',
  );
  t.equal((await find(`host=bank.example&to=${iso(at - 40 * DAY_MS)}`)).length, 0);

  const paged: string[] = [];
  let cursor = '';
  do {
    const { body } = await get(`/api/admin/destinations?limit=2${cursor}`, admin.token);
    paged.push(...body.items.map((i: { host: string }) => i.host));
    cursor = body.next_cursor === null ? '' : `&cursor=${body.next_cursor}`;
  } while (cursor !== '');
  t.equal(new Set(paged).size, 5);
  t.equal(paged.length, 6);

  const { rows } = await world.pool.query(
    "SELECT actor_id, after FROM audit_log WHERE action = 'destinations_searched' ORDER BY id LIMIT 1",
  );
  t.match(rows, [
    { actor_id: admin.userId, after: { host: 'BANK.example', buyer_id: buyer.id, from: String } },
  ]);

  for (const token of [provider.token, buyer.token])
    t.equal((await get('/api/admin/destinations?host=bank.example', token)).status, 403);
  t.equal((await world.call('GET', '/api/admin/destinations')).status, 401);
  for (const query of [
    'host=a%20b',
    'exit_ip=1.2.3',
    'buyer_id=1',
    'unknown=1',
    'from=yesterday',
    'cursor=e30',
  ])
    t.equal((await get(`/api/admin/destinations?${query}`, admin.token)).status, 400, query);
});
