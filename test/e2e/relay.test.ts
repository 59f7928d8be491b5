/** A byte from a buyer's socket through a device and back, counted, settled and visible as money. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { get } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { HttpsProxyAgent } from 'https-proxy-agent';
import pg from 'pg';
import { SocksProxyAgent } from 'socks-proxy-agent';
import t from 'tap';
import { ProxyAgent, request as undiciRequest } from 'undici';
import {
  type Destination,
  startHttpDestination,
  startHttpsDestination,
  startTcpDestination,
} from '../helpers/destination.js';
import { assertLedger } from '../helpers/ledger.js';
import { freePort, startMigratedPostgres } from '../helpers/services.js';
import { type SilentListener, startSilentListener } from '../helpers/silent-listener.js';
import { socksConnect } from '../helpers/socks-client.js';
import { removeData, type Standalone, startStandalone } from '../helpers/standalone.js';
import { testCertificate } from '../helpers/test-certificate.js';

const MiB = 2 ** 20;
/** Ports of this test's destinations: the development exemption names host and port, so they are chosen before. */
const FIXED = { http: 0, https: 0, tcp: 0, refused: 0, silent: 0 };

let http: Destination;
let https: Destination;
let tcp: Destination;
let silent: SilentListener;
let system: Standalone;
let pool: pg.Pool;

/** What each TCP connection does, by its first line. */
function speak(socket: Socket): void {
  socket.once('data', (first: Buffer) => {
    const end = first.indexOf(10);
    const [word, argument] = first.subarray(0, end).toString().split(' ');
    const rest = first.subarray(end + 1);
    if (word === 'send')
      send(socket, Number(argument)).catch(() => {}); // the stalled reader is cut on purpose
    else if (word === 'sink') sink(socket, rest);
    else if (word === 'echo') {
      socket.write(rest);
      socket.pipe(socket);
    }
  });
}

const BLOCK = Buffer.alloc(MiB);
for (let i = 0; i < BLOCK.length; i++) BLOCK[i] = (i * 131 + (i >> 8)) & 255;

async function send(socket: Socket, total: number): Promise<void> {
  for (let left = total; left > 0 && !socket.destroyed; left -= BLOCK.length)
    if (!socket.write(left < BLOCK.length ? BLOCK.subarray(0, left) : BLOCK))
      await Promise.race([once(socket, 'drain'), once(socket, 'close')]);
  socket.end();
}

function sink(socket: Socket, rest: Buffer): void {
  const hash = createHash('sha256').update(rest);
  let bytes = rest.length;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  socket.on('end', () => socket.end(JSON.stringify({ bytes, sha256: hash.digest('hex') })));
}

t.before(async () => {
  http = await startHttpDestination((request, response) => {
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on('end', () => response.end(`${request.method} ${request.url} ${bytes}`));
  });
  https = await startHttpsDestination((request, response) =>
    response.end(`${request.method} ${request.url}`),
  );
  tcp = await startTcpDestination(speak);
  silent = await startSilentListener();
  FIXED.silent = silent.port;
  FIXED.https = https.port;
  FIXED.http = http.port;
  FIXED.tcp = tcp.port;
  FIXED.refused = await freePort();
  const database = await startMigratedPostgres();
  t.teardown(() => database.stop());
  pool = new pg.Pool({ connectionString: database.url });
  t.teardown(() => pool.end());
  system = await startStandalone({
    env: {
      TS_DATABASE_URL: database.url,
      TS_DEV_ALLOW: Object.values(FIXED)
        .map((port) => `127.0.0.1:${port}`)
        .join(','),
      TS_DIAL_TIMEOUT_MS: '1500',
    },
  });
});

t.teardown(async () => {
  await system?.stop();
  if (system) await removeData(system.dataDir);
  await http?.stop();
  await https?.stop();
  await tcp?.stop();
  silent?.stop();
});

function socks(port: number, overrides: Partial<Parameters<typeof socksConnect>[0]> = {}) {
  const { username, password } = system.file.buyer;
  return socksConnect({
    proxyPort: system.file.proxy_port,
    username,
    password,
    host: '127.0.0.1',
    port,
    ...overrides,
  });
}

async function collect(socket: Socket): Promise<{ bytes: number; sha256: string; text: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
    if (text.length < 1_000) text += chunk;
  });
  await once(socket, 'end');
  return { bytes, sha256: hash.digest('hex'), text };
}

interface Usage {
  total: { bytes_up: number; bytes_down: number; charged: string };
}
const usage = async () =>
  (await system.api('/api/buyer/me/usage', system.file.buyer.token)) as unknown as Usage;
const micros = (amount: unknown) => BigInt(String(amount).replace('.', ''));

/** Waits until what was relayed is booked: the gateway has nothing unsettled in motion. */
async function untilBooked(up: number, down: number): Promise<Usage> {
  for (let tries = 0; ; tries++) {
    const now = await usage();
    if (now.total.bytes_up >= up && now.total.bytes_down >= down) return now;
    if (tries > 100)
      throw new Error(`booked ${now.total.bytes_up} up ${now.total.bytes_down} down, not ${up} ${down}`);
    await delay(50);
  }
}

t.test('every kind of client; usage and money to the byte', async (t) => {
  const before = {
    usage: await usage(),
    provider: await system.api('/api/balance', system.file.provider.access_token),
    buyer: await system.api('/api/buyer/me/balance', system.file.buyer.token),
    up: http.bytesIn() + https.bytesIn(),
    down: http.bytesOut() + https.bytesOut(),
  };
  const { username, password } = system.file.buyer;
  const port = system.file.proxy_port;
  const url = `http://127.0.0.1:${FIXED.http}/hello`;

  const tunnelled = new ProxyAgent({
    uri: `http://127.0.0.1:${port}`,
    token: basic(username, password),
    proxyTunnel: true,
  });
  const one = await undiciRequest(url, { dispatcher: tunnelled, method: 'POST', body: 'x'.repeat(10_000) });
  t.equal(await one.body.text(), 'POST /hello 10000', 'undici by CONNECT');
  await tunnelled.close();

  for (const agent of [
    new SocksProxyAgent(`socks5h://${username}:${password}@127.0.0.1:${port}`),
    new HttpsProxyAgent(`http://${username}:${password}@127.0.0.1:${port}`),
  ]) {
    const text = await new Promise<string>((resolve, reject) => {
      get(url, { agent }, (response) => {
        let body = '';
        response.on('data', (chunk) => {
          body += chunk;
        });
        response.on('end', () => resolve(body));
      }).on('error', reject);
    });
    t.equal(text, 'GET /hello 0', agent.constructor.name);
    agent.destroy();
  }

  const forwarded = new ProxyAgent({
    uri: `http://127.0.0.1:${port}`,
    token: basic(username, password),
    proxyTunnel: false,
  });
  const two = await undiciRequest(url, { dispatcher: forwarded });
  t.equal(await two.body.text(), 'GET /hello 0', 'undici by plain HTTP');
  await forwarded.close();

  const secure = new ProxyAgent({
    uri: `http://127.0.0.1:${port}`,
    token: basic(username, password),
    requestTls: { ca: testCertificate.cert },
  });
  const three = await undiciRequest(`https://127.0.0.1:${FIXED.https}/secret`, { dispatcher: secure });
  t.equal(await three.body.text(), 'GET /secret', 'https, its certificate verified end to end');
  await secure.close();

  while (http.connections.size + https.connections.size > 0) await delay(10);
  const up = http.bytesIn() + https.bytesIn() - before.up;
  const down = http.bytesOut() + https.bytesOut() - before.down;
  const after = await untilBooked(before.usage.total.bytes_up + up, before.usage.total.bytes_down + down);
  t.equal(after.total.bytes_up - before.usage.total.bytes_up, up, 'bytes up are what the destination got');
  t.equal(after.total.bytes_down - before.usage.total.bytes_down, down, 'bytes down are what it sent');

  const price = await system.api('/api/daily_price', system.file.provider.access_token);
  const provider = await system.api('/api/balance', system.file.provider.access_token);
  const buyer = await system.api('/api/buyer/me/balance', system.file.buyer.token);
  const total = BigInt(after.total.bytes_up + after.total.bytes_down);
  const earned = (total * micros(price.price_per_gb)) / 10n ** 9n;
  const lifetime = micros(provider.lifetime);
  t.ok(
    lifetime <= earned && earned - lifetime <= 2n,
    `provider earned ${lifetime} of ${earned} micro-dollars`,
  );
  t.ok(micros(provider.available) >= micros(before.provider.available), 'the balance grew');
  t.equal(
    micros(before.buyer.balance) - micros(buyer.balance),
    micros(after.total.charged) - micros(before.usage.total.charged),
    'the buyer paid what usage says',
  );
});

t.test('the echo page tells what the balance still pays for', async (t) => {
  const { username, password, token } = system.file.buyer;
  const answer = await undiciRequest('http://echo.traffic-share.internal/', {
    dispatcher: new ProxyAgent({
      uri: `http://127.0.0.1:${system.file.proxy_port}`,
      token: basic(username, password),
      proxyTunnel: false,
    }),
  });
  const { bytes_left } = (await answer.body.json()) as { bytes_left: number };
  const { balance } = await system.api('/api/buyer/me/balance', token);
  const { price_per_gb } = await system.api('/api/buyer/me', token);
  const paysFor = (Number(balance) / Number(price_per_gb)) * 1e9;
  t.ok(Math.abs(bytes_left / paysFor - 1) < 0.01, `${bytes_left} bytes of ${paysFor}`);
});

t.test('1 GiB each way: same SHA-256, metered to the byte', async (t) => {
  const before = { ...(await usage()).total };
  const size = 1024 * MiB;
  const expected = createHash('sha256');
  for (let left = size; left > 0; left -= BLOCK.length) expected.update(BLOCK);
  const sha256 = expected.digest('hex');

  const down = await socks(FIXED.tcp);
  t.equal(down.reply, 0);
  down.socket.write(`send ${size}\n`);
  const got = await collect(down.socket);
  down.socket.end();
  t.same([got.bytes, got.sha256], [size, sha256], 'down');

  const up = await socks(FIXED.tcp);
  up.socket.write('sink\n');
  const answer = collect(up.socket);
  await send(up.socket, size);
  const told = (await answer).text;
  t.same(JSON.parse(told), { bytes: size, sha256 }, 'up, with half-close');

  const upBytes = `send ${size}\n`.length + 'sink\n'.length + size;
  const downBytes = size + told.length;
  const after = await untilBooked(before.bytes_up + upBytes, before.bytes_down + downBytes);
  t.equal(after.total.bytes_up - before.bytes_up, upBytes);
  t.equal(after.total.bytes_down - before.bytes_down, downBytes);
});

t.test('200 streams at once over one tunnel, a stalled reader among them', async (t) => {
  const stalled = await socks(FIXED.tcp);
  stalled.socket.pause();
  stalled.socket.write(`send ${256 * MiB}\n`);
  const size = 512 * 1024;
  const results = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const { socket, reply } = await socks(FIXED.tcp);
      if (reply !== 0) return reply;
      socket.write(`send ${size}\n`);
      const { bytes } = await collect(socket);
      socket.end();
      return bytes === size ? 'ok' : bytes;
    }),
  );
  t.same(results, Array(200).fill('ok'));
  const { bytesDown } = await system.status();
  await delay(300);
  t.equal((await system.status()).bytesDown, bytesDown, 'the stalled stream has stopped at its window');
  stalled.socket.destroy();
});

t.test('each failure has its code, in HTTP and in SOCKS5', async (t) => {
  const { username, password } = system.file.buyer;
  const rows: Array<{
    name: string;
    host?: string;
    port?: number;
    user?: string;
    pass?: string;
    http: string;
    socks: { auth?: number; reply?: number };
  }> = [
    { name: 'wrong password', pass: 'wrong', http: '407 AUTH_FAILED', socks: { auth: 1 } },
    { name: 'unknown account', user: 'nobody', http: '407 AUTH_FAILED', socks: { auth: 1 } },
    {
      name: 'unknown parameter',
      user: `${username}-colour-red`,
      http: '400 BAD_PARAM colour',
      socks: { auth: 4 },
    },
    { name: 'bad value', user: `${username}-country-xyz`, http: '400 BAD_PARAM country', socks: { auth: 4 } },
    { name: 'no device there', user: `${username}-country-de`, http: '503 NO_PEER', socks: { reply: 3 } },
    ...[
      '127.0.0.1',
      '10.0.0.1',
      '169.254.169.254',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '2130706433',
      'localhost',
    ].map((host) => ({ name: host, host, port: 80, http: '403 IP_PROHIBITED', socks: { reply: 2 } })),
    { name: 'mail port', host: '93.184.216.34', port: 25, http: '403 PORT_BLOCKED', socks: { reply: 2 } },
    {
      name: 'unresolvable',
      host: 'no-such-name.invalid',
      port: 80,
      http: '502 DNS_FAIL',
      socks: { reply: 4 },
    },
    { name: 'no answer', port: FIXED.silent, http: '504 CONNECT_TIMEOUT', socks: { reply: 4 } },
    { name: 'refused', port: FIXED.refused, http: '502 REFUSED', socks: { reply: 5 } },
  ];
  const bytesBefore = await system.status();
  for (const row of rows) {
    const host = row.host ?? '127.0.0.1';
    const port = row.port ?? FIXED.tcp;
    const user = row.user ?? username;
    const pass = row.pass ?? password;
    const head = await httpConnect(`${host}:${port}`, user, pass);
    t.equal(head.status, row.http, `${row.name}: HTTP`);
    t.equal(head.headers.get('x-ts-error'), row.http.split(' ')[1], `${row.name}: X-TS-Error`);
    t.match(head.headers.get('proxy-status') ?? '', /^traffic-share; error=/, `${row.name}: Proxy-Status`);
    const answer = await socks(port, { host: host.replace(/^\[|\]$/g, ''), username: user, password: pass });
    answer.socket.destroy();
    if (row.socks.auth !== undefined) t.equal(answer.auth, row.socks.auth, `${row.name}: SOCKS5 auth status`);
    else t.equal(answer.reply, row.socks.reply, `${row.name}: SOCKS5 reply`);
  }
  const bytesAfter = await system.status();
  t.same(
    [bytesAfter.bytesUp, bytesAfter.bytesDown],
    [bytesBefore.bytesUp, bytesBefore.bytesDown],
    'nothing was counted for any of them',
  );
});

t.test('Σ ledger is zero', async (t) => {
  await assertLedger(t, pool);
});

function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

async function httpConnect(authority: string, username: string, password: string) {
  const socket = connect(system.file.proxy_port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(
    `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: ${basic(username, password)}\r\n\r\n`,
  );
  let text = '';
  for await (const chunk of socket) {
    text += chunk;
    if (text.includes('\r\n\r\n')) break;
  }
  socket.destroy();
  const [statusLine = '', ...lines] = (text.split('\r\n\r\n')[0] ?? '').split('\r\n');
  const headers = new Map(
    lines.map((line): [string, string] => [
      line.slice(0, line.indexOf(':')).toLowerCase(),
      line.slice(line.indexOf(':') + 1).trim(),
    ]),
  );
  return { status: statusLine.replace(/^HTTP\/1\.1 /, ''), headers };
}
