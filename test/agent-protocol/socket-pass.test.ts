/** Connections that are taken out of their socket, pairs of sockets, and what joins two. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { adoptHandle, bindPort, createRawServer, listen } from '../../agent-protocol/raw-server.js';
import type { RawSink, RawSocket } from '../../agent-protocol/raw-socket.js';
import { joinSockets } from '../../agent-protocol/socket-join.js';
import { SocketPairs } from '../../agent-protocol/socket-pair.js';

/** A sink that keeps what comes, until it is told to stop. */
class Kept implements RawSink {
  bytes = Buffer.alloc(0);
  ended = false;
  closed: Error | null | undefined;
  #news: () => void = () => {};

  constructor(readonly socket: RawSocket) {
    socket.setSink(this);
    socket.resume();
  }

  onBytes(buffer: Buffer, start: number, end: number): boolean {
    this.bytes = Buffer.concat([this.bytes, buffer.subarray(start, end)]);
    this.#news();
    return false;
  }
  onDrain(): void {}
  onEnd(): void {
    this.ended = true;
    this.#news();
  }
  onClose(error: Error | null): void {
    this.closed = error;
    this.#news();
  }

  async until(fits: () => boolean): Promise<void> {
    while (!fits())
      await new Promise<void>((resolve) => {
        this.#news = resolve;
      });
  }
}

function makePairs(t: Test): SocketPairs {
  const pairs = new SocketPairs();
  t.teardown(() => pairs.close());
  return pairs;
}

t.test('a detached connection goes on in another object, with what was not read', async (t) => {
  const accepted = new Promise<RawSocket>((resolve) => {
    const server = createRawServer({ keepAliveAfterMs: 1_000, onAccepted: (one) => resolve(one.adopt()) });
    t.teardown(() => server.close());
    void listen(server, { host: '127.0.0.1', port: 0, backlog: 5 }).then(({ port }) => {
      const socket = connect(port, '127.0.0.1');
      t.teardown(() => socket.destroy());
      socket.write('first');
      client = socket;
    });
  });
  let client: Socket | undefined;
  const raw = await accepted;
  const before = new Kept(raw);
  await before.until(() => before.bytes.length === 5);
  raw.pause();
  client?.write('second');
  const handle = raw.detach();
  if (handle === null) throw new Error('not detached');
  await before.until(() => before.closed !== undefined);
  t.equal(before.closed, null, 'closed here, without an error');
  t.equal(raw.detach(), null, 'once only');

  const after = new Kept(adoptHandle(handle));
  await after.until(() => after.bytes.length === 6);
  t.equal(after.bytes.toString(), 'second');
  after.socket.write(Buffer.from('answer'));
  after.socket.end();
  const [answer] = (await once(client as Socket, 'data')) as [Buffer];
  t.equal(answer.toString(), 'answer', 'the other side has noticed nothing');
});

t.test('what can not be detached stays', async (t) => {
  const pairs = makePairs(t);
  const [a, b] = await pairs.make();
  a.end();
  const kept = new Kept(b);
  await kept.until(() => kept.ended);
  t.equal(b.detach(), null, 'the end was told: nobody else would hear of it');
  t.equal(a.detach(), null, 'an end is under way');
  a.destroy();
  b.destroy();
  const [full, other] = await pairs.make();
  while (full.write(Buffer.alloc(1 << 20)));
  t.equal(full.detach(), null, 'bytes have not left');
  full.reset();
  other.reset();
});

t.test('pairs are made of their own ends, many at once; strangers are closed', async (t) => {
  const pairs = makePairs(t);
  const [first] = await pairs.make();
  const stranger = connect(first.socket.remotePort as number, '127.0.0.1');
  stranger.on('error', () => {});
  const strangerGone = once(stranger, 'close');
  const made = await Promise.all(Array.from({ length: 50 }, () => pairs.make()));
  for (const [i, [a, b]] of made.entries()) {
    a.write(Buffer.from(`from ${i}`));
    const kept = new Kept(b);
    await kept.until(() => kept.bytes.length > 0);
    if (kept.bytes.toString() !== `from ${i}`) t.fail(`${i} got ${kept.bytes}`);
    a.destroy();
    b.destroy();
  }
  first.destroy();
  await strangerGone;
  t.pass('the stranger was closed');
});

t.test('joined sockets: bytes, ends one by one, and RST', async (t) => {
  const pairs = makePairs(t);
  const joined = async () => {
    const [left, a] = await pairs.make();
    const [right, b] = await pairs.make();
    joinSockets(a, b);
    return { left, right, a, b };
  };

  const whole = await joined();
  const sent = Buffer.alloc(20 << 20, 'joined');
  const atRight = new Kept(whole.right);
  const atLeft = new Kept(whole.left);
  whole.left.write(sent);
  whole.left.end();
  await atRight.until(() => atRight.ended);
  t.ok(atRight.bytes.equals(sent), 'everything, in order, before the end');
  t.notOk(atLeft.ended, 'the other way is open');
  whole.right.write(Buffer.from('late'));
  whole.right.end();
  await atLeft.until(() => atLeft.ended);
  t.equal(atLeft.bytes.toString(), 'late');

  const cut = await joined();
  const survivor = new Kept(cut.right);
  cut.left.reset();
  await survivor.until(() => survivor.closed !== undefined);
  t.match(survivor.closed, { code: 'ECONNRESET' }, 'what was cut does not look whole');
  t.notOk(survivor.ended);

  // The left takes nothing, so the join does not read the right: it must hear of the reset all the same.
  const stuck = await joined();
  stuck.right.write(sent);
  const left = stuck.left;
  await new Promise<void>((resolve) => {
    const looking = setInterval(() => {
      if (stuck.a.backlogBytes === 0) return;
      clearInterval(looking);
      resolve();
    }, 10);
  });
  stuck.right.reset();
  const gone = once(stuck.a.socket, 'close');
  await gone;
  t.equal(stuck.b.closed, true, 'both inner ends are gone');
  left.destroy();
});

t.test(
  'a bound port is taken, accepts for whoever listens, and is told when it can not be had',
  async (t) => {
    const { bound, port } = await bindPort('127.0.0.1', 0);
    const server = createServer((socket) => socket.end('here'));
    await listen(server, { host: '127.0.0.1', port, backlog: 5, bound });
    t.teardown(() => server.close());
    const socket = connect(port, '127.0.0.1');
    const [text] = (await once(socket, 'data')) as [Buffer];
    t.equal(text.toString(), 'here');
    await t.rejects(bindPort('127.0.0.1', port), { code: 'EADDRINUSE', port });
    await t.rejects(bindPort('192.0.2.1', 0), { code: 'EADDRNOTAVAIL' });
  },
);
