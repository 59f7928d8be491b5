/** Who reached what through whom: told to buyer, provider and admin, and the sums are the meters' to the byte. */
import { once } from 'node:events';
import { get } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { HttpsProxyAgent } from 'https-proxy-agent';
import pg from 'pg';
import { SocksProxyAgent } from 'socks-proxy-agent';
import t from 'tap';
import { ProxyAgent, request as undiciRequest } from 'undici';
import { type Destination, startHttpDestination, startTcpDestination } from '../helpers/destination.js';
import { startMigratedPostgres } from '../helpers/services.js';
import { socksConnect } from '../helpers/socks-client.js';
import { removeData, type Standalone, startStandalone } from '../helpers/standalone.js';

let web: Destination;
let echo: Destination;
let system: Standalone;
let pool: pg.Pool;

t.before(async () => {
  web = await startHttpDestination((request, response) => {
    request.resume();
    request.on('end', () => response.end('x'.repeat(Number(request.url?.slice(1)))));
  });
  echo = await startTcpDestination((socket: Socket) => socket.pipe(socket));
  const database = await startMigratedPostgres();
  t.teardown(() => database.stop());
  pool = new pg.Pool({ connectionString: database.url });
  t.teardown(() => pool.end());
  system = await startStandalone({
    env: {
      TS_DATABASE_URL: database.url,
      TS_DEV_ALLOW: [web.port, echo.port]
        .flatMap((port) => [`127.0.0.1:${port}`, `localhost:${port}`])
        .join(','),
      TS_USAGE_DELIVERY_INTERVAL_MS: '200',
      TS_USAGE_SWEEP_INTERVAL_MS: '400',
      TS_USAGE_BOOKING_INTERVAL_MS: '100',
    },
  });
});
t.teardown(async () => {
  await system?.stop();
  if (system) await removeData(system.dataDir);
  await web?.stop();
  await echo?.stop();
});

interface Sums {
  up: string;
  down: string;
}
/** What the meters say of each session and allocation, and what is kept by destination. */
async function compare(): Promise<{
  meters: Array<Sums & { key: string }>;
  usage: Array<Sums & { key: string }>;
}> {
  const sums = (table: string) =>
    pool.query(
      `SELECT session_id || ' ' || allocation_id AS key, sum(bytes_up)::text AS up, sum(bytes_down)::text AS down
         FROM ${table} GROUP BY 1 HAVING sum(bytes_up + bytes_down) > 0 ORDER BY 1`,
    );
  return { meters: (await sums('meters')).rows, usage: (await sums('destination_usage')).rows };
}

async function until(probe: () => Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await probe()) return;
    await delay(50);
  }
  throw new Error(`never: ${what}`);
}

const credentials = (parameters: string) => {
  const { username, password } = system.file.buyer;
  return { username: `${username}${parameters}`, password };
};
const uri = (parameters: string, scheme: string) => {
  const { username, password } = credentials(parameters);
  return `${scheme}://${username}:${password}@127.0.0.1:${system.file.proxy_port}`;
};
const basic = (parameters: string) => {
  const { username, password } = credentials(parameters);
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
};
// biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever comes
const api = (path: string, token: string): Promise<any> => system.api(path, token);

async function viaAgent(url: string, agent: SocksProxyAgent | HttpsProxyAgent<string>): Promise<number> {
  const [response] = await once(get(url, { agent }), 'response');
  let bytes = 0;
  for await (const chunk of response) bytes += chunk.length;
  agent.destroy();
  return bytes;
}

async function viaUndici(url: string, parameters: string, proxyTunnel: boolean): Promise<number> {
  const dispatcher = new ProxyAgent({
    uri: `http://127.0.0.1:${system.file.proxy_port}`,
    token: basic(parameters),
    proxyTunnel,
  });
  const { body } = await undiciRequest(url, { dispatcher, method: 'POST', body: 'y'.repeat(5_000) });
  const bytes = (await body.arrayBuffer()).byteLength;
  await dispatcher.close();
  return bytes;
}

t.test('every kind of client, several hosts, tags and session names', async (t) => {
  const { buyer, provider, admin } = system.file;
  const loopback = `http://127.0.0.1:${web.port}`;
  const named = `http://localhost:${web.port}`;
  t.equal(await viaUndici(`${loopback}/100000`, '-tag-red', true), 100_000, 'CONNECT');
  t.equal(await viaUndici(`${named}/200000`, '-tag-red-session-s1', false), 200_000, 'plain HTTP');
  t.equal(
    await viaAgent(`${loopback}/300000`, new SocksProxyAgent(uri('-tag-blue-session-s1', 'socks5h'))),
    300_000,
  );
  t.equal(await viaAgent(`${named}/1`, new HttpsProxyAgent(uri('', 'http'))), 1);

  const long = await socksConnect({
    proxyPort: system.file.proxy_port,
    ...credentials('-tag-long-session-s2'),
    host: 'localhost',
    port: echo.port,
  });
  t.equal(long.reply, 0);
  long.socket.write(Buffer.alloc(50_000, 'z'));
  let echoed = 0;
  long.socket.on('data', (chunk: Buffer) => {
    echoed += chunk.length;
  });
  const byTag = async (tag: string | null) =>
    (await api('/api/buyer/me/usage', buyer.token)).by_tag.find((i: { tag: string | null }) => i.tag === tag);
  await until(async () => (await byTag('long'))?.bytes_down === 50_000, 'a stream is told while it lives');
  long.socket.end(Buffer.alloc(25_000, 'z'));
  await once(long.socket, 'close');
  t.equal(echoed, 75_000);

  while (web.connections.size + echo.connections.size > 0) await delay(10);
  await until(async () => {
    const { meters, usage } = await compare();
    const [up, down] = [web.bytesIn() + echo.bytesIn(), web.bytesOut() + echo.bytesOut()];
    const total = (of: 'up' | 'down', rows: Sums[]) => rows.reduce((n, row) => n + Number(row[of]), 0);
    return [meters, usage].every((rows) => total('up', rows) === up && total('down', rows) === down);
  }, 'meters and destinations both have what the destinations got and sent');
  const { meters, usage } = await compare();
  t.same(usage, meters, 'for each session and allocation');

  t.match(await byTag('red'), { streams: 2 });
  t.match(await byTag('blue'), { streams: 1 });
  t.match(await byTag('long'), { bytes_up: 75_000, bytes_down: 75_000, streams: 1 });
  t.match(await byTag(null), { streams: 1 });
  const mine = await api('/api/buyer/me/usage?group_by=host', buyer.token);
  t.same(
    mine.items.map((i: { host: string; port: number }) => `${i.host}:${i.port}`).sort(),
    [`127.0.0.1:${web.port}`, `localhost:${web.port}`, `localhost:${echo.port}`].sort(),
  );
  t.equal(
    mine.items.reduce((n: number, i: { bytes: number }) => n + i.bytes, 0),
    mine.total.bytes,
    'as much as is booked',
  );
  const shares = mine.items.reduce(
    (n: number, i: { charged_share: string }) => n + Number(i.charged_share),
    0,
  );
  t.ok(Math.abs(shares - Number(mine.total.charged)) < 0.00001, 'the shares are what was charged');
  const sessions = await api('/api/buyer/me/usage?group_by=session', buyer.token);
  t.match(sessions.items, [
    { session_name: 's1', streams: 2 },
    { session_name: 's2', streams: 1, bytes_up: 75_000 },
    { session_name: null, streams: 2 },
  ]);

  const passed = await api('/api/traffic/destinations', provider.access_token);
  t.match(
    passed.items.find((i: { port: number }) => i.port === echo.port),
    { host: 'localhost', bytes_up: 75_000, bytes_down: 75_000, streams: 1 },
  );
  const [session] = (await api('/api/traffic/history', provider.access_token)).items;
  const [detail] = (await api(`/api/traffic/history?session_id=${session.id}`, provider.access_token)).items;
  t.equal(detail.destination_count, 3);
  t.equal(
    detail.destinations.reduce((n: number, i: { bytes: number }) => n + i.bytes, 0),
    detail.bytes,
  );
  t.notOk(JSON.stringify([passed, detail]).includes(buyer.id));

  const found = await api(`/api/admin/destinations?host=localhost&buyer_id=${buyer.id}`, admin.token);
  t.match(
    found.items.find((i: { port: number }) => i.port === echo.port),
    {
      buyer_account: buyer.username,
      tag: 'long',
      session_name: 's2',
      exit_ip: session.exit_ip,
      bytes: 150_000,
    },
  );
});

t.test('a stop tells what live streams had: nothing is missing', async (t) => {
  const { socket, reply } = await socksConnect({
    proxyPort: system.file.proxy_port,
    ...credentials('-tag-cut'),
    host: '127.0.0.1',
    port: echo.port,
  });
  t.equal(reply, 0);
  let echoed = 0;
  const got = new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      echoed += chunk.length;
      if (echoed === 400_000) resolve();
    });
  });
  socket.write(Buffer.alloc(400_000));
  await got;
  await system.stop();
  const { meters, usage } = await compare();
  t.same(usage, meters);
  const { rows } = await pool.query(
    "SELECT sum(bytes_down)::int AS down FROM destination_usage WHERE tag = 'cut'",
  );
  t.same(rows, [{ down: 400_000 }]);
});
