import { randomUUID } from 'node:crypto';
import t from 'tap';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('support threads', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const other = await signedIn(world);
  const write = (body: unknown, token = user.token) => world.call('POST', '/api/support', { token, body });
  const reply = (id: string, body: unknown, token = admin.token) =>
    world.call('POST', `/api/admin/support/${id}/reply`, { token, body });
  const waiting = async () =>
    (await world.call('GET', '/api/admin/support?status=open', { token: admin.token })).body.items.map(
      (thread: { id: string }) => thread.id,
    );

  const opened = await write({ subject: 'Payout', message: 'Where is it?' });
  t.match(
    [opened.status, opened.body],
    [
      201,
      { subject: 'Payout', status: 'open', messages: 1, items: [{ author: 'user', body: 'Where is it?' }] },
    ],
  );
  const { id } = opened.body;
  const theirs = await write({ message: 'Hello' }, other.token);
  t.equal(theirs.body.subject, 'Hello', 'without a subject the message is one');
  t.same(await waiting(), [theirs.body.id, id]);

  await world.call('POST', '/api/user/update', { token: user.token, body: { language: 'ru' } });
  const answered = await reply(id, { message: 'Today.' });
  t.match([answered.status, answered.body], [201, { status: 'answered', messages: 2 }]);
  t.same(await waiting(), [theirs.body.id]);
  const { rows: notices } = await world.pool.query('SELECT user_id, kind, payload FROM bot_notices');
  t.match(notices, [
    {
      user_id: user.userId,
      kind: 'support_reply',
      payload: { threadId: id, subject: 'Payout', message: 'Today.', closed: false },
    },
  ]);
  t.match((await world.call('GET', '/api/notifications', { token: user.token })).body.items, [
    { kind: 'support_reply', title: 'Ответ поддержки: Payout', body: 'Today.' },
  ]);

  t.match((await write({ thread_id: id, message: 'Thanks' })).body, { status: 'open', messages: 3 });
  t.equal((await write({ thread_id: id, message: 'x' }, other.token)).status, 403);
  t.equal((await write({ thread_id: randomUUID(), message: 'x' })).status, 404);
  t.equal((await world.call('GET', `/api/support/${id}`, { token: other.token })).status, 403);
  t.equal((await world.call('GET', `/api/support/${id}`, { token: user.token })).body.items.length, 3);
  t.equal((await world.call('GET', `/api/admin/support/${id}`, { token: admin.token })).body.items.length, 3);
  t.match((await reply(id, { message: 'Bye', close: true })).body, { status: 'closed' });
  t.match((await write({ thread_id: id, message: 'One more' })).body, { code: 'thread_closed' });
  t.match((await reply(id, { message: 'One more' })).body, { code: 'thread_closed' });
  t.match((await world.call('GET', '/api/support?status=closed', { token: user.token })).body.items, [
    { id },
  ]);
  t.equal((await reply(randomUUID(), { message: 'x' })).status, 404);

  const many = await Promise.all(Array.from({ length: 12 }, (_, i) => write({ message: `m${i}` })));
  t.equal(many.filter((a) => a.status === 201).length, 10, 'open threads have a limit');
  t.equal(many.find((a) => a.status !== 201)?.body.code, 'too_many_threads');
  const first = await world.call('GET', '/api/support?limit=6', { token: user.token });
  const rest = await world.call('GET', `/api/support?limit=6&cursor=${first.body.next_cursor}`, {
    token: user.token,
  });
  t.equal(new Set([...first.body.items, ...rest.body.items].map((i) => i.id)).size, 11);

  await world.pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [other.userId]);
  t.equal((await write({ message: 'Why?' }, other.token)).status, 201, 'a banned user may write');

  for (const body of [
    {},
    { message: '' },
    { message: 'x'.repeat(4_001) },
    { message: 'x', status: 'closed' },
  ])
    t.equal((await write(body)).status, 400, JSON.stringify(body).slice(0, 60));
  for (const [method, path, body] of [
    ['GET', '/api/admin/support'],
    ['GET', `/api/admin/support/${id}`],
    ['POST', `/api/admin/support/${id}/reply`, { message: 'x' }],
  ] as [string, string, unknown?][]) {
    t.equal((await world.call(method, path, { body })).status, 401, path);
    t.equal((await world.call(method, path, { body, token: user.token })).status, 403, path);
  }
  t.equal((await world.call('POST', '/api/support', { body: { message: 'x' } })).status, 401);
  t.equal((await write({ message: 'x' }, admin.token)).status, 403);
});
