import t from 'tap';
import { recordAudit } from '../../../control-plane/audit/audit.js';
import { searchAudit } from '../../../control-plane/audit/search.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('GET /api/admin/audit/search', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const { pool } = world;
  const path = '/api/admin/audit/search';
  const search = (query: string) => world.call('GET', `${path}?${query}`, { token: admin.token });
  const actor = { role: 'admin', userId: admin.userId, loginId: admin.loginId } as const;
  for (let n = 0; n < 5; n++)
    await recordAudit(pool, {
      actor,
      action: n % 2 === 0 ? 'thing_made' : 'thing_changed',
      objectType: 'thing',
      objectId: `t${n}`,
      after: { n },
      ip: '203.0.113.7',
      requestId: `request-${n}`,
    });
  await recordAudit(pool, {
    actor: { role: 'system' },
    action: 'thing_made',
    objectType: 'other',
    objectId: null,
  });

  t.equal((await world.call('GET', path)).status, 401);
  t.equal((await world.call('GET', path, { token: user.token })).status, 403);
  for (const query of [
    'nothing=1',
    'limit=201',
    'action=No',
    'actor_role=king',
    'from=yesterday',
    'object_id=t1',
    `cursor=${Buffer.from('["1"]').toString('base64url')}`,
    `cursor=${Buffer.from('["1","x"]').toString('base64url')}`,
  ])
    t.equal((await search(query)).status, 400, query);

  const ids = async (query: string) =>
    (await search(query)).body.items.map((item: { object_id: string }) => item.object_id);
  t.same(await ids('object_type=thing'), ['t4', 't3', 't2', 't1', 't0'], 'latest first');
  t.same(await ids('object_type=thing&action=thing_changed'), ['t3', 't1']);
  t.same(await ids('object_type=thing&object_id=t2'), ['t2']);
  t.same(await ids(`actor_id=${admin.userId}&action=thing_made`), ['t4', 't2', 't0']);
  t.same(await ids('actor_role=system'), [null]);
  t.match((await search('object_type=thing&object_id=t0')).body.items, [
    {
      actor_role: 'admin',
      actor_id: admin.userId,
      action: 'thing_made',
      before: null,
      after: { n: 0 },
      ip: '203.0.113.7',
      request_id: 'request-0',
    },
  ]);
  const { rows } = await pool.query<{ at: Date }>(
    `SELECT at + interval '1 ms' AS at FROM audit_log WHERE object_id = 't1'`,
  );
  const middle = (rows[0] as { at: Date }).at.toISOString();
  const [before, after] = [
    await ids(`object_type=thing&to=${middle}`),
    await ids(`object_type=thing&from=${middle}`),
  ];
  t.same([...after, ...before], ['t4', 't3', 't2', 't1', 't0'], 'each on one side');

  const pages: string[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const { body } = await search(`object_type=thing&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`);
    pages.push(body.items.map((item: { object_id: string }) => item.object_id).join());
    cursor = body.next_cursor;
  }
  t.same(pages, ['t4,t3', 't2,t1', 't0']);

  await t.test('every search is an index walk', async (t) => {
    await pool.query(
      `INSERT INTO audit_log (at, actor_role, actor_id, action, object_type, object_id)
       SELECT now() - n * interval '1 second', 'user', 'u' || n % 500, 'a_' || n % 20, 'o_' || n % 30, 'x' || n % 700
         FROM generate_series(1, 20000) AS n`,
    );
    await pool.query('ANALYZE audit_log');
    const wanted = { from: '2020-01-01T00:00:00Z', to: '2030-01-01T00:00:00Z' };
    for (const filter of [
      {},
      wanted,
      { actorId: 'u7' },
      { actorRole: 'system' },
      { action: 'a_3' },
      { objectType: 'o_9' },
      { objectType: 'o_9', objectId: 'x9' },
    ])
      for (const after of [null, { atUs: '1790000000000000', id: '1000' }]) {
        let plan = '';
        const explaining = {
          query: async (sql: string, values: unknown[]) => {
            const explained = await pool.query(`EXPLAIN ${sql}`, values);
            plan = explained.rows.map((row) => row['QUERY PLAN']).join('\n');
            return { rows: [] };
          },
        };
        await searchAudit(explaining as never, filter, after, 51);
        t.match(plan, /Index/, JSON.stringify(filter));
        t.notMatch(plan, /Seq Scan/, JSON.stringify(filter));
      }
  });
});
