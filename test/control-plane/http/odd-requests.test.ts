import t from 'tap';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { askRaw } from '../../helpers/raw-http.js';

t.test('what is no request gets a problem document, too', async (t) => {
  const { url } = await startWorld(t);
  const port = Number(new URL(url).port);
  for (const [request, status, code] of [
    [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431, 'head_too_large'],
    [`GET / HTTP/1.1\r\nHost: a\r\nX-A: ${'x'.repeat(20_000)}\r\n\r\n`, 431, 'head_too_large'],
    ['GARBAGE\r\n\r\n', 400, 'malformed_request'],
    ['GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n', 400, 'malformed_request'],
  ] as const) {
    const answer = await askRaw(port, request);
    t.equal(answer.status, status);
    t.equal(answer.headers.get('content-type'), 'application/problem+json');
    t.equal(answer.headers.get('connection'), 'close');
    t.match(JSON.parse(answer.body), { status, code, request_id: answer.headers.get('x-request-id') });
  }
});

t.test('bodies that are too deep, or that nobody asked for', async (t) => {
  const { call } = await startWorld(t);
  const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
  const send = (path: string, body: string) =>
    call('POST', path, { body, headers: { 'content-type': 'application/json' } });
  for (const levels of [34, 100_000]) {
    const answer = await send('/api/webhook/cryptomus', `{"a":${deep(levels)}}`);
    t.match([answer.status, answer.body.errors?.[0]?.path], [400, '/body']);
  }
  t.equal((await send('/api/webhook/cryptomus', `{"a":${deep(20)}}`)).status, 401, 'deep enough for all');
  t.equal((await send('/api/no/such/call', `{"a":${deep(50)}}`)).status, 404);
});

t.test('texts of an address are read as what they say', async (t) => {
  const world = await startWorld(t);
  const { token } = await signedIn(world);
  const list = async (query: string) =>
    (await world.call('GET', `/api/notifications?${query}`, { token })).status;
  for (const query of ['limit=5', 'limit=05', 'unread=true', 'unread=false'])
    t.equal(await list(query), 200, query);
  for (const query of [
    'limit=1.5',
    'limit=true',
    'limit=1e1',
    'limit=',
    'unread=1',
    'unread=TRUE',
    'limit=1&limit=2',
  ])
    t.equal(await list(query), 400, query);
  const consent = await world.call('DELETE', '/api/user/consent', { token, body: { why: 'x' } });
  t.match([consent.status, consent.body.errors], [400, [{ path: '/body/why', message: 'is not known' }]]);
  t.equal(
    (await world.call('DELETE', '/api/user/consent', { token, body: {} })).status,
    200,
    'an empty one is none',
  );
});

t.test('long arrays cost little', async (t) => {
  const world = await startWorld(t);
  const { token } = await signedIn(world);
  const send = async (body: unknown) => {
    const beganMs = performance.now();
    const answer = await world.call('PATCH', '/api/profile', { token, body });
    return { ...answer, ms: performance.now() - beganMs };
  };
  const same = (count: number) => ({ settings: { blocked_destinations: Array(count).fill('a.example') } });
  const long = await send(same(20_000));
  t.match(
    [long.status, long.body.errors],
    [400, [{ path: '/body/settings/blocked_destinations', message: 'must not have more than 500 items' }]],
  );
  // Telling each of them took half a minute.
  const numbers = await send({ settings: { blocked_destinations: Array(120_000).fill(0) } });
  t.equal(numbers.status, 400);
  t.ok(numbers.ms < 2_000, `${Math.round(numbers.ms)} ms`);
  t.match(
    (await send(same(3))).body.errors,
    [{ path: '/body/settings/blocked_destinations' }],
    'twice the same',
  );

  const unbounded: string[] = [];
  const look = (node: unknown, path: string): void => {
    if (typeof node !== 'object' || node === null) return;
    const { uniqueItems, maxItems } = node as { uniqueItems?: boolean; maxItems?: number };
    if (uniqueItems === true && maxItems === undefined) unbounded.push(path);
    for (const [name, inner] of Object.entries(node)) look(inner, `${path}/${name}`);
  };
  const { paths } = (await world.call('GET', '/openapi.json')).body;
  for (const [path, item] of Object.entries<Record<string, { requestBody?: unknown }>>(paths))
    for (const [method, { requestBody }] of Object.entries(item)) look(requestBody, `${method} ${path}`);
  t.same(unbounded, [], 'items that must be unique are not many');
});
