/** A device that moves from one gateway to another is found there at once, although nothing was known to be there. */
import t from 'tap';
import type { Gateway } from '../../../gateway/gateway-contract.js';
import type { TicketRecord } from '../../../gateway/live/records.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { startLinkCa } from '../../helpers/link-certificates.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { echoedWhole, socksConnect } from '../../helpers/socks-client.js';

const DRAIN = 13;
const MOVES = 6;

let rig: GatewayRig;
let far: Gateway;
/** The same device by each of its tunnels. */
let record: Partial<TicketRecord> = {};

async function join({ tunnelPort }: Gateway): Promise<PlainDevice> {
  const ticket = await rig.ticket(record);
  record = ticket.record;
  const device = await PlainDevice.connect(tunnelPort, ticket.text);
  t.teardown(() => device.socket.terminate());
  await device.greet();
  device.echo();
  return device;
}

/** As an agent does (SPEC 2.9): the next tunnel first, then `paused` on this one, which it leaves as nothing goes through it. */
async function move(device: PlainDevice, to: Gateway): Promise<PlainDevice> {
  const next = await join(to);
  device.status({ paused: true });
  device.socket.close();
  await device.untilClosed();
  return next;
}

/** The SOCKS reply of a connection there that brings back what it sends. */
async function serves({ proxyPort }: Gateway): Promise<number | null> {
  const { username, password } = rig;
  const { socket, reply } = await socksConnect({
    ...{ proxyPort, username, password },
    ...{ host: 'example.org', port: 443 },
  });
  if (reply !== 0) socket.destroy();
  else t.ok(await echoedWhole(socket, Buffer.alloc(1_000, 'moved')));
  return reply;
}

t.before(async () => {
  const ca = await startLinkCa(t);
  rig = await startGatewayRig(await ca.settings('test'));
  t.teardown(() => rig.stop());
  far = await rig.another('far', await ca.settings('far'));
});

t.test('to and fro', async (t) => {
  let device = await join(rig.gateway);
  t.equal(await serves(rig.gateway), 0);
  // Once `far` has read of `test`, either knows of the other.
  while ((await serves(far)) !== 0);
  for (let n = 0; n < MOVES; n++) {
    const [from, to] = n % 2 === 0 ? [rig.gateway, far] : [far, rig.gateway];
    device = await move(device, to);
    t.equal(await serves(from), 0, 'where it was');
    t.equal(await serves(to), 0, 'where it is');
  }
});

t.test('from a gateway that stops', async (t) => {
  const device = await join(rig.gateway);
  const stopping = rig.gateway.stop(10_000);
  await device.next(({ type }) => type === DRAIN);
  await move(device, far);
  t.equal(await serves(rig.gateway), 0, 'its buyers are served until balancers send none any more');
  await stopping;
});
