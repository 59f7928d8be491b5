/** The destination, in a process of its own. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, Socket } from 'node:net';
import { ASIDE, DOWN, ECHO, GET, HOLD, type OriginCalls, RESPONSE, UP } from '../protocol.js';
import { roleFile } from '../role.js';
import { serveCalls } from './serve-calls.js';

/** Read and write size: large enough that system calls do not decide. */
const CHUNK_BYTES = 1 << 20;
const chunk = Buffer.alloc(CHUNK_BYTES, 'b');
/** All connections read into one buffer: what arrives is only counted, or looked at at once. */
const scratch = Buffer.alloc(CHUNK_BYTES);

let bytesIn = 0;
const totals = { bytesUp: 0, bytesDown: 0 };

function send(socket: Socket, bytes: Buffer): void {
  totals.bytesDown += bytes.length;
  socket.write(bytes);
}
let aside: ChildProcess | null = null;

function serve(socket: Socket, counts: { mode: number }, n: number): void {
  totals.bytesUp += n;
  if (counts.mode === UP) {
    bytesIn += n;
    return;
  }
  if (counts.mode === ECHO) {
    send(socket, Buffer.from(scratch.subarray(0, n)));
    return;
  }
  if (counts.mode !== 0) return;
  counts.mode = scratch[0] as number;
  if (counts.mode === UP) bytesIn += n - 1;
  else if (counts.mode === DOWN && n >= 9) sendBytes(socket, Number(scratch.readBigUInt64BE(1)));
  else if (counts.mode === GET) {
    totals.bytesDown += RESPONSE.length;
    socket.end(RESPONSE);
  } else if (counts.mode === HOLD) send(socket, Buffer.of(HOLD));
  else if (counts.mode === ECHO) send(socket, Buffer.from(scratch.subarray(0, n)));
  else if (counts.mode === ASIDE) handAside(socket, n);
  else socket.destroy();
}

/**
 * Its other end says nothing more before the first message is answered. What it says then is not to be read here: this
 * process holds the connection, too, until it hears that it was taken.
 */
function handAside(socket: Socket, n: number): void {
  aside ??= fork(roleFile('echo'), { serialization: 'advanced' });
  socket.pause();
  aside.send(Buffer.from(scratch.subarray(0, n)), socket);
}

function sendBytes(socket: Socket, total: number): void {
  let left = total;
  const more = () => {
    while (left > 0) {
      const n = Math.min(left, CHUNK_BYTES);
      left -= n;
      totals.bytesDown += n;
      if (!socket.write(n === CHUNK_BYTES ? chunk : chunk.subarray(0, n))) return;
    }
    socket.end();
  };
  // In the next turn: drains of a socket that takes all at once follow each other and let nothing else run
  socket.on('drain', () => setImmediate(more));
  more();
}

// An accepted socket takes no `onread` of its own: a second one is put on its handle.
const server = createServer({ pauseOnConnect: true, noDelay: true }, (accepted) => {
  const state = { mode: 0 };
  const socket = new Socket({
    handle: (accepted as unknown as { _handle: unknown })._handle,
    allowHalfOpen: false,
    readable: true,
    writable: true,
    onread: {
      buffer: scratch,
      callback: (n: number) => {
        serve(socket, state, n);
        return true;
      },
    },
  } as ConstructorParameters<typeof Socket>[0]);
  socket.on('error', () => socket.destroy());
  socket.resume();
});

const calls: OriginCalls = {
  async listen() {
    server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 });
    await once(server, 'listening');
    return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
  },
  async count() {
    return { bytes: bytesIn, atMs: performance.now() };
  },
  async totals() {
    return { ...totals };
  },
};
serveCalls({ ...calls });
