/** `/api/live` through real HTTP: figures that move with bytes through a real gateway, and every way a stream ends. */
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { issueAccessToken } from '../../../control-plane/auth/access-token.js';
import { signedIn, startWorld, type TestWorld } from '../../helpers/control-plane.js';
import { EventSourceClient } from '../../helpers/event-source.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { stopwatch } from '../../helpers/stopwatch.js';
import { sharingProvider, worldGateway } from '../../helpers/world-gateway.js';

const QUICK = { TS_LIVE_INTERVAL_MS: '50', TS_API_REQUESTS_PER_MINUTE: '100000' };
const refused = (status: number, code: string) =>
  Object.assign(new Error('refused'), { status, body: { code } }) as Error;

async function listen(t: Test, world: TestWorld, token: string, headers = {}): Promise<EventSourceClient> {
  const authorization = `Bearer ${token}`;
  const client = await EventSourceClient.open(`${world.url}/api/live`, { authorization, ...headers });
  t.teardown(() => client.close());
  return client;
}

async function newBuyer(world: TestWorld, adminToken: string) {
  const api = async (method: string, path: string, body?: object, token = adminToken) =>
    (await world.call(method, path, { token, ...(body && { body }) })).body;
  const made = await api('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
  const { token, id: tokenId } = await api('POST', `/api/admin/buyers/${made.id}/tokens`, {});
  await api('POST', '/api/admin/credits', { buyer_id: made.id, amount: '10', reason: 'test' });
  await api('POST', '/api/buyer/accept_policy', undefined, token);
  return { id: made.id, token, tokenId, account: made.account, password: made.proxy.password };
}

t.test('bytes through a real gateway, as provider, buyer and admin see them', async (t) => {
  const world = await startWorld(t, {
    background: true,
    env: { ...QUICK, TS_CORS_ORIGINS: 'https://app.example', TS_HOLD_TIME_S: '3600' },
  });
  const admin = await signedIn(world, 'admin');
  const buyer = await newBuyer(world, admin.token);
  const { gateway } = await worldGateway(t, world, 'g1');
  const provider = await sharingProvider(world);
  const { ticket, sessionId } = await provider.start();
  const device = await PlainDevice.connect(gateway.tunnelPort, ticket);
  t.teardown(() => device.socket.terminate());
  await device.greet();
  device.echo();

  const streams = {
    provider: await listen(t, world, provider.token),
    buyer: await listen(t, world, buyer.token),
    admin: await listen(t, world, admin.token, { origin: 'https://app.example' }),
  };
  const { headers } = streams.admin.response;
  t.match(headers, {
    'content-type': /^text\/event-stream/,
    'cache-control': /no-store/,
    'access-control-allow-origin': 'https://app.example',
    'x-request-id': String,
    'ratelimit-limit': String,
  });
  for (const [who, stream] of Object.entries(streams)) {
    await stream.next(({ event }) => event === 'snapshot');
    t.equal(stream.events[0]?.event, 'snapshot', `${who}: the whole state first`);
    t.equal(stream.retryMs, 3_000);
  }
  t.match(streams.provider.events[0]?.data, {
    status: 'active',
    balance: { available: '0.000000', pending: '0.000000', currency: 'USD' },
    today: { bytes_up: 0, bytes_down: 0, earned: '0.000000' },
    sessions: [{ session_id: sessionId, bytes_up: 0, bytes_down: 0 }],
    bytes_per_second: 0,
  });
  t.match(streams.buyer.events[0]?.data, {
    status: 'active',
    balance: { balance: '10.000000', currency: 'USD' },
    today: { bytes_up: 0, bytes_down: 0, charged: '0.000000' },
  });
  t.match(streams.admin.events[0]?.data, { fleet: { gateways: Number }, sessions_active: 1 });

  const { socket, reply } = await socksConnect({
    proxyPort: gateway.proxyPort,
    username: buyer.account,
    password: buyer.password,
    host: 'www.example.com',
    port: 443,
  });
  t.teardown(() => socket.destroy());
  t.equal(reply, 0);
  const BYTES = 3_000_000;
  let back = 0;
  socket.on('data', (chunk: Buffer) => {
    back += chunk.length;
  });
  socket.write(Buffer.alloc(BYTES, 'x'));
  const whole = (stream: EventSourceClient) => {
    const { today } = stream.state;
    return today.bytes_up === BYTES && today.bytes_down === BYTES;
  };
  for (const [who, stream] of Object.entries(streams)) {
    while (!whole(stream)) await stream.changed();
    t.pass(`${who} is told of every byte`);
    const rates = stream.events.map(({ data }) => data.bytes_per_second ?? 0);
    t.ok(Math.max(...rates) > 0, `${who}: and how fast they went`);
  }
  t.equal(back, BYTES);

  const api = async (path: string, token: string) => (await world.call('GET', path, { token })).body;
  t.same(streams.provider.state.today.earned, '0.003000', '6 MB at 0.50 a GB');
  t.match(await api('/api/balance', provider.token), {
    available: streams.provider.state.balance.available,
    pending: streams.provider.state.balance.pending,
  });
  t.equal(streams.provider.state.balance.pending, '0.003000');
  t.match(streams.provider.state.sessions, [
    { session_id: sessionId, bytes_up: BYTES, bytes_down: BYTES, earned: '0.003000' },
  ]);
  t.equal((await api('/api/buyer/me/balance', buyer.token)).balance, streams.buyer.state.balance.balance);
  t.equal(streams.buyer.state.today.charged, '0.012000');
  t.equal(streams.admin.state.today.charged, '0.012000');

  const changes = streams.provider.events.filter(({ event }) => event === 'change');
  t.ok(changes.length > 0 && changes.every(({ data }) => !('status' in data)), 'only what has changed');
  const ids = streams.provider.events.map(({ id }) => Number(id));
  t.same(
    ids,
    [...new Set(ids)].sort((a, b) => a - b),
    'ids rise',
  );

  await world.call('POST', '/api/traffic/stop', { token: provider.token, body: { session_id: sessionId } });
  while (streams.provider.state.sessions.length > 0) await streams.provider.changed();
  t.pass('a session that is over is told no more');
});

t.test('a ticket opens one stream', async (t) => {
  const world = await startWorld(t, { env: { ...QUICK, TS_LIVE_TICKET_TTL_S: '1' } });
  const user = await signedIn(world);
  const admin = await signedIn(world, 'admin');
  const buyer = await newBuyer(world, admin.token);
  const give = (token: string) => world.call('POST', '/api/live/ticket', { token });
  const open = (ticket: string) => EventSourceClient.open(`${world.url}/api/live?ticket=${ticket}`);

  for (const { token } of [user, admin, buyer]) {
    const { body, headers } = await give(token);
    t.match(body, { ticket: /^tsl_/, expires_in: 1 });
    t.equal(headers.get('cache-control'), 'no-store');
    const [first, second] = await Promise.allSettled([open(body.ticket), open(body.ticket)]);
    const won = [first, second].filter(({ status }) => status === 'fulfilled');
    const lost = [first, second].find(({ status }) => status === 'rejected') as PromiseRejectedResult;
    t.equal(won.length, 1, 'of two that come at once, one');
    t.match(lost.reason, refused(401, 'invalid_token'));
    const stream = (won[0] as PromiseFulfilledResult<EventSourceClient>).value;
    t.teardown(() => stream.close());
    await stream.next(({ event }) => event === 'snapshot');
    await t.rejects(open(body.ticket), refused(401, 'invalid_token'), 'used');
  }
  await t.rejects(open('tsl_nothing'), refused(401, 'invalid_token'));
  await t.rejects(open(''), refused(401, 'invalid_token'));
  await t.rejects(EventSourceClient.open(`${world.url}/api/live`), refused(401, 'unauthenticated'));
  t.equal((await world.call('POST', '/api/live/ticket')).status, 401);
  t.equal((await world.call('GET', '/api/user/me?ticket=x')).status, 401, 'and opens nothing else');
  t.equal((await world.call('GET', '/api/live?what=1', { token: user.token })).status, 400);

  const { body: late } = await give(user.token);
  const [key] = await world.redis.keys('ts:stream-ticket:*');
  t.ok(key !== undefined && !key.includes(late.ticket), 'only its hash is kept');
  while ((await world.redis.exists(key as string)) === 1) await new Promise((done) => setTimeout(done, 50));
  await t.rejects(open(late.ticket), refused(401, 'invalid_token'), 'expired');

  const { body: orphan } = await give(user.token);
  await world.call('POST', '/api/auth/logout', { token: user.token, body: {} });
  await t.rejects(open(orphan.ticket), refused(401, 'invalid_token'), 'its login has ended');
});

t.test('a stream ends with the right to it', async (t) => {
  const world = await startWorld(t, { env: { ...QUICK, TS_LIVE_LIFE_S: '2' } });
  const admin = await signedIn(world, 'admin');
  const buyer = await newBuyer(world, admin.token);
  const post = (path: string, body: object, token = admin.token) => world.call('POST', path, { token, body });

  async function endsWith(t: Test, token: string, act: () => Promise<unknown>, code: string): Promise<void> {
    const stream = await listen(t, world, token);
    const bystander = await listen(t, world, admin.token);
    await stream.next(({ event }) => event === 'snapshot');
    await act();
    const end = await stream.next(({ event }) => event === 'end');
    t.same(end.data, { code });
    await stream.untilEnded();
    t.equal(bystander.ended, false, 'others go on');
    bystander.close();
  }

  await t.test('logout', async (t) => {
    const user = await signedIn(world);
    await endsWith(t, user.token, () => post('/api/auth/logout', {}, user.token), 'token_ended');
    await t.rejects(listen(t, world, user.token), refused(401, 'invalid_token'));
  });
  await t.test('a ban', async (t) => {
    const user = await signedIn(world);
    const ban = () => post(`/api/admin/user/${user.userId}/ban`, { reason: 'test' });
    await endsWith(t, user.token, ban, 'banned');
    await t.rejects(listen(t, world, user.token), refused(403, 'banned'));
    t.match(await world.call('POST', '/api/live/ticket', { token: user.token }), { status: 403 });
  });
  await t.test('a buyer token that is revoked', async (t) => {
    await endsWith(
      t,
      buyer.token,
      () => post(`/api/admin/tokens/${buyer.tokenId}/revoke`, {}),
      'token_ended',
    );
    await t.rejects(listen(t, world, buyer.token), refused(401, 'invalid_token'));
  });
  await t.test('a buyer token that expires', async (t) => {
    const path = `/api/admin/buyers/${buyer.id}/tokens`;
    const { body } = await post(path, { expires_at: new Date(Date.now() + 700).toISOString() });
    await endsWith(t, body.token, async () => {}, 'token_ended');
  });
  await t.test('an admin who is none any more', async (t) => {
    const other = await signedIn(world, 'admin');
    const demote = () => world.pool.query('UPDATE users SET is_admin = false WHERE id = $1', [other.userId]);
    await endsWith(t, other.token, demote, 'token_ended');
  });
  await t.test('and after its life', async (t) => {
    const user = await signedIn(world);
    const stream = await listen(t, world, user.token);
    t.same((await stream.next(({ event }) => event === 'end')).data, { code: 'connect_again' });
  });
});

t.test('an access token that expires', async (t) => {
  const world = await startWorld(t, { env: QUICK });
  const user = await signedIn(world);
  const claims = { userId: user.userId, role: 'user' as const, loginId: user.loginId, ttlS: 1 };
  const stream = await listen(t, world, await issueAccessToken(world.config.jwtSecret, claims));
  t.same((await stream.next(({ event }) => event === 'end')).data, { code: 'token_ended' });
  const again = await listen(t, world, user.token);
  t.ok(await again.next(({ event }) => event === 'snapshot'), 'the login is as good as before');
});

t.test('bounds, heartbeats, and the end of the server', async (t) => {
  const world = await startWorld(t, {
    env: {
      ...QUICK,
      TS_LIVE_STREAMS_PER_ACTOR_MAX: '2',
      TS_LIVE_STREAMS_MAX: '3',
      TS_LIVE_HEARTBEAT_MS: '100',
    },
  });
  const [user, other] = [await signedIn(world), await signedIn(world)];
  const first = await listen(t, world, user.token);
  const second = await listen(t, world, user.token);
  const tooMany = Object.assign(refused(429, 'too_many_streams'), { headers: { 'retry-after': '5' } });
  await t.rejects(listen(t, world, user.token), tooMany, 'of one actor');
  const third = await listen(t, world, other.token);
  await t.rejects(listen(t, world, other.token), tooMany, 'in all');
  second.close();
  await once(second.response, 'close');
  let fourth: EventSourceClient | null = null;
  while (fourth === null) fourth = await listen(t, world, user.token).catch(() => null);
  t.pass('a place is free again');
  while (first.comments < 2) await first.changed();
  t.equal(first.events.length, 1, 'nothing has changed: comments only');

  const tookMs = stopwatch();
  await world.app.close();
  for (const stream of [first, third, fourth]) {
    await stream.untilEnded();
    t.same(stream.events.at(-1), { event: 'end', id: undefined, data: { code: 'shutting_down' } });
  }
  t.ok(tookMs() < 2_000, 'a drain does not wait for listeners');
});

t.test('the record and Redis are asked once for all who listen', async (t) => {
  const world = await startWorld(t, {
    env: { ...QUICK, TS_LIVE_INTERVAL_MS: '200', TS_LIVE_STREAMS_PER_ACTOR_MAX: '100' },
  });
  const users = await Promise.all(Array.from({ length: 10 }, () => signedIn(world)));
  let queries = 0;
  const query = world.pool.query.bind(world.pool) as (...args: unknown[]) => unknown;
  Object.defineProperty(world.pool, 'query', {
    value: (...args: unknown[]) => {
      if (typeof args[0] === 'string' && args[0].includes('FROM users u\n         LEFT JOIN ledger_accounts'))
        queries++;
      return query(...args);
    },
  });
  const streams = await Promise.all(
    users.flatMap(({ token }) => Array.from({ length: 5 }, () => listen(t, world, token))),
  );
  for (const stream of streams) await stream.next(({ event }) => event === 'snapshot');
  queries = 0;
  const startMs = performance.now();
  while (queries < 5) await new Promise((done) => setTimeout(done, 20));
  const looks = (performance.now() - startMs) / 200;
  t.ok(looks > 3, `50 streams of 10 users, and 5 questions took ${looks.toFixed(1)} intervals`);
});
