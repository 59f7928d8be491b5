/** Where a device comes from is checked again when it opens its tunnel, on the address the gateway sees. */
import t from 'tap';
import { readPresence } from '../../gateway/live/presence.js';
import { type GatewayRig, startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';

/** An address of a US home provider (AS7922) and one of a hosting company, in the tables that are shipped. */
const HOME = '73.162.0.1';
const HOSTING = '3.5.140.1';

let rig: GatewayRig;
t.before(async () => {
  rig = await startGatewayRig({ TS_DEV_LOOPBACK_COUNTRY: '', TS_TRUSTED_PROXIES: '127.0.0.1/32' });
});
t.teardown(() => rig?.stop());

const connect = async (headers: Record<string, string> = {}) =>
  PlainDevice.connect(rig.gateway.tunnelPort, (await rig.ticket()).text, headers);
const refused = Object.assign(new Error('refused'), { status: 403 });

t.test('an address that is not public, a hosting company, another country', async (t) => {
  await t.rejects(connect(), refused, 'loopback');
  await t.rejects(connect({ 'x-forwarded-for': HOSTING }), refused, 'hosting');
  await t.rejects(connect({ 'x-forwarded-for': '1.2.4.8' }), refused, 'a country that is not allowed');
  await t.rejects(
    connect({ 'x-forwarded-for': `${HOME}, 10.0.0.1` }),
    refused,
    'the last hop counts, not the first',
  );
});

t.test('a home address behind the trusted proxy is let in, and is the exit', async (t) => {
  const { text, record } = await rig.ticket();
  const device = await PlainDevice.connect(rig.gateway.tunnelPort, text, { 'x-forwarded-for': HOME });
  await device.greet();
  let presence = await readPresence(rig.redis, record.deviceId);
  for (let tries = 0; presence === null && tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    presence = await readPresence(rig.redis, record.deviceId);
  }
  t.match(presence, { exitIp: HOME, country: 'US', asn: 7922 });
  device.socket.terminate();
});
