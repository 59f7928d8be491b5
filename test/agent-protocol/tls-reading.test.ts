import { once } from 'node:events';
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import t from 'tap';
import { adoptSocket } from '../../agent-protocol/raw-socket.js';
import { testCertificate } from '../helpers/test-certificate.js';
import { listen } from './helpers/relay.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

t.test('TLS is read below node:stream; a timeout of the socket is told of it', async (t) => {
  const server = createServer({ ...testCertificate, allowHalfOpen: true });
  const port = await listen(t, server);
  const client = connectTls({ port, host: '127.0.0.1', ca: testCertificate.cert });
  t.teardown(() => client.destroy());
  const [accepted] = (await once(server, 'secureConnection')) as [TLSSocket];
  const raw = adoptSocket(accepted);
  t.teardown(() => raw.destroy());
  let bytes = 0;
  raw.setSink({
    onBytes: (_buffer, start, end) => {
      bytes += end - start;
      return false;
    },
    onDrain: () => {},
    onEnd: () => {},
    onClose: () => {},
  });
  const read = async (): Promise<void> => {
    const before = bytes;
    client.write('y');
    while (bytes === before) await turn();
  };
  raw.resume();
  await read();
  t.equal(accepted.listenerCount('data'), 0, 'this Node lets us: see readInto');
  let told = 0;
  const fields = accepted as unknown as { _unrefTimer(): void };
  const tell = fields._unrefTimer;
  fields._unrefTimer = () => {
    told++;
    tell.call(accepted);
  };
  await read();
  t.equal(told, 0, 'there is none: nothing is done for it');
  accepted.setTimeout(60_000);
  await read();
  t.equal(told, 1);
});
