/** A gateway of two workers that is linked with another one: each worker has a link of its own, on the next port. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Gateway } from '../../../gateway/gateway-contract.js';
import { writeAccount } from '../../../gateway/live/store.js';
import { readSummaries } from '../../../gateway/live/summaries.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { ANY_PORTS } from '../../helpers/any-ports.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { startLinkCa } from '../../helpers/link-certificates.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { freePort } from '../../helpers/services.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { socksAssociate, udpReply, udpRequest } from '../../helpers/socks-udp-client.js';
import { UdpPeer } from '../../helpers/udp-peer.js';
import { startWalletBank } from '../../helpers/wallet-bank.js';

t.setTimeout(120_000);

const WORKERS = ['duo', 'duo-w2'];
const DEVICES = 4;

let rig: GatewayRig;
let duo: Pick<Gateway, 'proxyPort' | 'tunnelPort'>;

async function share(tunnelPort: number, country: string): Promise<PlainDevice> {
  const device = await PlainDevice.connect(tunnelPort, (await rig.ticket({ country })).text);
  t.teardown(() => device.socket.terminate());
  await device.greet();
  device.echo();
  return device;
}

async function untilEchoed(t: Test, proxyPort: number, country: string): Promise<void> {
  const { username, password } = rig;
  const wish = { proxyPort, username: `${username}-cc-${country}`, password, host: 'example.org', port: 443 };
  for (let tries = 0; tries < 200; tries++) {
    const { socket, reply } = await socksConnect(wish);
    if (reply === 0) {
      let received = 0;
      socket.on('data', (chunk: Buffer) => {
        received += chunk.length;
      });
      socket.end(Buffer.alloc(100_000, 'z'));
      await once(socket, 'close');
      t.equal(received, 100_000, `${country} by ${proxyPort}`);
      return;
    }
    socket.destroy();
    await delay(50);
  }
  t.fail(`${country} was never served`);
}

/** A datagram there and back, by an association of its own. */
async function echoedByUdp(t: Test, proxyPort: number, country: string): Promise<void> {
  const { username, password } = rig;
  const { control, reply, address, port } = await socksAssociate({
    proxyPort,
    username: `${username}-cc-${country}`,
    password,
  });
  t.equal(reply, 0, `UDP by ${country} of ${proxyPort}`);
  const client = await UdpPeer.open(t);
  client.send(udpRequest('8.8.8.8', 53, country), port, address);
  t.equal(udpReply((await client.next()).bytes).data.toString(), country);
  control.destroy();
}

t.before(async () => {
  const ca = await startLinkCa(t);
  rig = await startGatewayRig(await ca.settings('test'));
  t.teardown(() => rig.stop());
  const limits = { ...rig.account.limits, udp: true };
  await writeAccount(rig.redis, { ...rig.account, limits, version: 2 });
  for (const name of WORKERS) {
    const bank = startWalletBank(rig.redis, name);
    t.teardown(() => bank.stop());
  }
  const dataDir = await mkdtemp(join(tmpdir(), 'ts-duo-'));
  t.teardown(() => rm(dataDir, { recursive: true, force: true }));
  const child = spawn(process.execPath, [projectPath('dist/deploy/cli.js'), 'gateway', '--workers', '2'], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {
      PATH: process.env.PATH ?? '',
      TS_REDIS_URL: rig.config.redisUrl,
      TS_GATEWAY_ID: 'duo',
      TS_GATEWAY_DATA_DIR: dataDir,
      ...ANY_PORTS,
      TS_DEV_LOOPBACK_COUNTRY: 'FR',
      TS_LOOP_LAG_MS_MAX: '0',
      TS_LOG_LEVEL: 'error',
      TS_DRAIN_MS: '0',
      ...(await ca.settings('duo')),
      TS_GATEWAY_LINK_PORT: String(await freePort()),
    },
  });
  t.teardown(async () => {
    const ended = once(child, 'exit');
    if (child.kill('SIGTERM')) await ended;
  });
  [duo] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [typeof duo];
  if (typeof duo !== 'object') throw new Error(`it ended with ${duo}`);
});

t.test('its devices are reached by the links of their workers, and its buyers reach others', async (t) => {
  for (let i = 0; i < DEVICES; i++) await share(duo.tunnelPort, 'FR');
  await share(rig.gateway.tunnelPort, 'US');
  const told = async () => {
    const summaries = await readSummaries(rig.redis);
    return WORKERS.map((name) => summaries.find(({ gatewayId }) => gatewayId === name)?.port ?? 0);
  };
  while ((await told()).includes(0)) await delay(50);
  const [first, second] = (await told()) as [number, number];
  t.equal(second, first + 1, 'the next port');
  for (let i = 0; i < DEVICES; i++) {
    await untilEchoed(t, rig.gateway.proxyPort, 'fr');
    await untilEchoed(t, duo.proxyPort, 'us');
    await echoedByUdp(t, rig.gateway.proxyPort, 'fr');
    await echoedByUdp(t, duo.proxyPort, 'us');
  }
  const status = (await (await fetch(`http://127.0.0.1:${rig.gateway.metricsPort}/status`)).json()) as {
    links: { to: string[]; from: string[] };
  };
  t.ok(status.links.to.length > 0 && status.links.to.every((name) => WORKERS.includes(name)), 'asked');
  t.ok(status.links.from.length > 0 && status.links.from.every((name) => WORKERS.includes(name)), 'asks');
});
