import Fastify from 'fastify';
import t from 'tap';
import { sendCsv } from '../../../control-plane/http/csv-export.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('HEAD reads no row', async (t) => {
  const app = Fastify();
  t.teardown(() => app.close());
  let pages = 0;
  app.get('/list', (_request, reply) =>
    sendCsv(reply, 'list', ['a'], async () => {
      pages++;
      return { items: [{ a: 1 }], next_cursor: null };
    }),
  );
  const head = await app.inject({ method: 'HEAD', url: '/list' });
  t.match(head.headers, { 'content-type': 'text/csv; charset=utf-8' });
  t.match(head, { statusCode: 200, body: '' });
  t.equal(pages, 0);
  t.match((await app.inject({ url: '/list' })).body, 'a\r\n1\r\n');
  t.equal(pages, 1);
});

t.test('who takes a list of people is in the audit log, with the filters', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const audited = async () =>
    (
      await world.pool.query(
        "SELECT actor_id, object_id, after FROM audit_log WHERE action = 'list_exported' ORDER BY id",
      )
    ).rows;
  const lists = ['users', 'buyers', 'sessions', 'devices', 'payments', 'packages'];
  for (const list of lists) {
    const path = `/api/admin/export/${list}`;
    t.equal((await world.call('HEAD', path, { token: admin.token })).status, 200, list);
    t.equal((await world.call('GET', path)).status, 401);
  }
  t.same(await audited(), [], 'nobody has read anything');
  for (const list of lists) {
    const { status } = await world.call('GET', `/api/admin/export/${list}`, { token: admin.token });
    t.equal(status, 200, list);
  }
  await world.call('GET', '/api/admin/export/users?status=banned', { token: admin.token });
  t.match(await audited(), [
    ...lists.map((list) => ({ actor_id: admin.userId, object_id: list, after: {} })),
    { object_id: 'users', after: { status: 'banned' } },
  ]);
});
