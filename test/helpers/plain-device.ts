import { once } from 'node:events';
import type { Socket } from 'node:net';
import { pack, unpack } from 'msgpackr';
import { WebSocket } from 'ws';

/** A frame as SPEC.md tells it: type, stream id, payload. */
export interface PlainFrame {
  type: number;
  streamId: number;
  payload: Buffer;
}

/** The payload of OPEN. */
export interface PlainOpen {
  host: string;
  port: number;
  network: string;
}

const TYPES = {
  HELLO: 1,
  WELCOME: 2,
  STATUS: 3,
  OPEN: 4,
  OPENED: 5,
  DATA: 6,
  FIN: 7,
  RESET: 8,
  CREDIT: 9,
  DATAGRAM: 10,
  GOAWAY: 14,
};

const HELLO = pack({ agent: 'plain', agent_version: '1.0.0', os: 'test', terms_version: '1', versions: [1] });

/**
 * A device written from SPEC.md on plain `ws` and msgpack, with none of the project's wire code: random masks, whole
 * messages, and whatever `onFrame` answers.
 */
export class PlainDevice {
  readonly frames: PlainFrame[] = [];
  closed: { code: number; reason: string } | null = null;
  goaway: { code: string } | null = null;
  onFrame: (frame: PlainFrame) => void = () => {};
  readonly #waiting = new Set<() => void>();
  /** What either side may send on a new stream; told in WELCOME. */
  #windowBytes = 0;

  private constructor(readonly socket: WebSocket) {
    socket.on('message', (message: Buffer) => {
      const frame = {
        type: message[0] as number,
        streamId: message.readUInt32BE(1),
        payload: message.subarray(5),
      };
      if (frame.type === TYPES.GOAWAY) this.goaway = unpack(frame.payload) as { code: string };
      this.frames.push(frame);
      this.onFrame(frame);
      this.#wake();
    });
    socket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() };
      this.#wake();
    });
    socket.on('error', () => this.#wake());
  }

  /** Connects and waits for the handshake; rejects with the HTTP status of a refusal. */
  static async connect(
    tunnelPort: number,
    ticket: string | null,
    headers: Record<string, string> = {},
  ): Promise<PlainDevice> {
    const socket = new WebSocket(`ws://127.0.0.1:${tunnelPort}/tunnel`, ['traffic-share.v1'], {
      perMessageDeflate: false,
      headers: { ...headers, ...(ticket === null ? {} : { authorization: `Bearer ${ticket}` }) },
    });
    const device = new PlainDevice(socket);
    const refused = once(socket, 'unexpected-response').then(([, response]) => {
      throw Object.assign(new Error('refused'), { status: (response as { statusCode: number }).statusCode });
    });
    refused.catch(() => {});
    await Promise.race([once(socket, 'open'), refused]);
    return device;
  }

  send(type: number, streamId: number, payload: Buffer = Buffer.alloc(0)): void {
    const message = Buffer.alloc(5 + payload.length);
    message[0] = type;
    message.writeUInt32BE(streamId, 1);
    payload.copy(message, 5);
    this.socket.send(message);
  }

  /** Several frames in one write, so that the gateway has them in one read. */
  sendTogether(frames: ReadonlyArray<readonly [type: number, streamId: number, payload?: Buffer]>): void {
    const { _socket: tcp } = this.socket as unknown as { _socket: Socket };
    tcp.cork();
    for (const frame of frames) this.send(...frame);
    tcp.uncork();
  }

  /** HELLO, or the payload of another one, and the WELCOME that answers it. */
  async greet(hello: Buffer = HELLO): Promise<Record<string, unknown>> {
    this.send(TYPES.HELLO, 0, hello);
    const welcome = await this.next((frame) => frame.type === TYPES.WELCOME);
    const message = unpack(welcome.payload) as Record<string, unknown> & {
      limits: { stream_window_bytes: number };
    };
    this.#windowBytes = message.limits.stream_window_bytes;
    return message;
  }

  status(message: object): void {
    this.send(TYPES.STATUS, 0, pack(message));
  }

  /** Destinations it was asked to dial so far. */
  get opens(): PlainOpen[] {
    return this.frames
      .filter(({ type }) => type === TYPES.OPEN)
      .map(({ payload }) => unpack(payload) as PlainOpen);
  }

  /** The first frame, come or to come, that fits. Rejects when the tunnel closes first. */
  async next(fits: (frame: PlainFrame) => boolean): Promise<PlainFrame> {
    for (;;) {
      const found = this.frames.find(fits);
      if (found) return found;
      if (this.closed) throw new Error(`tunnel closed: ${this.closed.code} ${this.closed.reason}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  async untilClosed(): Promise<void> {
    while (!this.closed) await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  /**
   * Accepts every OPEN and sends back whatever comes, with its FIN. It keeps to the window that the gateway grants,
   * and returns credit for what it could send on. Datagrams go back to where they were sent to, which has to be an address. `greeting` goes out first on each stream. `dialCode` may refuse a
   * destination; null: no answer at all.
   */
  echo(
    greeting: Buffer = Buffer.alloc(0),
    dialCode: (destination: PlainOpen) => number | null = () => 0,
  ): void {
    const streams = new Map<number, { windowBytes: number; queue: Buffer[]; finished: boolean }>();
    const pump = (streamId: number) => {
      const stream = streams.get(streamId);
      if (!stream) return;
      while (stream.queue.length > 0 && stream.windowBytes > 0) {
        const next = stream.queue.shift() as Buffer;
        const piece = next.subarray(0, stream.windowBytes);
        if (piece.length < next.length) stream.queue.unshift(next.subarray(piece.length));
        stream.windowBytes -= piece.length;
        this.send(TYPES.DATA, streamId, piece);
        const credit = Buffer.alloc(4);
        credit.writeUInt32BE(piece.length);
        this.send(TYPES.CREDIT, streamId, credit);
      }
      if (stream.finished && stream.queue.length === 0) {
        streams.delete(streamId);
        this.send(TYPES.FIN, streamId);
      }
    };
    this.onFrame = ({ type, streamId, payload }) => {
      const stream = streams.get(streamId);
      if (type === TYPES.OPEN) {
        const code = dialCode(unpack(payload) as PlainOpen);
        if (code === null) return;
        if (code !== 0) return this.send(TYPES.OPENED, streamId, Buffer.from([code]));
        const windowBytes = this.#windowBytes - greeting.length;
        streams.set(streamId, { windowBytes, queue: [], finished: false });
        this.send(TYPES.OPENED, streamId, Buffer.from([0]));
        if (greeting.length > 0) this.send(TYPES.DATA, streamId, greeting);
      } else if (type === TYPES.RESET) streams.delete(streamId);
      else if (type === TYPES.DATAGRAM) this.send(TYPES.DATAGRAM, streamId, payload);
      else if (stream && type === TYPES.DATA) stream.queue.push(payload);
      else if (stream && type === TYPES.CREDIT) stream.windowBytes += payload.readUInt32BE();
      else if (stream && type === TYPES.FIN) stream.finished = true;
      pump(streamId);
    };
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
