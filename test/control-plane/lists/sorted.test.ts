/** Lists in the order admins ask for, and their exports. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { signedIn } from '../../helpers/control-plane.js';
import { startPaymentsWorld } from '../../helpers/payments-world.js';

/** More than an export reads at a time. */
const PEOPLE = 1_200;

t.test('sorted lists and exports', async (t) => {
  const world = await startPaymentsWorld(t);
  const { pool, call, admin } = world;
  // Names that differ in case alone, none at all, not ASCII, and longer than what is sorted by.
  await pool.query(
    `INSERT INTO users (id, telegram_id, username, referral_code, created_at)
     SELECT gen_random_uuid(), 8000000000 + n,
            CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN 'Same' WHEN 2 THEN 'same' WHEN 3 THEN repeat('ü', 60) || n ELSE 'n' || n END,
            'S' || n, now() - n * interval '1 minute'
       FROM generate_series(1, $1) n`,
    [PEOPLE],
  );
  const get = (path: string) => call('GET', path, { token: admin.token });
  /** All ids of a list, page by page. */
  async function walk(path: string, id: string): Promise<string[]> {
    const ids: string[] = [];
    let cursor: string | null = null;
    do {
      const answer = await get(`${path}&limit=200${cursor === null ? '' : `&cursor=${cursor}`}`);
      if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
      ids.push(...answer.body.items.map((item: Record<string, string>) => item[id]));
      cursor = answer.body.next_cursor;
    } while (cursor !== null);
    return ids;
  }
  const inPostgres = async (sql: string) => (await pool.query<{ id: string }>(sql)).rows.map((row) => row.id);

  await t.test('every page of every order, each row once', async (t) => {
    const name = `left(lower(coalesce(username, '')), 40)`;
    for (const [sort, order] of [
      ['username', `${name}, id`],
      ['-username', `${name} DESC, id DESC`],
      ['created_at', 'created_at, id'],
      ['-created_at', 'created_at DESC, id DESC'],
    ])
      t.same(
        await walk(`/api/admin/users?sort=${sort}`, 'id'),
        await inPostgres(`SELECT id FROM users ORDER BY ${order}`),
        `by ${sort}`,
      );
  });

  await t.test('payouts and top-ups by amount', async (t) => {
    const provider = await world.provider('100');
    for (const amount of ['7', '30', '7', '5.5']) await world.withdraw(provider, amount);
    const { id: buyerId } = await world.buyer();
    await pool.query(
      `INSERT INTO topups (id, buyer_id, amount_micros, method, status, created_at, expires_at)
       VALUES (gen_random_uuid(), $1, 6000000, 'cryptomus', 'pending', now(), now() + interval '1 hour')`,
      [buyerId],
    );
    const { body } = await get('/api/admin/payments?sort=-amount&limit=3');
    t.same(
      body.items.map((p: { amount: string }) => p.amount),
      ['30.000000', '7.000000', '7.000000'],
    );
    const rest = await get(`/api/admin/payments?sort=-amount&limit=3&cursor=${body.next_cursor}`);
    t.same(
      rest.body.items.map((p: { amount: string; kind: string }) => [p.kind, p.amount]),
      [
        ['topup', '6.000000'],
        ['payout', '5.500000'],
      ],
    );
  });

  await t.test('a cursor is good for its own order only', async (t) => {
    const { body } = await get('/api/admin/users?sort=username&limit=1');
    for (const query of [
      `sort=-username&cursor=${body.next_cursor}`,
      `cursor=${body.next_cursor}`,
      'sort=id',
    ])
      t.match(
        await get(`/api/admin/users?${query}`),
        { status: 400, body: { code: 'validation_failed' } },
        query,
      );
    // Of the right form, and yet nobody's: no error of Postgres comes through
    const made = (...parts: string[]) => Buffer.from(JSON.stringify(parts)).toString('base64url');
    for (const [list, cursor] of [
      ['users', made('-created_at', '2026-11-27T00:00:00Z', 'no-uuid')],
      ['users', made('-created_at', '2026-13-45T00:00:00Z', randomUUID())],
      ['buyers', made('-created_at', '2026-11-27T00:00:00Z', 'no-uuid')],
      ['payments', made('-created_at', '2026-11-27T00:00:00Z', 'no-uuid')],
      ['devices', made('-last_seen_at', '2026-11-27T00:00:00Z', "' OR 1=1")],
    ] as const)
      t.match(
        await get(`/api/admin/${list}?cursor=${cursor}`),
        { status: 400, body: { code: 'validation_failed' } },
        `${list}: ${Buffer.from(cursor, 'base64url')}`,
      );
  });

  await t.test('devices of everyone, found by how their ids begin', async (t) => {
    const owner = await signedIn(world);
    await pool.query(
      `INSERT INTO devices (id, user_id, key_hash, os, client_version, last_country, last_seen_at)
       SELECT 'Device-no_' || n, $1, decode(md5('s' || n), 'hex'), 'linux', '1.0.0', 'DE',
              CASE WHEN n > 1 THEN now() - n * interval '1 hour' END FROM generate_series(1, 12) n`,
      [owner.userId],
    );
    t.same(
      await walk('/api/admin/devices?sort=-last_seen_at&query=Device-no_1', 'device_id'),
      ['Device-no_10', 'Device-no_11', 'Device-no_12', 'Device-no_1'],
      'the one never seen is last',
    );
    t.same(await walk('/api/admin/devices?query=device-no_1', 'device_id'), [], 'ids have a case');
    t.match((await get('/api/admin/devices?query=Device-no_1&limit=1')).body.items[0], {
      user_id: owner.userId,
      online: false,
      country: 'DE',
    });
    t.match(await get('/api/admin/devices/countries'), { status: 200, body: { countries: [] } });
  });

  await t.test('an export is the whole list, and runs nothing', async (t) => {
    await pool.query("UPDATE users SET username = '=cmd|calc' WHERE telegram_id = 8000000001");
    const answer = await fetch(`${world.url}/api/admin/export/users?sort=created_at`, {
      headers: { authorization: `Bearer ${admin.token}` },
    });
    t.equal(answer.headers.get('content-type'), 'text/csv; charset=utf-8');
    t.equal(answer.headers.get('content-disposition'), 'attachment; filename="users.csv"');
    const [header, ...lines] = (await answer.text()).trimEnd().split('\r\n');
    const names = (header as string).split(',');
    t.ok(names.includes('username') && names.includes('available'));
    t.same(
      lines.map((line) => line.split(',')[names.indexOf('id')]),
      await inPostgres('SELECT id FROM users ORDER BY created_at, id'),
    );
    t.ok(
      lines.some((line) => line.includes("'=cmd|calc")),
      'a formula is text',
    );
    const filtered = await fetch(
      `${world.url}/api/admin/export/payments?kind=payout&user_id=${randomUUID()}`,
      {
        headers: { authorization: `Bearer ${admin.token}` },
      },
    );
    t.equal((await filtered.text()).split('\r\n').length, 2, 'no more than the header');
  });
});
