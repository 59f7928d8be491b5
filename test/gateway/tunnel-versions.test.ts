/** Devices of other versions at a real gateway. */
import { pack } from 'msgpackr';
import t from 'tap';
import { startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';

const HELLO = { agent: 'other', agent_version: '9.0.0', os: 'test', terms_version: '1' };

t.test(
  'a newer device is served as version 1; one that has forgotten it is told who is too old',
  async (t) => {
    const rig = await startGatewayRig();
    t.teardown(() => rig.stop());
    const come = async (versions: number[]) => {
      const device = await PlainDevice.connect(rig.gateway.tunnelPort, (await rig.ticket()).text);
      t.teardown(() => device.socket.terminate());
      const greeted = device.greet(pack({ ...HELLO, versions, later: ['of version 2'] })).catch(() => null);
      return { device, greeted: await greeted };
    };
    const newer = await come([1, 2]);
    t.match(newer.greeted, { version: 1 });
    newer.device.echo();
    const { socket, reply } = await socksConnect({
      proxyPort: rig.gateway.proxyPort,
      username: rig.username,
      password: rig.password,
      host: 'example.org',
      port: 443,
    });
    t.equal(reply, 0);
    socket.write('hello');
    const [bytes] = await new Promise<Buffer[]>((resolve) =>
      socket.once('data', (chunk) => resolve([chunk])),
    );
    t.equal(String(bytes), 'hello');
    socket.destroy();

    const tooNew = await come([2, 3]);
    t.equal(tooNew.greeted, null);
    t.match(tooNew.device.goaway, {
      code: 'gateway_too_old',
      reconnect_after_ms: 30_000,
      reason: /offered: 2, 3/,
    });
    t.match(tooNew.device.closed, { code: 1000 });
    t.equal((await rig.status()).tunnels, 1, 'it is not among the devices');
  },
);
