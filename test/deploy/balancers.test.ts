/**
 * HAProxy and nginx as deploy/balancer has them, in front of a built system that the systemd units' commands started: TLS,
 * tunnels of devices, PROXY, and whose address is seen behind them.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { freePort } from '../../deploy/standalone/services/free-port.js';
import { Books } from '../faults/books.js';
import { callApi, type TestBuyer } from '../faults/people.js';
import type { Program } from '../faults/program.js';
import { BALANCER, configured, runBalancer, startHaproxy } from '../helpers/balancer.js';
import { startHttpDestination } from '../helpers/destination.js';
import { type InstalledSystem, startInstalledSystem } from '../helpers/installed-system.js';
import { hasProgram, runProgram } from '../helpers/programs.js';

/** Loopback has many addresses: one for those who are let in, one for others, and one for the balancers. */
const FRIEND = '127.0.0.5';
const STRANGER = '127.0.0.6';
const PAGE = 'all is well';

let system: InstalledSystem;
let destination: Awaited<ReturnType<typeof startHttpDestination>>;
/** Ports that both balancers take, one after the other. */
let webPort = 0;
let buyersPort = 0;

const apiUrl = () => `http://127.0.0.1:${system.controlPlanes[0]?.apiPort}`;
const webUrl = () => `https://localhost:${webPort}`;
const pem = () => system.pemFile;

async function startNginx(t: Test): Promise<void> {
  const folder = join(system.folder, 'nginx');
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, 'site.conf'),
    (await configured(system, 'nginx.conf'))
      .replace('listen 443 ssl', `listen 127.0.0.1:${webPort} ssl`)
      .replace('/etc/nginx/certificates/traffic-share.crt', pem())
      .replace('/etc/nginx/certificates/traffic-share.key', pem())
      .replaceAll('proxy_pass ', `proxy_bind ${BALANCER};\n        proxy_pass `),
  );
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (of) => `${of}_temp_path ${join(folder, of)};`,
  );
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; pid ${join(folder, 'pid')}; error_log stderr warn; worker_processes 1;
     events { worker_connections 1000; }
     http { access_log off; ${temporary.join(' ')} include ${join(folder, 'site.conf')}; }\n`,
  );
  await runBalancer(t, 'nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], [webPort]);
}

/** The status of an answer, and its body. */
async function curl(args: string[]): Promise<string> {
  const { out, err, code } = await runProgram('curl', [
    '-s',
    '-S',
    '--max-time',
    '20',
    '--cacert',
    pem(),
    '-w',
    '\n%{http_code}',
    ...args,
  ]);
  return code === 0 ? out : `curl ${code}: ${err}`;
}

/** What both must do with API and tunnels. */
async function webIsServed(t: Test): Promise<void> {
  t.match(await curl([`${webUrl()}/api/system/ready`]), /\n200$/, 'the API, in TLS');
  t.match(await curl([`${webUrl()}/`]), /<html[\s\S]*\n200$/, 'the console');
  const stats = [`${webUrl()}/api/admin/stats`, '-H', `authorization: Bearer ${system.adminToken}`];
  t.match(await curl(['--interface', FRIEND, ...stats]), /\n200$/, 'an admin from an address of the list');
  t.match(await curl(['--interface', STRANGER, ...stats]), /\n403$/, 'from another one');
  t.match(
    await curl(['--interface', STRANGER, ...stats, '-H', `x-forwarded-for: ${FRIEND}`]),
    /\n403$/,
    'from another one that says it is of the list',
  );
  // Those of the balancer before come back by themselves.
  for (const agent of system.agents) if (!agent.running) await agent.start();
  await system.untilTunnels(system.agents.length);
  const { items } = (await callApi(apiUrl(), '/api/admin/devices', system.adminToken)) as {
    items: { ip: string; online: boolean }[];
  };
  t.same(
    items.map(({ ip, online }) => ({ ip, online })),
    system.devices.map(() => ({ ip: '127.0.0.1', online: true })),
    'devices are seen at their own address, not at the balancer’s',
  );
  const [before] = await system.tunnels();
  t.ok((before as number) > 0 && (before as number) < system.agents.length, 'both gateways have some');
}

t.before(async () => {
  destination = await startHttpDestination((request, response) => {
    request.resume();
    response.end(PAGE);
  });
  t.teardown(() => destination.stop());
  webPort = await freePort();
  buyersPort = await freePort();
  system = await startInstalledSystem(t, {
    balancers: [BALANCER],
    tunnelUrl: () => `wss://localhost:${webPort}/tunnel`,
    agentApiUrl: webUrl,
    controlPlanes: 2,
    gateways: 2,
    devices: 4,
    destination: `127.0.0.1:${destination.port}`,
    env: { TS_ADMIN_IPS: `${FRIEND},127.0.0.1` },
  });
});

t.test('nginx: API, console and tunnels', async (t) => {
  if (!(await hasProgram(t, 'nginx', ['nginx', '-v']))) return;
  await startNginx(t);
  await webIsServed(t);
});

t.setTimeout(240_000);

t.test('HAProxy: API, console and tunnels', async (t) => {
  if (!(await hasProgram(t, 'haproxy', ['haproxy', '-v']))) return;
  await startHaproxy(t, system, { buyersPort, webPort });
  await webIsServed(t);

  await t.test('buyers are known by their own address', async (t) => {
    const [buyer] = system.buyers as [TestBuyer];
    const patched = await fetch(`${apiUrl()}/api/admin/buyers/${buyer.id}`, {
      method: 'PATCH',
      headers: { authorization: `Bearer ${system.adminToken}`, 'content-type': 'application/json' },
      body: JSON.stringify({ limits: { passwordless_ips: [`${FRIEND}/32`] } }),
    });
    t.equal(patched.status, 200, await patched.text());
    const page = `http://127.0.0.1:${destination.port}/`;
    const by = (proxy: string, address: string, ...more: string[]) =>
      curl(['--interface', address, '--proxy-cacert', pem(), '-x', proxy, ...more, page]);
    const plain = `http://127.0.0.1:${buyersPort}`;
    const through = new RegExp(`${PAGE}\n200$`);
    t.match(await by(plain, FRIEND), through, 'HTTP, let in by its address');
    t.match(await by(plain, FRIEND, '-p'), through, 'CONNECT');
    t.match(await by(`socks5h://127.0.0.1:${buyersPort}`, FRIEND), through, 'SOCKS5');
    t.match(await by(`https://localhost:${buyersPort}`, FRIEND), through, 'in TLS, which HAProxy passes on');
    t.match(await by(plain, STRANGER), /\n407$/, 'another address needs a password');
    const login = ['-U', `${buyer.username}:${buyer.password}`];
    t.match(await by(plain, STRANGER, ...login), through, 'and is let in with it');
    const direct = `http://127.0.0.1:${system.gateways[0]?.proxyPort}`;
    t.match(
      await by(direct, BALANCER),
      /^curl (52|56)/,
      'where balancers come from, nothing goes without PROXY',
    );
  });

  await t.test('everything restarted one after the other, as the runbook says, under traffic', async (t) => {
    const [buyer] = system.buyers as [TestBuyer];
    const books = new Books(system.databaseUrl);
    t.teardown(() => books.stop());
    books.watch();
    let stopped = false;
    let served = 0;
    const refused: string[] = [];
    const clients = Array.from({ length: CLIENTS }, async () => {
      while (!stopped) {
        const answer = await freshRequest(buyer);
        if (answer.includes(PAGE)) served++;
        else refused.push(`${phase}: ${answer}`);
      }
    });
    let phase = 'before';
    const startMs = performance.now();
    const took: Record<string, number> = {};
    for (const [n, gateway] of system.gateways.entries()) {
      phase = `gateway ${n + 1}`;
      await restart(gateway.program);
      await untilWell(gateway.metricsPort);
      took[phase] = Math.round(performance.now() - startMs);
    }
    for (const [n, { program }] of system.controlPlanes.entries()) {
      phase = `control plane ${n + 1}`;
      await restart(program);
      took[phase] = Math.round(performance.now() - startMs);
    }
    stopped = true;
    await Promise.all(clients);
    const kinds = new Map<string, number>();
    for (const one of refused) {
      const kind = one.split('\r\n')[0] as string;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    t.comment(`${refused.length} of ${served + refused.length} refused`);
    t.same([...kinds], [], 'no connection was refused, closed, reset or cut');
    t.ok(served > 100, `${served} served; done after ms: ${JSON.stringify(took)}`);
    const booked = await books.settled(relayedBytes(), 2_000, 30_000);
    t.equal(booked, relayedBytes(), 'every byte is booked, once');
    t.same(await books.proof(), []);
    t.same(books.violations, [], `${books.samples} looks`);
  });
});

/** Clients that make one new connection after the other. */
const CLIENTS = 6;

/** What the destination took and gave: payload of the streams. */
const relayedBytes = () => destination.bytesIn() + destination.bytesOut();

/** As `systemctl restart` does it: the unit's signal, its end, its command. */
async function restart(program: Program): Promise<void> {
  program.signal('SIGTERM');
  await program.gone();
  await program.start();
}

async function untilWell(metricsPort: number): Promise<void> {
  const endMs = performance.now() + 20_000;
  while (!(await fetch(`http://127.0.0.1:${metricsPort}/health`).catch(() => null))?.ok) {
    if (performance.now() > endMs) throw new Error('the gateway is not well');
    await delay(50);
  }
}

/** The page by a connection of its own, through HAProxy; else what came instead. */
async function freshRequest({ username, password }: TestBuyer): Promise<string> {
  const socket = connect(buyersPort, '127.0.0.1');
  const login = Buffer.from(`${username}:${password}`).toString('base64');
  socket.write(
    `GET http://127.0.0.1:${destination.port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n` +
      `Proxy-Authorization: Basic ${login}\r\n\r\n`,
  );
  return text(socket).catch((error: NodeJS.ErrnoException) => String(error.code));
}
