import t from 'tap';
import { encodeCursor } from '../../../control-plane/http/pagination.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('text and times that fit a schema and no column are the caller’s fault', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const admin = await signedIn(world, 'admin');
  const asAdmin = (method: string, path: string, body?: unknown) =>
    world.call(method, `/api/admin/${path}`, { token: admin.token, body });
  const news = (title: string, publish_at?: string) => {
    const text = { title, body: 'x' };
    return asAdmin('POST', 'news', {
      texts: { en: text, ru: text, uz: text },
      ...(publish_at && { publish_at }),
    });
  };
  for (const text of ['nul \0 here', 'half \ud83d', '\udc00']) {
    const sent = JSON.stringify(text);
    const answers = await Promise.all([
      world.call('POST', '/api/support', { token: user.token, body: { message: text } }),
      world.call('POST', '/api/support', { token: user.token, body: `{"message":${sent}}` }),
      asAdmin('POST', `user/${user.userId}/ban`, { reason: text }),
      asAdmin('PATCH', `users/${user.userId}`, { username: text }),
      asAdmin('POST', 'notify', { target: 'all', message: text }),
      news(text),
    ]);
    for (const { status, body } of answers)
      t.match([status, body.code, body.errors.length > 0], [400, 'validation_failed', true]);
  }
  t.match((await news('half \ud83d')).body.errors[0], { path: '/body/texts/en/title' });
  t.equal((await asAdmin('GET', 'users?query=%00')).status, 400);
  t.equal(
    (await world.call('POST', '/api/support', { token: user.token, body: { message: '😀 ok' } })).status,
    201,
  );

  t.equal((await news('x', '0000-01-01T00:00:00Z')).status, 400);
  const cursor = encodeCursor(['2026-99-99T99:99:99Z', '00000000-0000-0000-0000-000000000000']);
  t.equal((await asAdmin('GET', `users?cursor=${cursor}`)).status, 400);
  t.equal((await asAdmin('GET', `news?cursor=${cursor}`)).status, 400);
  const { rows } = await world.pool.query(
    'SELECT (SELECT count(*)::int FROM news) AS news, (SELECT status FROM users WHERE id = $1)',
    [user.userId],
  );
  t.same(rows, [{ news: 0, status: 'active' }], 'nothing happened');
});
