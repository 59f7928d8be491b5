import t from 'tap';
import { notify } from '../../../control-plane/inbox/inbox.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('the inbox', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const other = await signedIn(world);
  const inbox = async (query = '', token = user.token) =>
    (await world.call('GET', `/api/notifications${query}`, { token })).body;
  const read = (body: unknown, token = user.token) =>
    world.call('POST', '/api/notifications/read', { token, body });
  for (const n of [1, 2, 3, 4, 5])
    await notify(world.pool, { userId: user.userId, kind: 'test', title: `t${n}`, body: `b${n}` });
  await notify(world.pool, { userId: other.userId, kind: 'test', title: 'theirs', body: 'x' });

  const first = await inbox('?limit=2');
  t.match(first, { unread: 5, items: [{ title: 't5', read_at: null }, { title: 't4' }] });
  const second = await inbox(`?limit=3&cursor=${first.next_cursor}`);
  t.same(
    second.items.map((i: { title: string }) => i.title),
    ['t3', 't2', 't1'],
  );
  t.equal(second.next_cursor, null);

  const theirs = (await inbox('', other.token)).items[0].id;
  t.match((await read({ ids: [first.items[0].id, theirs] })).body, { ok: true, marked: 1, unread: 4 });
  t.equal((await inbox('', other.token)).unread, 1, 'another’s is left alone');
  t.match((await read({ ids: [first.items[0].id] })).body, { marked: 0, unread: 4 });
  t.same(
    (await inbox('?unread=true')).items.map((i: { title: string }) => i.title),
    ['t4', 't3', 't2', 't1'],
  );
  t.match((await read({ all: true })).body, { marked: 4, unread: 0 });
  t.match((await inbox()).items[0], { read_at: /Z$/ });

  for (const body of [{}, { ids: [] }, { ids: ['0'] }, { ids: ['x'] }, { all: false }, { all: true, x: 1 }])
    t.equal((await read(body)).status, 400, JSON.stringify(body));
  const admin = await signedIn(world, 'admin');
  for (const [method, path] of [
    ['GET', '/api/notifications'],
    ['POST', '/api/notifications/read'],
  ] as const) {
    const body = method === 'POST' ? { all: true } : undefined;
    t.equal((await world.call(method, path, { body })).status, 401);
    t.equal((await world.call(method, path, { body, token: admin.token })).status, 403);
  }
  t.equal((await world.call('GET', '/api/notifications?cursor=x', { token: user.token })).status, 400);
});
