/** Plain HTTP through the gateway: bodies larger than any window, both ways, over one stream's Duplex. */
import { once } from 'node:events';
import { request } from 'node:http';
import t from 'tap';
import { type GatewayRig, startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';

const BODY_BYTES = 3_000_000;
let rig: GatewayRig;
t.before(async () => {
  rig = await startGatewayRig();
});
t.teardown(() => rig?.stop());

/** A device that echoes what it is sent: the "origin" answers a request with that very request, as its body. */
t.test('a body of many windows goes up and comes back whole, and is counted', async (t) => {
  const { text, record } = await rig.ticket();
  const device = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  await device.greet();
  // The head of the answer comes first; what follows of the echo is its body.
  device.echo(Buffer.from('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n'));
  const auth = Buffer.from(`${rig.username}:${rig.password}`).toString('base64');
  const call = request({
    port: rig.gateway.proxyPort,
    host: '127.0.0.1',
    method: 'POST',
    path: 'http://example.org/',
    headers: { host: 'example.org', 'proxy-authorization': `Basic ${auth}`, 'content-length': BODY_BYTES },
    agent: false,
  });
  call.end(Buffer.alloc(BODY_BYTES, 'z'));
  const [response] = await once(call, 'response');
  let got = 0;
  for await (const chunk of response) {
    got += chunk.length;
    if (got > BODY_BYTES) break; // the echoed head is in front of the echoed body; the origin never closes
  }
  t.ok(got > BODY_BYTES, `${got} bytes came back`);
  call.destroy();
  for (let tries = 0; tries < 100; tries++) {
    const meter = (await rig.meters()).find((m) => m.sessionId === record.sessionId);
    if (meter && meter.bytesUp >= BODY_BYTES && meter.bytesDown >= got) return t.pass('counted');
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  t.fail('not counted');
});
