import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { type Test, test } from 'tap';
import { type Accepted, createRawServer, listen } from '../../agent-protocol/raw-server.js';
import type { RawSink } from '../../agent-protocol/raw-socket.js';

async function serve(t: Test, onAccepted: (accepted: Accepted) => void) {
  const server = createRawServer({ keepAliveAfterMs: 60_000, onAccepted });
  const { port } = await listen(server, { host: '127.0.0.1', port: 0, backlog: 16 });
  t.teardown(() => server.close());
  return { server, port };
}

function dial(t: Test, port: number): Socket {
  const socket = connect({ port, host: '127.0.0.1' });
  t.teardown(() => socket.destroy());
  return socket;
}

/** The timer that the kernel runs for the accepted end of a connection: 2 is keep-alive. Linux. */
function kernelTimer(localPort: number, remotePort: number): number | null {
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0');
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n')) {
    const [, local, remote, , , timer] = line.trim().split(/\s+/);
    if (local?.endsWith(`:${hex(localPort)}`) && remote?.endsWith(`:${hex(remotePort)}`))
      return Number(timer?.split(':')[0]);
  }
  return null;
}

test('an accepted connection is taken without a socket of its own being made for it', async (t) => {
  const taken: Accepted[] = [];
  const { server, port } = await serve(t, (accepted) => {
    taken.push(accepted);
    const raw = accepted.adopt();
    const echo: RawSink = {
      onBytes: (buffer, start, end) => {
        raw.write(Buffer.from(buffer.subarray(start, end)));
        return false;
      },
      onDrain() {},
      onEnd: () => raw.end(),
      onClose() {},
    };
    raw.setSink(echo);
    raw.resume();
  });
  server.on('connection', () => t.fail('node:net made one'));
  const socket = dial(t, port);
  socket.write('hello');
  const [echoed] = (await once(socket, 'data')) as [Buffer];
  t.equal(echoed.toString(), 'hello');
  t.equal(taken[0]?.remoteAddress, '127.0.0.1');
  if (process.platform === 'linux')
    t.equal(kernelTimer(port, (socket.address() as AddressInfo).port), 2, 'the kernel keeps it alive');
  socket.end();
  await once(socket, 'close');
});

test('one that is turned away is closed, and the next is accepted', async (t) => {
  const { port } = await serve(t, (accepted) => accepted.close());
  for (let i = 0; i < 3; i++) {
    const socket = dial(t, port).resume();
    await once(socket, 'close');
    t.equal(socket.bytesRead, 0);
  }
});

test('connections go on when the listening ends, which does not wait for them', async (t) => {
  const accepted = new Promise<Accepted>((resolve) => void serve(t, resolve).then(dialIt));
  let socket: Socket | undefined;
  let closed: Promise<unknown> | undefined;
  function dialIt({ server, port }: Awaited<ReturnType<typeof serve>>) {
    closed = once(server, 'close');
    socket = dial(t, port);
    socket.once('connect', () => server.close());
  }
  const raw = (await accepted).adopt();
  await closed;
  raw.write(Buffer.from('still here'));
  const [bytes] = (await once(socket as Socket, 'data')) as [Buffer];
  t.equal(bytes.toString(), 'still here');
  raw.destroy();
});

test('a port that is taken is an error', async (t) => {
  const { port } = await serve(t, (accepted) => accepted.close());
  const second = createRawServer({ keepAliveAfterMs: 60_000, onAccepted() {} });
  await t.rejects(listen(second, { host: '127.0.0.1', port, backlog: 16 }), { code: 'EADDRINUSE' });
});
