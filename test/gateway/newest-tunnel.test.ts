/** A device that opens a tunnel at another gateway while the old one still stands. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { startGateway } from '../../gateway/gateway.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { readGatewayPresence, readPresence, writeGatewayPresence } from '../../gateway/live/presence.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';

t.setTimeout(120_000);

async function until(probe: () => unknown, what: string): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if (await probe()) return;
    await delay(20);
  }
  throw new Error(`never: ${what}`);
}

t.test('the newest tunnel of a device counts; what goes through the old one may finish', async (t) => {
  const rig = await startGatewayRig();
  t.teardown(() => rig.stop());
  const dataDir = await mkdtemp(join(tmpdir(), 'ts-newest-'));
  t.teardown(() => rm(dataDir, { recursive: true, force: true }));
  const second = await startGateway({ ...rig.config, gatewayId: 'second', dataDir }, silentLog);
  t.teardown(() => second.stop(0));
  const { text, record } = await rig.ticket();
  const old = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  t.teardown(() => old.socket.terminate());
  await old.greet();
  old.echo();
  const dial = () =>
    socksConnect({
      ...{ proxyPort: rig.gateway.proxyPort, username: rig.username, password: rig.password },
      ...{ host: 'example.org', port: 443 },
    });
  const { socket, reply } = await dial();
  t.equal(reply, 0);
  const presence = () => readPresence(rig.redis, record.deviceId);
  await until(async () => (await presence())?.gatewayId === 'test', 'it is told of');
  // By the first one's clock the second is long past.
  const key = liveKeys.device(record.deviceId);
  const told = { ...(await presence()), sinceMs: Date.now() + 3_600_000 };
  await rig.redis.set(key, JSON.stringify(told), 'PX', 60_000);

  const other = await rig.ticket({ deviceId: record.deviceId, sessionId: record.sessionId });
  const fresh = await PlainDevice.connect(second.tunnelPort, other.text);
  t.teardown(() => fresh.socket.terminate());
  await fresh.greet();
  await until(async () => (await presence())?.gatewayId === 'second', 'the newest has it');
  t.equal((await presence())?.sinceMs, (told.sinceMs as number) + 1);

  // Makes the first gateway tell of its tunnel again.
  old.status({ network: 'mobile' });
  await until(async () => {
    const again = await dial();
    again.socket.destroy();
    return again.reply !== 0;
  }, 'nothing new goes there');
  t.equal((await presence())?.gatewayId, 'second');
  socket.write('still');
  t.equal(String((await once(socket, 'data'))[0]), 'still', 'what is under way goes on');
  t.notOk(old.closed);
  socket.destroy();
  await old.untilClosed();
  t.notOk(fresh.closed);
  await until(async () => (await rig.status()).tunnels === 0, 'it is gone');
  t.equal((await presence())?.gatewayId, 'second', 'whose end takes nothing away');
});

t.test(
  'two processes with one id: the one that began last keeps it, the other says that it is unwell',
  async (t) => {
    const rig = await startGatewayRig();
    t.teardown(() => rig.stop());
    const known = await readGatewayPresence(rig.redis, 'test');
    if (!known) throw new Error('not there');
    const newer = { ...known, epoch: 'f'.repeat(32), startedAtMs: known.startedAtMs + 1_000 };
    t.equal(await writeGatewayPresence(rig.redis, newer), null);
    t.same(await writeGatewayPresence(rig.redis, known), newer);
    t.equal((await readGatewayPresence(rig.redis, 'test'))?.epoch, newer.epoch);
    const health = async () => (await fetch(`http://127.0.0.1:${rig.gateway.metricsPort}/health`)).text();
    await until(async () => /another process has this gateway id/.test(await health()), 'it is noticed');
  },
);
