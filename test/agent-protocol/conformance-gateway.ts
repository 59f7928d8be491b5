import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { decodeHello, encodeControl, type Hello, type Open } from '../../agent-protocol/control.js';
import { encodeFrame, FrameType } from '../../agent-protocol/frame.js';
import { Arrivals } from './agent/harness.js';

/** Small, so that a test meets them soon. */
export const LIMITS = {
  stream_window_bytes: 65_536,
  stream_window_bytes_max: 1_048_576,
  tunnel_window_bytes_max: 8_388_608,
  streams_max: 32,
  frame_bytes_max: 16_384,
};

export interface Frame {
  readonly type: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** One agent's tunnel, spoken to frame by frame: nothing here knows what a right frame is. */
export class Peer {
  readonly socket: WebSocket;
  readonly request: IncomingMessage;
  /** Frames of stream 0, but STATUS, which may come at any time. */
  readonly session = new Arrivals<Frame>();
  readonly statuses = new Arrivals<Frame>();
  readonly closed: Promise<number>;
  readonly #streams = new Map<number, Arrivals<Frame>>();
  #lastStreamId = 0;

  constructor(socket: WebSocket, request: IncomingMessage) {
    this.socket = socket;
    this.request = request;
    this.closed = once(socket, 'close').then(([code]) => code as number);
    socket.on('message', (message: Buffer, isBinary: boolean) => {
      if (!isBinary || message.length < 5) throw new Error('not a frame');
      const frame = {
        type: message[0] as number,
        streamId: message.readUInt32BE(1),
        payload: Buffer.from(message.subarray(5)),
      };
      if (frame.streamId > 0) this.stream(frame.streamId).add(frame);
      else if (frame.type === FrameType.STATUS) this.statuses.add(frame);
      else if (frame.type === FrameType.PING) this.send(FrameType.PONG, 0, frame.payload);
      else this.session.add(frame);
    });
  }

  send(type: number, streamId: number, payload: Uint8Array = new Uint8Array(0)): void {
    this.socket.send(encodeFrame(type, streamId, payload));
  }
  sendRaw(message: Buffer | string): void {
    this.socket.send(message);
  }
  /** The frame in a message of several fragments. */
  sendFragmented(type: number, streamId: number, payload: Uint8Array, pieces: number): void {
    const frame = encodeFrame(type, streamId, payload);
    const step = Math.ceil(frame.length / pieces);
    for (let at = 0; at < frame.length; at += step)
      this.socket.send(frame.subarray(at, at + step), { binary: true, fin: at + step >= frame.length });
  }
  stream(id: number): Arrivals<Frame> {
    let frames = this.#streams.get(id);
    if (frames === undefined) {
      frames = new Arrivals();
      this.#streams.set(id, frames);
    }
    return frames;
  }
  nextId(): number {
    return ++this.#lastStreamId;
  }
  /** OPEN; the dial code comes with the promise. */
  async open(
    host: string,
    port: number,
    network: Open['network'] = 'tcp',
  ): Promise<{ id: number; code: number }> {
    const id = this.nextId();
    this.send(FrameType.OPEN, id, encodeControl({ host, port, network }));
    const opened = await this.stream(id).next();
    if (opened.type !== FrameType.OPENED || opened.payload.length !== 1)
      throw new Error(`frame ${opened.type}`);
    return { id, code: opened.payload[0] as number };
  }
  /** The next DATA payloads of a stream until there are as many bytes; CREDIT frames between them are skipped. */
  async data(id: number, bytes: number): Promise<string> {
    let text = '';
    while (text.length < bytes) {
      const frame = await this.stream(id).nextWhere((f) => f.type !== FrameType.CREDIT);
      if (frame.type !== FrameType.DATA) throw new Error(`frame ${frame.type} instead of DATA`);
      text += frame.payload.toString('latin1');
    }
    return text;
  }
  credit(id: number, bytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(bytes);
    this.send(FrameType.CREDIT, id, payload);
  }
}

export interface ConformanceGateway {
  readonly url: string;
  /** Tunnels, before HELLO. */
  readonly peers: Arrivals<Peer>;
  /** The next tunnel, after HELLO and WELCOME. */
  greeted(): Promise<{ peer: Peer; hello: Hello }>;
  stop(): Promise<void>;
}

/** A gateway made of `ws` alone: a standard WebSocket peer, independent of the project's own byte path. */
export async function startConformanceGateway(): Promise<ConformanceGateway> {
  const server = createServer();
  const webSockets = new WebSocketServer({
    server,
    perMessageDeflate: false,
    maxPayload: 1_048_576,
    handleProtocols: (offered) => (offered.has('traffic-share.v1') ? 'traffic-share.v1' : false),
  });
  const peers = new Arrivals<Peer>();
  webSockets.on('connection', (socket, request) => peers.add(new Peer(socket, request)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/tunnel`,
    peers,
    greeted: async () => {
      const peer = await peers.next();
      const first = await peer.session.next();
      const hello = decodeHello(first.payload);
      if (first.type !== FrameType.HELLO || !hello.ok) throw new Error('HELLO does not come first');
      peer.send(
        FrameType.WELCOME,
        0,
        encodeControl({
          session_id: 's1',
          gateway_id: 'conformance',
          limits: LIMITS,
          policy_version: '1',
          terms_version: '1',
          ping_live_ms: 5_000,
          ping_idle_ms: 25_000,
        }),
      );
      return { peer, hello: hello.message };
    },
    stop: async () => {
      for (const socket of webSockets.clients) socket.terminate();
      webSockets.close();
      server.close();
      await once(server, 'close');
    },
  };
}
