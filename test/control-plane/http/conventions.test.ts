import t from 'tap';
import { Type } from 'typebox';
import { Problem } from '../../../control-plane/errors.js';
import { createServer } from '../../../control-plane/http/server.js';
import type { Log } from '../../../gateway/runtime/logging.js';
import { newTelegramId, signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('conventions of the API', async (t) => {
  const events: { event: string; fields: Record<string, unknown> }[] = [];
  const note = (fields: object, event: string) => {
    events.push({ event, fields: fields as Record<string, unknown> });
  };
  const log: Log = { debug: note, info: note, warn: note, error: note, child: () => log };
  const world = await startWorld(t, {
    log,
    env: { TS_CORS_ORIGINS: 'https://app.example.com', TS_API_BODY_BYTES_MAX: '2048' },
  });
  const { call } = world;

  await t.test('every error is a problem document with the request id', async (t) => {
    const answer = await call('GET', '/api/no/such/path', { headers: { 'x-request-id': 'my-request.id_1' } });
    t.equal(answer.status, 404);
    t.equal(answer.headers.get('content-type'), 'application/problem+json');
    t.equal(answer.headers.get('x-request-id'), 'my-request.id_1');
    t.same(answer.body, {
      type: 'about:blank',
      title: 'Not found',
      status: 404,
      code: 'not_found',
      request_id: 'my-request.id_1',
    });
  });

  await t.test('a request id that is not well formed is replaced', async (t) => {
    for (const given of ['short', 'has spaces in it', 'x'.repeat(129), '<script>alert(1)</script>']) {
      const { headers } = await call('GET', '/api/system/health', { headers: { 'x-request-id': given } });
      t.match(headers.get('x-request-id'), /^[0-9a-f-]{36}$/, given);
    }
  });

  await t.test('validation lists every field, unknown ones too, and does not coerce bodies', async (t) => {
    const answer = await call('POST', '/api/auth/verify_code', {
      body: { telegram_id: '5', code: 'x', extra: 1 },
    });
    t.equal(answer.status, 400);
    t.equal(answer.body.code, 'validation_failed');
    t.same(answer.body.errors.map((e: { path: string }) => e.path).sort(), [
      '/body/code',
      '/body/extra',
      '/body/telegram_id',
    ]);
    const empty = await call('POST', '/api/auth/verify_code', { body: {} });
    t.same(empty.body.errors, [
      { path: '/body/telegram_id', message: 'is required' },
      { path: '/body/code', message: 'is required' },
    ]);
    const none = await call('POST', '/api/auth/verify_code');
    t.equal(none.status, 400);
    const query = await call('GET', '/api/system/version?nonsense=1');
    t.equal(query.status, 400);
    t.equal(query.body.errors[0].path, '/querystring/nonsense');
  });

  await t.test('what cannot be read', async (t) => {
    const broken = await call('POST', '/api/auth/refresh', { body: '{"refresh_token":' });
    t.match([broken.status, broken.body.code], [400, 'malformed_request']);
    const type = await call('POST', '/api/auth/refresh', {
      body: 'refresh_token=1',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    t.match([type.status, type.body.code], [415, 'unsupported_media_type']);
    const large = await call('POST', '/api/auth/refresh', { body: { refresh_token: 'x'.repeat(4_000) } });
    t.match([large.status, large.body.code], [413, 'body_too_large']);
    const poison = await call('POST', '/api/auth/refresh', { body: '{"__proto__":{"admin":true}}' });
    t.equal(poison.status, 400);
    const url = await call('GET', '/api/%E0%A4%A');
    t.match([url.status, url.body.code], [400, 'malformed_request']);
    t.match(url.headers.get('x-request-id'), /^[0-9a-f-]{36}$/);
  });

  await t.test('CORS is for the listed origins', async (t) => {
    const preflight = (origin: string) =>
      call('OPTIONS', '/api/user/me', { headers: { origin, 'access-control-request-method': 'PATCH' } });
    const ours = await preflight('https://app.example.com');
    t.equal(ours.headers.get('access-control-allow-origin'), 'https://app.example.com');
    const allowed = ours.headers.get('access-control-allow-methods')?.split(', ');
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) t.ok(allowed?.includes(method), method);
    const other = await preflight('https://evil.example');
    t.equal(other.headers.get('access-control-allow-origin'), null);
  });

  await t.test('security headers', async (t) => {
    const { headers } = await call('GET', '/api/system/health');
    t.equal(headers.get('x-content-type-options'), 'nosniff');
    t.match(headers.get('content-security-policy'), /default-src 'self'/);
  });

  await t.test('one log line a request, without query, ids or secrets', async (t) => {
    events.length = 0;
    const user = await signedIn(world);
    await call('GET', `/api/sessions/${user.userId}?secret=abc`, { token: user.token });
    const lines = events.filter((e) => e.event === 'request');
    t.equal(lines.length, 1);
    t.match(lines[0]?.fields, {
      method: 'GET',
      route: '/api/sessions/:id',
      role: 'user',
      actor_id: user.userId,
    });
    t.notMatch(JSON.stringify(lines), /abc|eyJ/);
  });

  await t.test('a refresh token in a failed request does not reach the log', async (t) => {
    events.length = 0;
    await call('POST', '/api/auth/refresh', { body: { refresh_token: 'tsr_very-secret' } });
    t.notMatch(JSON.stringify(events), /very-secret/);
    t.ok(events.length > 0);
  });
});

t.test('rate limits', async (t) => {
  const world = await startWorld(t, {
    env: { TS_CODE_CALLS_PER_IP_PER_HOUR: '3', TS_CODES_PER_ID_PER_HOUR: '2' },
  });
  const ask = (telegramId: number, from: string) =>
    world.call('POST', '/api/auth/request_login_code', { body: { telegram_id: telegramId }, from });

  await t.test('per address, with headers that say when', async (t) => {
    const answers = [];
    for (let i = 0; i < 4; i++) answers.push(await ask(newTelegramId(), '198.51.100.1'));
    t.same(
      answers.map((a) => [a.status, a.headers.get('ratelimit-remaining')]),
      [
        [200, '2'],
        [200, '1'],
        [200, '0'],
        [429, '0'],
      ],
    );
    const last = answers[3];
    t.equal(last?.body.code, 'rate_limited');
    t.equal(last?.headers.get('content-type'), 'application/problem+json');
    t.match(last?.headers.get('retry-after'), /^\d+$/);
    t.equal(last?.headers.get('ratelimit-limit'), '3');
    t.equal((await ask(newTelegramId(), '198.51.100.2')).status, 200, 'another address is not limited');
  });

  await t.test('per Telegram id, whether it exists or not', async (t) => {
    const known = (await signedIn(world)).telegramId;
    for (const id of [known, newTelegramId()]) {
      const statuses = [];
      for (const last of [11, 12, 13]) statuses.push((await ask(id, `198.51.${id % 200}.${last}`)).status);
      t.same(statuses, [200, 200, 429]);
    }
  });

  await t.test('an untrusted peer cannot name its own address', async (t) => {
    const strict = await startWorld(t, {
      share: world,
      env: { TS_TRUSTED_PROXIES: '192.0.2.1', TS_CODE_CALLS_PER_IP_PER_HOUR: '2' },
    });
    const statuses = [];
    for (const last of [101, 102, 103])
      statuses.push(
        (
          await strict.call('POST', '/api/auth/request_login_code', {
            body: { telegram_id: newTelegramId() },
            from: `198.51.100.${last}`,
          })
        ).status,
      );
    t.same(statuses, [200, 200, 429], 'counted for the address of the socket');
  });
});

t.test('a server with routes of the test', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const other = await signedIn(world);
  const server = await createServer({
    ...world.collaborators,
    authenticate: async (request) => {
      const id = request.headers['x-test-user'];
      return typeof id === 'string' ? { role: 'user', userId: id, loginId: null } : { role: 'none' };
    },
    trustedProxies: [],
    corsOrigins: [],
    bodyBytesMax: 10_000,
    requestsPerMinute: 1_000,
    version: '1',
  });
  t.teardown(() => server.close());
  let made = 0;
  server.get('/boom', { config: { roles: ['none'] } }, async () => {
    throw new Error('SELECT password FROM users');
  });
  server.post(
    '/things',
    {
      config: { roles: ['user'], idempotency: { omit: ['token'] } },
      schema: { body: Type.Object({ fail: Type.Optional(Type.String()) }, { additionalProperties: false }) },
    },
    async (request, reply) => {
      made++;
      if (request.body.fail === 'problem') throw new Problem('forbidden');
      if (request.body.fail === 'crash') throw new Error('crash');
      return reply.code(201).send({ id: made, token: 'shown-once' });
    },
  );
  t.throws(() => server.get('/nobody', async () => ({})), /declares no roles/);
  await server.ready();
  const things = (key: string | null, body: object, userId = user.userId) =>
    server.inject({
      method: 'POST',
      url: '/things',
      payload: body,
      headers: { 'x-test-user': userId, ...(key === null ? {} : { 'idempotency-key': key }) },
    });

  await t.test('an unexpected error is 500 without a word about it', async (t) => {
    const answer = await server.inject('/boom');
    t.equal(answer.statusCode, 500);
    t.equal(answer.json().code, 'internal');
    t.notMatch(answer.body, /SELECT|password|stack/);
  });

  await t.test('the same key and request replays the first answer, secrets left out', async (t) => {
    const first = await things('key-1', {});
    const again = await things('key-1', {});
    t.same([first.statusCode, again.statusCode], [201, 201]);
    t.equal(again.json().id, first.json().id);
    t.equal(first.json().token, 'shown-once');
    t.equal(again.json().token, null);
    t.equal(again.headers['idempotency-replayed'], 'true');
    const { rows } = await world.pool.query(
      "SELECT response::text FROM idempotency_keys WHERE key = 'key-1'",
    );
    t.notMatch(JSON.stringify(rows), /shown-once/);
  });

  await t.test('another body under the key is refused; another caller has keys of their own', async (t) => {
    const reused = await things('key-1', { fail: 'problem' });
    t.match([reused.statusCode, reused.json().code], [409, 'idempotency_key_reused']);
    const before = made;
    t.equal((await things('key-1', {}, other.userId)).statusCode, 201);
    t.equal(made, before + 1);
  });

  await t.test('a refusal is replayed too, a crash is not', async (t) => {
    const before = made;
    const refused = [await things('key-2', { fail: 'problem' }), await things('key-2', { fail: 'problem' })];
    t.same(
      refused.map((r) => r.statusCode),
      [403, 403],
    );
    t.equal(made, before + 1);
    t.equal((await things('key-3', { fail: 'crash' })).statusCode, 500);
    t.equal((await things('key-3', { fail: 'crash' })).statusCode, 500);
    t.equal(made, before + 3);
  });

  await t.test('of many at once one is carried out', async (t) => {
    const before = made;
    const answers = await Promise.all(Array.from({ length: 8 }, () => things('key-4', {})));
    t.equal(made, before + 1);
    for (const answer of answers) t.ok([201, 409].includes(answer.statusCode), String(answer.statusCode));
  });

  await t.test('keys older than a day are forgotten', async (t) => {
    await world.pool.query(
      "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'key-1'",
    );
    const before = made;
    t.equal((await things('key-1', {})).statusCode, 201);
    t.equal(made, before + 1);
  });

  await t.test('a key must be visible ASCII', async (t) => {
    t.equal((await things('x'.repeat(201), {})).statusCode, 400);
  });
});
