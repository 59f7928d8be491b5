/** Sockets on TCP handles beside those over node:net: each case on both. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { HandleSocket } from '../../agent-protocol/handle-socket.js';
import { adoptSocket, dialAddress, type RawSink, type RawSocket } from '../../agent-protocol/raw-socket.js';
import { SocketDuplex } from '../../agent-protocol/socket-duplex.js';
import {
  findTcpHandles,
  type TcpHandle,
  type TcpHandles,
  tcpHandles,
} from '../../agent-protocol/tcp-handle.js';
import { listen } from './helpers/relay.js';

/** What a socket told, in order. */
class Sink implements RawSink {
  readonly told: string[] = [];
  readonly kept: Array<{ view: Buffer; copy: Buffer }> = [];
  bytes = 0;
  largest = 0;
  text = '';
  error: Error | null = null;
  readonly closed: Promise<void>;
  #closed!: () => void;
  constructor() {
    this.closed = new Promise((resolve) => {
      this.#closed = resolve;
    });
  }
  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    const view = buffer.subarray(start, end);
    if (this.told.at(-1) !== 'bytes') this.told.push('bytes');
    this.bytes += view.length;
    this.largest = Math.max(this.largest, view.length);
    if (this.bytes < 1_000) this.text += view;
    if (headroomBytes === 0 || this.kept.length > 20) return false;
    this.kept.push({ view, copy: Buffer.from(view) });
    return true;
  }
  onDrain(): void {
    this.told.push('drain');
  }
  onEnd(): void {
    this.told.push('end');
  }
  onClose(error: Error | null): void {
    this.told.push('close');
    this.error = error;
    this.#closed();
  }
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await nextTurn();
};

/** An accepted socket, its peer and what it tells. */
async function adopted(t: Test, handles: TcpHandles | null) {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const peer = connect({ port: await listen(t, server), host: '127.0.0.1', allowHalfOpen: true });
  peer.on('error', () => {});
  t.teardown(() => peer.destroy());
  const raw = adoptSocket((await accepted)[0], handles);
  const sink = new Sink();
  raw.setSink(sink);
  let gone = 0;
  raw.onceClosed(() => gone++);
  await once(peer, 'connect');
  return { raw, peer, sink, gone: () => gone };
}

t.ok(tcpHandles, 'this Node has them');

t.test('a Node that lacks a part, forbids them or is newer than any tried has none', async (t) => {
  type Part = Record<string, unknown>;
  const { binding } = process as unknown as { binding(name: string): Part };
  const find = (change: (name: string, parts: Part) => Part, version?: string) =>
    findTcpHandles(((name: string) => change(name, { ...binding(name) })) as never, version);
  t.ok(find((_name, parts) => parts));
  t.ok(find((_name, parts) => parts, '20.19.0'));
  for (const version of ['27.0.0', '', 'none'])
    t.equal(
      find((_name, parts) => parts, version),
      null,
      version,
    );
  for (const part of [
    'WriteWrap',
    'ShutdownWrap',
    'streamBaseState',
    'kReadBytesOrError',
    'TCP',
    'constants',
  ])
    t.equal(
      find((_name, { [part]: _, ...others }) => others),
      null,
      `without ${part}`,
    );
  for (const method of ['useUserBuffer', 'writeBuffer', 'reset', 'connect6']) {
    const lacking = (parts: Part) => {
      class Lacking extends (parts.TCP as new () => TcpHandle) {}
      Object.defineProperty(Lacking.prototype, method, { value: undefined });
      return { ...parts, TCP: Lacking };
    };
    t.equal(
      find((name, parts) => (name === 'tcp_wrap' ? lacking(parts) : parts)),
      null,
      `without ${method}()`,
    );
  }
  const forbidden = findTcpHandles(() => {
    throw new Error('Access to this API has been restricted');
  });
  t.equal(forbidden, null);
});

t.test(
  'a reset is not asked of libuv while FIN is on its way, which would leave the handle open',
  async (t) => {
    const asked: string[] = [];
    let gone: (() => void) | undefined;
    // A handle whose FIN does not leave: more turns of the event loop than one pass before.
    const handle = {
      useUserBuffer: () => {},
      readStop: () => 0,
      shutdown: () => 0,
      reset: () => asked.push('reset'),
      close(this: TcpHandle, onClosed: (this: TcpHandle) => void) {
        asked.push('close');
        gone = () => onClosed.call(this);
      },
    } as unknown as TcpHandle;
    const raw = new HandleSocket(handle, tcpHandles as TcpHandles, () => t.fail('no stream') as never);
    const sink = new Sink();
    raw.setSink(sink);
    raw.end();
    raw.reset();
    await nextTurn();
    await nextTurn();
    t.strictSame(asked, ['close']);
    gone?.();
    await sink.closed;

    const refusing = Object.assign(handle, { reset: () => -22 });
    const other = new HandleSocket(refusing, tcpHandles as TcpHandles, () => t.fail('no stream') as never);
    const told = new Sink();
    other.setSink(told);
    other.reset();
    await told.closed;
    t.equal(other.closed, true, 'and one that refuses is waited for by nobody');
  },
);

for (const handles of [tcpHandles, null]) {
  const on = handles === null ? 'node:net' : 'a handle';

  t.test(`${on}: both ways, half-closed, closed in order`, async (t) => {
    const { raw, peer, sink, gone } = await adopted(t, handles);
    t.equal(raw instanceof HandleSocket, handles !== null);
    t.match(raw.remoteAddress, '127.0.0.1');
    t.match(raw.localAddress, '127.0.0.1');
    peer.write('one');
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(sink.bytes, 0, 'nothing before resume()');
    raw.resume();
    await until(() => sink.text === 'one');
    raw.pause();
    peer.end('two');
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(sink.text, 'one', 'nor after pause()');
    raw.resume();
    await until(() => raw.ended);
    t.equal(sink.text, 'onetwo');
    t.equal(raw.writable, true, 'half-open');
    t.equal(raw.writeAll([Buffer.from('thr'), Buffer.from('ee')]), true);
    raw.end();
    t.equal(raw.writable, false);
    const [three] = (await once(peer, 'data')) as [Buffer];
    t.equal(String(three), 'three');
    await Promise.all([sink.closed, once(peer, 'close')]);
    t.strictSame(sink.told, ['bytes', 'end', 'close']);
    t.equal(sink.error, null);
    t.equal(raw.closed, true);
    t.equal(gone(), 1);
    const late = new Sink();
    raw.setSink(late);
    await late.closed;
    t.strictSame(late.told, ['end', 'close'], 'a later sink hears of both');
    raw.onceClosed(() => t.fail('it is gone already'));
  });

  t.test(`${on}: an end behind our own is told before the close`, async (t) => {
    const { raw, peer, sink } = await adopted(t, handles);
    raw.resume();
    raw.end();
    peer.resume();
    await once(peer, 'end');
    peer.end('bye');
    await sink.closed;
    t.equal(sink.text, 'bye');
    t.strictSame(sink.told, ['bytes', 'end', 'close']);
  });

  t.test(`${on}: much, in large reads; what is kept is left alone; a backlog drains once`, async (t) => {
    const blob = randomBytes(12 * 1024 * 1024);
    const { raw, peer, sink } = await adopted(t, handles);
    raw.resume();
    peer.write(blob);
    await until(() => sink.bytes === blob.length);
    t.ok(sink.largest > 64 * 1024, `reads of up to ${sink.largest} bytes`);
    t.ok(sink.kept.length > 10 && sink.kept.every(({ view, copy }) => view.equals(copy)));
    const pieces: Buffer[] = [];
    t.equal(raw.write(blob), false);
    t.ok(raw.backlogBytes > 0);
    t.notOk(sink.told.includes('drain'));
    peer.on('data', (piece: Buffer) => pieces.push(piece));
    await until(() => raw.backlogBytes === 0);
    t.equal(sink.told.filter((what) => what === 'drain').length, 1);
    t.equal(raw.write(Buffer.from('x')), true);
    raw.write(blob);
    raw.end();
    await once(peer, 'end');
    t.ok(
      Buffer.concat(pieces).equals(Buffer.concat([blob, Buffer.from('x'), blob])),
      'FIN came behind it all',
    );
    peer.end();
    await sink.closed;
    t.equal(sink.error, null);
  });

  t.test(`${on}: a reset is no end, also behind unread bytes`, async (t) => {
    for (const unreadBytes of [0, 20_000]) {
      const { raw, peer, sink, gone } = await adopted(t, handles);
      if (unreadBytes > 0)
        await new Promise<void>((resolve) => peer.write(Buffer.alloc(unreadBytes), () => resolve()));
      peer.resetAndDestroy();
      await nextTurn();
      raw.resume();
      await sink.closed;
      t.match(sink.error, { code: 'ECONNRESET' });
      t.equal(sink.bytes, unreadBytes);
      t.notOk(sink.told.includes('end'));
      t.equal(gone(), 1);
    }
  });

  t.test(`${on}: whoever is not read and was reset is found by a probe`, async (t) => {
    const { raw, peer, sink } = await adopted(t, handles);
    raw.probe();
    await nextTurn();
    t.equal(raw.closed, false);
    peer.resetAndDestroy();
    await once(peer, 'close');
    raw.probe();
    await sink.closed;
    t.match(sink.error, { code: /ECONNRESET|EPIPE/ });
  });

  t.test(`${on}: reset() is RST, destroy() is FIN, a reset right behind an end closes`, async (t) => {
    for (const how of ['reset', 'destroy', 'end and reset'] as const) {
      const { raw, peer, sink } = await adopted(t, handles);
      let code: string | undefined;
      const peerClosed = new Promise<void>((resolve) => peer.once('close', () => resolve()));
      peer.once('error', (error: NodeJS.ErrnoException) => {
        code = error.code;
      });
      raw.write(Buffer.from('x'));
      await once(peer, 'data');
      if (how === 'destroy') raw.destroy();
      else {
        if (how === 'end and reset') raw.end();
        raw.reset();
      }
      t.equal(raw.writable, false);
      await sink.closed;
      t.equal(sink.error, null);
      if (how === 'reset') await peerClosed;
      else {
        peer.resume();
        if (how === 'destroy') await once(peer, 'end');
      }
      t.equal(code, how === 'reset' ? 'ECONNRESET' : undefined, how);
    }
  });

  t.test(`${on}: a transfer that is cut behind its end does not look whole`, async (t) => {
    const { raw, peer, sink } = await adopted(t, handles);
    t.equal(raw.write(Buffer.alloc(8 * 1024 * 1024)), false);
    raw.end();
    raw.reset();
    await sink.closed;
    t.equal(sink.error, null);
    const code = new Promise((resolve) => {
      peer.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
      // libuv may take it for an end, the operating system does not.
      peer.once('end', () => peer.write('x', (error) => resolve((error as { code?: string } | null)?.code)));
    });
    peer.resume();
    t.match(await code, /ECONNRESET|EPIPE/);
  });

  t.test(`${on}: dialling by address`, async (t) => {
    const accepted: Socket[] = [];
    const port = await listen(
      t,
      createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket)),
    );
    const results: Array<string | null> = [];
    const dial = (toPort: number, onResult: () => void): RawSocket =>
      dialAddress(
        '127.0.0.1',
        toPort,
        (error) => {
          results.push(error === null ? null : (error.code ?? ''));
          onResult();
        },
        handles,
      );
    const raw = await new Promise<RawSocket>((resolve) => {
      const socket: RawSocket = dial(port, () => resolve(socket));
      t.equal(results.length, 0, 'not from within');
    });
    const sink = new Sink();
    raw.setSink(sink);
    raw.resume();
    raw.write(Buffer.from('ping'));
    await until(() => accepted.length === 1);
    const [ping] = (await once(accepted[0] as Socket, 'data')) as [Buffer];
    t.equal(String(ping), 'ping');
    accepted[0]?.end('pong');
    await until(() => sink.told.includes('end'));
    t.equal(sink.text, 'pong');
    raw.end();
    await sink.closed;

    const unused = createServer().listen(0, '127.0.0.1');
    await once(unused, 'listening');
    const { port: nobody } = unused.address() as AddressInfo;
    unused.close();
    await once(unused, 'close');
    await new Promise<void>((resolve) => void dial(nobody, resolve));
    t.strictSame(results, [null, 'ECONNREFUSED']);

    for (const bad of [-1, 65_536, 1.5, Number.NaN])
      t.throws(() => dial(bad, () => t.fail('there is no such port')), RangeError);
    const told: RawSocket = await new Promise((resolve) => {
      const socket: RawSocket = dial(port, () => resolve(socket));
    });
    const cut = new Sink();
    told.setSink(cut);
    told.resume();
    await until(() => accepted.length === 2);
    accepted[1]?.resetAndDestroy();
    await cut.closed;
    t.match(cut.error, { code: 'ECONNRESET' });
    t.strictSame(results, [null, 'ECONNREFUSED', null], 'what comes later is no result');

    const given = dial(port, () => t.fail('it was given up'));
    const gone = new Promise<void>((resolve) => given.onceClosed(resolve));
    given.destroy();
    await gone;
  });
}

t.test('it becomes a socket of node:net for whoever wants one, with all that was', async (t) => {
  const { raw, peer, sink, gone } = await adopted(t, tcpHandles);
  raw.resume();
  peer.write('one');
  await until(() => sink.text === 'one');
  raw.write(Buffer.from('two'));
  await once(peer, 'data');
  t.equal(raw.socket.remotePort, (peer.address() as AddressInfo).port);
  peer.write('three');
  await until(() => sink.text === 'onethree');
  raw.write(Buffer.from('four'));
  const [four] = (await once(peer, 'data')) as [Buffer];
  t.equal(String(four), 'four');
  const duplex = new SocketDuplex(raw);
  peer.end('five');
  let read = '';
  for await (const piece of duplex) read += piece;
  t.equal(read, 'five');
  duplex.end();
  peer.resume();
  await once(peer, 'close');
  t.equal(raw.closed, true);
  t.equal(gone(), 1);
});

t.test('also with a backlog, and when the peer had ended', async (t) => {
  const { raw, peer, sink } = await adopted(t, tcpHandles);
  const blob = randomBytes(8 * 1024 * 1024);
  raw.resume();
  peer.end();
  await until(() => raw.ended);
  t.equal(raw.write(blob), false);
  t.equal(raw.socket.destroyed, false);
  t.ok(raw.backlogBytes > 0);
  let bytes = 0;
  peer.on('data', (piece: Buffer) => {
    bytes += piece.length;
  });
  await until(() => sink.told.includes('drain'));
  await until(() => raw.ended);
  raw.end();
  await sink.closed;
  await until(() => bytes === blob.length);
  t.equal(sink.error, null);
});
