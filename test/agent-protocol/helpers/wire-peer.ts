import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import { type NaiveFrame, readFrames, writeFrame } from './naive-websocket.js';

/** The far end of a tunnel as bytes: sends what it is told, collects what comes. */
export class WirePeer {
  readonly socket: Socket;
  readonly #isClient: boolean;
  #bytes: Buffer;
  /** The socket was closed by the other end. */
  readonly ended: Promise<void>;

  constructor(socket: Socket, isClient: boolean, rest: Buffer) {
    this.socket = socket;
    this.#isClient = isClient;
    this.#bytes = rest;
    this.ended = new Promise((resolve) => {
      socket.once('end', resolve);
      socket.once('close', () => resolve());
    });
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.socket.emit('collected');
    });
  }

  /** A masking key, or null where this end must not mask. */
  get key(): Buffer | null {
    return this.#isClient ? randomBytes(4) : null;
  }

  get frames(): NaiveFrame[] {
    return readFrames(this.#bytes).frames;
  }

  send(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** A mux frame as one binary message. */
  sendFrame(type: number, streamId: number, payload: Buffer = Buffer.alloc(0)): void {
    const frame = Buffer.alloc(5 + payload.length);
    frame.writeUInt8(type, 0);
    frame.writeUInt32BE(streamId, 1);
    payload.copy(frame, 5);
    this.send(writeFrame({ final: true, opcode: 2, payload: frame }, this.key));
  }

  /** Waits until `found` says yes to the frames collected so far. */
  async until(found: (frames: NaiveFrame[]) => boolean): Promise<NaiveFrame[]> {
    while (!found(this.frames)) await once(this.socket, 'collected');
    return this.frames;
  }
}

/** Connects to a tunnel port as a client that does the HTTP part by hand. */
export async function connectPeer(t: Test, port: number): Promise<WirePeer> {
  const socket = connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  socket.write(
    'GET /tunnel HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\nSec-WebSocket-Version: 13\r\n` +
      'Sec-WebSocket-Protocol: traffic-share.v1\r\nAuthorization: Bearer ticket\r\n\r\n',
  );
  return new WirePeer(socket, true, await afterHead(socket));
}

/** A tunnel port that does the HTTP part by hand; the first connection becomes the peer. */
export async function servePeer(t: Test): Promise<{ url: string; peer: Promise<WirePeer> }> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const peer = once(server, 'connection').then(async ([socket]: Socket[]) => {
    const accepted = socket as Socket;
    t.teardown(() => accepted.destroy());
    let head = '';
    while (!head.includes('\r\n\r\n')) head += String((await once(accepted, 'data'))[0]);
    const key = /sec-websocket-key: (.*)\r\n/i.exec(head)?.[1] ?? '';
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    accepted.write(
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: traffic-share.v1\r\n\r\n`,
    );
    return new WirePeer(accepted, false, Buffer.alloc(0));
  });
  return { url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/tunnel`, peer };
}

async function afterHead(socket: Socket): Promise<Buffer> {
  let bytes: Buffer = Buffer.alloc(0);
  for (;;) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, chunk]);
    const at = bytes.indexOf('\r\n\r\n');
    if (at >= 0) return bytes.subarray(at + 4);
  }
}
