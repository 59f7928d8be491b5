/** Named sessions that are first used at two gateways at once. */
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import type { Gateway } from '../../../gateway/gateway-contract.js';
import { readSummaries } from '../../../gateway/live/summaries.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { startLinkCa } from '../../helpers/link-certificates.js';
import { PlainDevice } from '../../helpers/plain-device.js';

const DEVICES = 4;
const SESSIONS = 3;

t.setTimeout(120_000);

let rig: GatewayRig;
let far: Gateway;

/** The exit of a connection by HTTP CONNECT, or what the proxy said instead. */
async function exitAt({ proxyPort }: Pick<Gateway, 'proxyPort'>, session: string): Promise<string> {
  const login = Buffer.from(`${rig.username}-session-${session}:${rig.password}`).toString('base64');
  const socket = connect(proxyPort, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(
    `CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\nProxy-Authorization: Basic ${login}\r\n\r\n`,
  );
  let head = '';
  for await (const chunk of socket) {
    head += chunk;
    if (head.includes('\r\n\r\n')) break;
  }
  socket.destroy();
  return /X-TS-Exit-Id: (\S+)/i.exec(head)?.[1] ?? head;
}

t.test('has one exit', async (t) => {
  const ca = await startLinkCa(t);
  rig = await startGatewayRig(await ca.settings('test'));
  t.teardown(() => rig.stop());
  far = await rig.another('far', await ca.settings('far'));
  for (const gateway of [rig.gateway, far])
    for (let i = 0; i < DEVICES; i++) {
      const device = await PlainDevice.connect(gateway.tunnelPort, (await rig.ticket()).text);
      t.teardown(() => device.socket.terminate());
      await device.greet();
      device.echo();
    }
  // Each has read what the other wrote, a beat of theirs later.
  const written = async () =>
    (await readSummaries(rig.redis)).filter(({ devices }) => devices.US).length === 2;
  while (!(await written())) await delay(50);
  for (let tries = 0; tries < 2; tries++) await delay(1_100);
  for (let i = 0; i < SESSIONS; i++) {
    const name = `s${i}`;
    const exits = await Promise.all([exitAt(rig.gateway, name), exitAt(far, name)]);
    t.match(exits[0], /^[\w-]{16}$/);
    t.equal(exits[1], exits[0], name);
    t.equal(await exitAt(far, name), exits[0], 'it stays');
    t.equal(await exitAt(rig.gateway, name), exits[0], 'at both');
  }
});
