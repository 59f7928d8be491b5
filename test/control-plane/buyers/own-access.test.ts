/** What opens a buyer's account, in the buyer's own hands; and the try of a login. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { readAccount } from '../../../gateway/live/store.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

const sha256Hex = (text: string) => createHash('sha256').update(text).digest('hex');
const HOUR_MS = 3_600_000;

t.test('own tokens, passwords and tries', async (t) => {
  /** Stands where the proxy is; says what the test wants. */
  let answer = (_request: IncomingMessage, response: ServerResponse): unknown => response.end();
  const asked: { url: string | undefined; login: string | undefined }[] = [];
  const proxy = createServer((request, response) => {
    const login = request.headers['proxy-authorization'];
    asked.push({ url: request.url, login });
    answer(request, response);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  const { port } = proxy.address() as AddressInfo;
  const world = await startWorld(t, { env: { TS_PUBLIC_PROXY_PORT: String(port) } });
  const { call, redis } = world;
  const admin = await signedIn(world, 'admin');
  const asAdmin = async (path: string, body: unknown) =>
    (await call('POST', path, { token: admin.token, body })).body;
  async function newBuyer(token: object = {}) {
    const made = await asAdmin('/api/admin/buyers', { name: 'Own', kyc_status: 'approved' });
    const { token: secret, id: tokenId } = await asAdmin(`/api/admin/buyers/${made.id}/tokens`, token);
    const me = (method: string, path: string, body?: unknown) =>
      call(method, path, { token: secret, ...(body === undefined ? {} : { body }) });
    return { account: made.account, password: made.proxy.password, tokenId, secret, me };
  }
  const credentials = async (account: string) =>
    (await readAccount(redis, account))?.credentials.map((c) => c.sha256Hex) ?? [];

  await t.test('where the proxy is, and which limits hold', async (t) => {
    const buyer = await newBuyer();
    t.match((await buyer.me('GET', '/api/buyer/me')).body, {
      limits: {},
      limits_in_force: { streams_max: 2_000, connections_per_second_max: 500 },
      proxy: { host: '127.0.0.1', ports: { http: port, https: port, socks5: port } },
    });
  });

  await t.test('a password reaches the gateways with the bounds of the token that made it', async (t) => {
    const expiresAt = new Date(Date.now() + HOUR_MS).toISOString();
    const buyer = await newBuyer({ allowed_ips: ['127.0.0.0/8'], expires_at: expiresAt });
    const made = await buyer.me('POST', '/api/buyer/proxy_passwords', { description: 'crawler' });
    t.match(made, {
      status: 201,
      body: {
        kind: 'proxy_password',
        scopes: ['proxy'],
        description: 'crawler',
        allowed_ips: ['127.0.0.0/8'],
        expires_at: expiresAt,
        proxy: { username: buyer.account, password: /^[0-9A-Za-z]{24}$/ },
      },
    });
    const { password } = made.body.proxy;
    t.ok((await credentials(buyer.account)).includes(sha256Hex(password)));
    const { items } = (await buyer.me('GET', '/api/buyer/tokens')).body;
    t.equal(items.length, 3, 'the first password, the token, and this one');
    t.same(items.map((item: { id: string; current: boolean }) => item.current && item.id).filter(Boolean), [
      buyer.tokenId,
    ]);
    t.notMatch(JSON.stringify(items), password);

    const other = await newBuyer();
    const path = `/api/buyer/tokens/${made.body.id}/revoke`;
    t.match(await other.me('POST', path), { status: 404 }, "not another's");
    t.match(await buyer.me('POST', path), { status: 200, body: { revoked_at: String, current: false } });
    t.notOk((await credentials(buyer.account)).includes(sha256Hex(password)));
    t.match(await buyer.me('POST', `/api/buyer/tokens/${buyer.tokenId}/revoke`), { body: { current: true } });
    t.match(await buyer.me('GET', '/api/buyer/me'), { status: 401 }, 'its own as well, as the last act');
  });

  await t.test('so many and no more', async (t) => {
    const buyer = await newBuyer();
    let made = { status: 201, body: {} as { code?: string } };
    for (let n = 2; n < 50; n++) made = await buyer.me('POST', '/api/buyer/proxy_passwords', {});
    t.equal(made.status, 201, 'the fiftieth, with the token and the first password');
    made = await buyer.me('POST', '/api/buyer/proxy_passwords', {});
    t.match(made, { status: 409, body: { code: 'too_many_tokens' } });
  });

  await t.test('a try tells what the proxy said', async (t) => {
    const buyer = await newBuyer();
    const attempt = (body: object) => buyer.me('POST', '/api/buyer/try', body);
    const username = `${buyer.account}-country-de`;
    const { password } = buyer;
    answer = (_request, response) =>
      response.setHeader('x-ts-request-id', 'r1').end(
        JSON.stringify({
          exit_id: 'e',
          country: 'DE',
          city: null,
          asn: 3320,
          session: null,
          bytes_left: 7,
        }),
      );
    t.match(await attempt({ username, password }), {
      status: 200,
      body: {
        ok: true,
        exit: { exit_id: 'e', country: 'DE', city: null, asn: 3320, session: null, bytes_left: 7 },
        error: null,
        request_id: 'r1',
      },
    });
    const login = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
    t.same(asked.splice(0), [{ url: 'http://echo.traffic-share.internal/', login }], 'asked once, for it');

    answer = (_request, response) =>
      response
        .writeHead(400, { 'x-ts-error': 'BAD_PARAM' })
        .end(JSON.stringify({ error: 'BAD_PARAM', detail: 'country' }));
    t.match((await attempt({ username: `user-${username}`, password })).body, {
      ok: false,
      exit: null,
      error: { code: 'BAD_PARAM', detail: 'country', http_status: 400 },
    });
    answer = (_request, response) => response.writeHead(200).end('x'.repeat(100_000));
    t.match((await attempt({ username, password: buyer.secret })).body, {
      ok: false,
      error: { code: 'PROXY_UNREACHABLE' },
    });
    answer = (request) => request.socket.destroy();
    t.match((await attempt({ username, password })).body, { error: { code: 'PROXY_UNREACHABLE' } });
    t.equal(asked.splice(0).length, 3);

    t.match(await attempt({ username, password }), { status: 200 });
    t.match(await attempt({ username, password }), { status: 429, body: { code: 'rate_limited' } });
  });

  await t.test('a login that is not the buyer’s is refused without asking the proxy', async (t) => {
    const buyer = await newBuyer();
    const other = await newBuyer();
    asked.splice(0);
    for (const login of [
      { username: buyer.account, password: other.password },
      { username: other.account, password: other.password },
      { username: 'nobody', password: buyer.password },
    ])
      t.match((await buyer.me('POST', '/api/buyer/try', login)).body, {
        ok: false,
        error: { code: 'AUTH_FAILED', http_status: 407 },
      });
    t.same(asked, []);
  });
});
