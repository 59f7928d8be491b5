/** The buyers' ports of a whole gateway: TLS, dedicated ports, echo page, exits, failed logins. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import { writeAccount } from '../../gateway/live/store.js';
import { developmentCertificateFiles } from '../../gateway/runtime/development-certificate.js';
import { type GatewayRig, startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';
import { fundsKey } from '../helpers/wallet-bank.js';
import { basic, eventually, SOCKS_SUCCESS, socksRequest, TestClient } from './listeners/fake-pipeline.js';

const ECHO = 'echo.traffic-share.internal';
const GB = 1_000_000_000;
let rig: GatewayRig;

t.before(async () => {
  rig = await startGatewayRig({
    TS_PROXY_TLS_DEV: '1',
    TS_PROXY_PORTS: '0:socks5,0:http,0:tls',
    TS_LOGIN_PAIR_FAILURES_MAX: '3',
    TS_LOGIN_REFUSAL_MS: '20',
  });
});
t.teardown(() => rig?.stop());

async function device(t: Test, fields: Parameters<GatewayRig['ticket']>[0] = {}) {
  const { text, record } = await rig.ticket(fields);
  const plain = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  await plain.greet();
  t.teardown(async () => {
    plain.socket.terminate();
    while ((await rig.status()).tunnels > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });
  return { plain, record };
}

const login = (username = rig.username, password = rig.password) =>
  `Proxy-Authorization: ${basic(username, password)}\r\n`;

/** The echo page's answer by plain HTTP. */
async function echo(t: Test, username = rig.username, localAddress = '127.0.0.1') {
  const client = await TestClient.connect(t, rig.gateway.proxyPort, localAddress);
  client.send(`GET http://${ECHO}/ HTTP/1.1\r\nHost: x\r\n${login(username)}\r\n`);
  const text = await client.match(/\}\n$/);
  client.socket.destroy();
  return {
    status: Number(text.slice(9, 12)),
    facts: JSON.parse(text.slice(text.indexOf('\r\n\r\n'))) as Record<string, unknown>,
  };
}

/** What a CONNECT says of its exit, or the status of the refusal. */
async function exitOf(t: Test, username = rig.username) {
  const client = await TestClient.connect(t, rig.gateway.proxyPort);
  client.send(`CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n${login(username)}\r\n`);
  const head = await client.match(/\r\n\r\n/);
  client.socket.destroy();
  const header = (name: string) => new RegExp(`\r\n${name}: ([^\r]*)\r\n`).exec(head)?.[1] ?? null;
  return {
    status: Number(head.slice(9, 12)),
    id: header('X-TS-Exit-Id'),
    country: header('X-TS-Exit-Country'),
    session: header('X-TS-Session'),
  };
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${rig.gateway.metricsPort}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

t.test('the echo page tells the exit that a connection then gets, without dialling', async (t) => {
  const { plain } = await device(t, { country: 'US' });
  plain.echo();
  const opens: unknown[] = [];
  const serve = plain.onFrame;
  plain.onFrame = (frame) => {
    if (frame.type === 4) opens.push(frame);
    serve?.(frame);
  };
  const username = `${rig.username}-country-us-session-cart7`;
  const { status, facts } = await echo(t, username);
  t.equal(status, 200);
  t.same(Object.keys(facts), ['exit_id', 'country', 'city', 'asn', 'session', 'bytes_left']);
  t.match(facts, { exit_id: /^[\w-]{16}$/, country: 'US', city: null, asn: null, session: 'cart7' });
  t.ok((facts.bytes_left as number) > 0);
  t.equal(opens.length, 0, 'no stream was opened');
  t.same(await exitOf(t, username), { status: 200, id: facts.exit_id, country: 'US', session: 'cart7' });
  t.equal(opens.length, 1);
  t.same((await echo(t, username)).facts.exit_id, facts.exit_id, 'the session keeps it');
  const text = JSON.stringify(facts);
  t.notOk(/127\.0\.0\.1|device|provider/i.test(text), text);
  await eventually(() => true);
  const counted = (await rig.meters()).reduce((sum, meter) => sum + meter.bytesUp + meter.bytesDown, 0);
  t.equal(counted, 0, 'free of charge');
});

t.test('bytes left are those that the whole balance pays for, set aside here or not', async (t) => {
  const { plain } = await device(t);
  plain.echo();
  const buyerId = randomUUID();
  const micros = 1e9;
  rig.bank.funds.set(fundsKey({ kind: 'buyer', ownerId: buyerId }), micros);
  await writeAccount(rig.redis, { ...rig.account, account: 'wealthy', buyerId });
  const { facts } = await echo(t, 'wealthy');
  t.equal(facts.bytes_left, Math.floor((micros * GB) / Number(rig.account.priceMicrosPerGb)));
});

t.test('bytes left of a quota are bytes, and the least of all bounds counts', async (t) => {
  const { plain } = await device(t);
  plain.echo();
  const buyerId = randomUUID();
  rig.bank.funds.set(fundsKey({ kind: 'day', ownerId: buyerId }), 5_000_000);
  const limits = { ...rig.account.limits, quotas: ['day' as const] };
  await writeAccount(rig.redis, { ...rig.account, account: 'daily', buyerId, limits });
  t.equal((await echo(t, 'daily')).facts.bytes_left, 5_000_000);
});

t.test('no device, no balance, no place: refused as a connection would be', async (t) => {
  const { status, facts } = await echo(t, `${rig.username}-session-nobody`);
  t.equal(status, 503);
  t.equal(facts.error, 'NO_PEER');
  await writeAccount(rig.redis, {
    ...rig.account,
    account: 'slow',
    limits: { ...rig.account.limits, streamsMax: 0 },
  });
  const denied = await echo(t, 'slow');
  t.equal(denied.status, 429);
  t.equal(denied.facts.error, 'CONN_LIMIT');
});

t.test('the exit id stays while the exit does, and changes with it; a session is named back', async (t) => {
  const first = await device(t);
  first.plain.echo();
  const username = `${rig.username}-session-s1`;
  const before = await exitOf(t, username);
  t.match(before, { status: 200, country: 'US', session: 's1' });
  t.equal((await exitOf(t, username)).id, before.id);
  const rotating = await exitOf(t);
  t.equal(rotating.session, null);
  t.equal(rotating.id, before.id, 'the same exit has one name');
  first.plain.socket.terminate();
  while ((await rig.status()).tunnels > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const second = await device(t);
  second.plain.echo();
  const after = await exitOf(t, username);
  t.equal(after.status, 200);
  t.not(after.id, before.id);
  t.notOk(after.id?.includes(second.record.providerId), 'and says nothing of whose it is');
});

t.test('TLS with the development certificate; each dedicated port speaks its protocol', async (t) => {
  const { plain } = await device(t);
  plain.echo();
  const { certPath } = developmentCertificateFiles(rig.config.dataDir);
  const ca = readFileSync(certPath);
  const [socks, http, tls] = rig.gateway.dedicatedPorts.map(({ port }) => port) as [number, number, number];
  t.same(
    rig.gateway.dedicatedPorts.map(({ protocol }) => protocol),
    ['socks5', 'http', 'tls'],
  );
  const request = socksRequest('example.org', 443, rig.username, rig.password);
  for (const port of [rig.gateway.proxyPort, tls]) {
    const inside = await TestClient.connectTls(t, port, { ca });
    inside.send(Buffer.concat([request, Buffer.from('early')]));
    const expected = Buffer.concat([SOCKS_SUCCESS, Buffer.from('early')]);
    t.same(await inside.bytes(expected.length), expected, `port ${port === tls ? 'tls' : 'main'}`);
    const payload = Buffer.alloc(500_000, 'abc');
    inside.socket.end(payload);
    t.ok((await inside.end()).subarray(expected.length).equals(payload));
  }
  const clear = await TestClient.connect(t, socks);
  clear.send(request);
  t.same(await clear.bytes(SOCKS_SUCCESS.length), SOCKS_SUCCESS);
  const forwarded = await TestClient.connect(t, http);
  forwarded.send(`GET http://${ECHO}/ HTTP/1.1\r\nHost: x\r\n${login()}\r\n`);
  t.match(await forwarded.match(/\}\n$/), /^HTTP\/1\.1 200 /);
  const wrong = await TestClient.connect(t, tls);
  wrong.send(request);
  t.same(await wrong.end(), Buffer.from([5, 0xff]));
});

t.test('a stream that is cut inside TLS is a reset to the buyer', async (t) => {
  const { plain } = await device(t);
  plain.echo();
  const ca = readFileSync(developmentCertificateFiles(rig.config.dataDir).certPath);
  const tcp = connect({ port: rig.gateway.proxyPort, host: '127.0.0.1' });
  t.teardown(() => tcp.destroy());
  const client = connectTls({ socket: tcp, ca, servername: 'localhost' });
  await once(client, 'secureConnect');
  client.write(socksRequest('example.org', 443, rig.username, rig.password));
  client.write('hello');
  let received = '';
  client.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1');
  });
  await eventually(() => received.endsWith('hello'));
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once('error', resolve));
  plain.socket.terminate();
  t.equal((await failed).code, 'ECONNRESET');
});

t.test(
  'wrong logins: a pair waits with Retry-After, whatever a header claims; nobody else does',
  async (t) => {
    const { plain } = await device(t);
    plain.echo();
    const { proxyPort } = rig.gateway;
    const attempt = async (localAddress: string, password: string, header = '') => {
      const client = await TestClient.connect(t, proxyPort, localAddress);
      client.send(
        `CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n${header}${login(rig.username, password)}\r\n`,
      );
      const answer = await client.match(/\r\n\r\n/);
      client.socket.destroy();
      return answer;
    };
    for (let i = 0; i < 3; i++) {
      const startMs = performance.now();
      const forged = `X-Forwarded-For: 203.0.113.${i}\r\nForwarded: for=203.0.113.${i}\r\n`;
      t.match(await attempt('127.0.0.9', `wrong${i}`, forged), /^HTTP\/1\.1 407 AUTH_FAILED\r\n/);
      t.ok(performance.now() - startMs >= 20 - 1, 'as long as an unknown account would take');
    }
    const refused = await attempt('127.0.0.9', rig.password, 'X-Forwarded-For: 198.51.100.1\r\n');
    t.match(
      refused,
      /^HTTP\/1\.1 429 RATE_LIMIT\r\n[\s\S]*details="RATE_LIMIT logins: [\s\S]*\r\nRetry-After: 1\r\n/,
    );
    t.match(await attempt('127.0.0.10', rig.password), /^HTTP\/1\.1 200 /, 'another address gets in');
    const socks = await TestClient.connect(t, proxyPort, '127.0.0.9');
    socks.send(socksRequest('example.org', 443, rig.username, rig.password));
    t.same((await socks.end()).subarray(0, 6), Buffer.from([5, 2, 1, 0, 5, 1]), 'told in the reply');
    t.equal(await metric('ts_logins_delayed_total'), 2);
    t.equal(
      (
        await socksConnect({
          proxyPort,
          username: rig.username,
          password: rig.password,
          host: 'example.org',
          port: 443,
        })
      ).reply,
      0,
    );
    let answer = '';
    while (!answer.startsWith('HTTP/1.1 200')) {
      answer = await attempt('127.0.0.9', rig.password);
      if (!answer.startsWith('HTTP/1.1 200')) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    t.match(answer, /^HTTP\/1\.1 200 /, 'after the wait the right one gets in there, too');
  },
);

t.test('what turns connections away is in the metrics', async (t) => {
  const silent = connect({ port: rig.gateway.proxyPort, host: '127.0.0.1' });
  t.teardown(() => silent.destroy());
  await once(silent, 'connect');
  while ((await metric('ts_client_strangers')) !== 1) await new Promise((resolve) => setTimeout(resolve, 5));
  for (const name of [
    'ts_client_connections_dropped_early_total',
    'ts_client_connections_shed_total',
    'ts_client_waiting',
    'ts_proxy_port_closures_total',
    'ts_client_handshake_deadlines_total',
    'ts_client_tls_failures_total',
    'ts_client_proxy_header_failures_total',
    'ts_loop_lag_seconds',
  ])
    t.ok((await metric(name)) >= 0, name);
});
