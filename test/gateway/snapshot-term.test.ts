/** Redis is away: known accounts are let in for a while, and streams go on. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { publishCommand } from '../../gateway/live/commands.js';
import { startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';
import { stopwatch } from '../helpers/stopwatch.js';

t.setTimeout(120_000);

t.test(
  'a kill reaches the gateway within a second; without Redis what it knows opens new connections for its term',
  async (t) => {
    const rig = await startGatewayRig({ TS_SNAPSHOT_TERM_MS: '3000' });
    t.teardown(() => rig.stop());
    const { text } = await rig.ticket();
    const device = await PlainDevice.connect(rig.gateway.tunnelPort, text);
    t.teardown(() => device.socket.terminate());
    await device.greet();
    device.echo();
    const dial = async () => {
      const answer = await socksConnect({
        ...{ proxyPort: rig.gateway.proxyPort, username: rig.username, password: rig.password },
        ...{ host: 'example.org', port: 443 },
      });
      t.teardown(() => answer.socket.destroy());
      return answer;
    };
    const killed = (await dial()).socket.resume();
    const tookMs = stopwatch();
    await publishCommand(rig.redis, { kind: 'kill', scope: 'buyer', id: rig.account.buyerId });
    await new Promise((resolve) => killed.once('close', resolve));
    t.ok(tookMs() < 1_000, 'killed');

    const { socket } = await dial();
    const startRedis = await rig.killRedis();
    t.equal((await dial()).reply, 0, 'known');
    let refused = await dial();
    for (let tries = 0; tries < 200 && refused.reply === 0; tries++) {
      await delay(100);
      refused = await dial();
    }
    t.not(refused.reply, 0, 'nobody can confirm it any more');
    socket.write('still');
    t.equal(String((await once(socket, 'data'))[0]), 'still', 'what is open goes on');
    await startRedis();
  },
);
