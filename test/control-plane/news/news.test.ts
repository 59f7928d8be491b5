import { randomUUID } from 'node:crypto';
import t from 'tap';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

const texts = (word: string) => ({
  en: { title: `${word} en`, body: 'text' },
  ru: { title: `${word} ru`, body: 'текст' },
  uz: { title: `${word} uz`, body: 'matn' },
});
const at = (inMs: number) => new Date(Date.now() + inMs).toISOString();

t.test('news', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const asAdmin = (method: string, path = '', body?: unknown) =>
    world.call(method, `/api/admin/news${path}`, { token: admin.token, body });
  const shown = async (query = '', token?: string) =>
    (await world.call('GET', `/api/news${query}`, token === undefined ? {} : { token })).body.items.map(
      (item: { title: string }) => item.title,
    );

  const made = await asAdmin('POST', '', { texts: texts('one') });
  t.match([made.status, made.body], [201, { texts: texts('one'), expires_at: null }]);
  await asAdmin('POST', '', { texts: texts('later'), publish_at: at(60_000) });
  await asAdmin('POST', '', { texts: texts('over'), publish_at: at(-60_000), expires_at: at(-1_000) });
  await asAdmin('POST', '', { texts: texts('old'), publish_at: at(-120_000), expires_at: at(60_000) });

  t.same(await shown(), ['one en', 'old en'], 'for everyone, what is shown now, latest first');
  t.same(await shown('?language=uz'), ['one uz', 'old uz']);
  await world.call('POST', '/api/user/update', { token: user.token, body: { language: 'ru' } });
  t.same(await shown('', user.token), ['one ru', 'old ru'], 'in the user’s language');
  t.same(await shown('?language=en', user.token), ['one en', 'old en']);
  const page = await world.call('GET', '/api/news?limit=1');
  t.same(await shown(`?limit=1&cursor=${page.body.next_cursor}`), ['old en']);
  t.equal((await world.call('GET', '/api/news', { token: 'x.y.z' })).status, 401);
  t.equal((await world.call('GET', '/api/news?language=de')).status, 400);

  t.equal((await asAdmin('GET')).body.items.length, 4, 'admins see all');
  const path = `/${made.body.id}`;
  const changed = await asAdmin('PATCH', path, { texts: { uz: { title: 'yangi', body: 'b' } } });
  t.match(changed.body.texts, { uz: { title: 'yangi' }, en: { title: 'one en' } });
  t.match((await asAdmin('PATCH', path, { expires_at: at(-1) })).body, { expires_at: /Z$/ });
  t.same(await shown(), ['old en']);
  t.match((await asAdmin('PATCH', path, { expires_at: null })).body, { expires_at: null });
  t.match((await asAdmin('GET', path)).body, { id: made.body.id });
  t.equal((await asAdmin('DELETE', path)).status, 200);
  for (const [method, body] of [['GET'], ['DELETE'], ['PATCH', { expires_at: null }]] as const) {
    t.equal((await asAdmin(method, path, body)).status, 404, method);
    t.equal((await asAdmin(method, `/${randomUUID()}`, body)).status, 404, method);
    t.equal((await asAdmin(method, '/1', body)).status, 400, method);
  }
  const { rows } = await world.pool.query(
    "SELECT action FROM audit_log WHERE object_type = 'news' AND object_id = $1 ORDER BY id",
    [made.body.id],
  );
  t.same(
    rows.map((row) => row.action),
    ['news_created', 'news_changed', 'news_changed', 'news_changed', 'news_removed'],
  );

  const { uz: _, ...two } = texts('x');
  for (const body of [
    {},
    { texts: two },
    { texts: texts(''), x: 1 },
    { texts: texts('a'), publish_at: 'soon' },
  ])
    t.equal((await asAdmin('POST', '', body)).status, 400, JSON.stringify(body));
  for (const [method, route, body] of [
    ['GET', ''],
    ['POST', '', { texts: texts('x') }],
    ['GET', path],
    ['PATCH', path, { expires_at: null }],
    ['DELETE', path],
  ] as [string, string, unknown?][]) {
    t.equal((await world.call(method, `/api/admin/news${route}`, { body })).status, 401);
    t.equal((await world.call(method, `/api/admin/news${route}`, { body, token: user.token })).status, 403);
  }
});
