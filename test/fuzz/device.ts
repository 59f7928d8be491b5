import { unpack } from 'msgpackr';
import { PlainDevice, type PlainFrame, type PlainOpen } from '../helpers/plain-device.js';
import { seedOfLabel } from './input.js';

const OPEN = 4;
const OPENED = 5;
const DATA = 6;
const FIN = 7;
const RESET = 8;
const CREDIT = 9;
const DATAGRAM = 10;
const PING = 11;
const PONG = 12;

/** Bytes of a request's head that are kept while it is not complete. */
const HEAD_BYTES_MAX = 64 * 1024;

/** What a destination may answer to a plain request; the seed in its name chooses. */
const HTTP_ANSWERS: readonly string[] = [
  'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
  'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok',
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello',
  'HTTP/1.1 999 \u00ff\r\nX-TS-Error: NONE\r\nConnection: X-TS-Error, close\r\n\r\nwithout a length',
  'SSH-2.0-OpenSSH\r\n\r\n',
];
/** Ways of which the connection is ended behind the answer. */
const ENDING_ANSWERS = new Set([6, 7]);

interface Served {
  seed: number;
  windowBytes: number;
  /** null: it does not speak HTTP. */
  head: string | null;
}

/** What the devices were asked to do and did, since the start. */
export interface DeviceCounts {
  opens: number;
  /** Payload of DATA and DATAGRAM that came, and that was sent (of DATAGRAM with the address). */
  bytesIn: number;
  bytesOut: number;
  datagramsIn: number;
}

/**
 * A device that is the destination of whatever it is asked to dial: it notes each stream and byte that the gateway
 * lets through, then echoes, or answers a plain request. Knows only SPEC.md.
 */
export class FuzzDevice {
  static async connect(
    tunnelPort: number,
    ticket: string,
    address: string,
    counts: DeviceCounts,
    onOpen: (open: PlainOpen) => void,
  ): Promise<FuzzDevice> {
    const plain = await PlainDevice.connect(tunnelPort, ticket, { 'x-forwarded-for': address });
    const welcome = (await plain.greet()) as { limits: { stream_window_bytes: number } };
    return new FuzzDevice(plain, welcome.limits.stream_window_bytes, counts, onOpen);
  }

  readonly #streams = new Map<number, Served>();

  private constructor(
    private readonly plain: PlainDevice,
    private readonly windowBytes: number,
    private readonly counts: DeviceCounts,
    private readonly onOpen: (open: PlainOpen) => void,
  ) {
    plain.onFrame = (frame) => {
      plain.frames.length = 0; // they would be kept for ever
      this.#take(frame);
    };
  }

  /** Why the gateway ended the tunnel; null: it is open. */
  get closed(): string | null {
    return this.plain.closed && `${this.plain.closed.code} ${this.plain.closed.reason}`;
  }

  close(): void {
    this.plain.socket.terminate();
  }

  #take({ type, streamId, payload }: PlainFrame): void {
    const stream = this.#streams.get(streamId);
    if (type === PING) this.plain.send(PONG, 0, payload);
    else if (type === OPEN) this.#open(streamId, unpack(payload) as PlainOpen);
    else if (!stream) return;
    else if (type === DATA) this.#data(streamId, stream, payload);
    else if (type === CREDIT) stream.windowBytes += payload.readUInt32BE();
    else if (type === DATAGRAM) this.#datagram(streamId, payload);
    else if (type === FIN) {
      this.#streams.delete(streamId);
      this.plain.send(FIN, streamId);
    } else if (type === RESET) this.#streams.delete(streamId);
  }

  #open(streamId: number, open: PlainOpen): void {
    this.counts.opens += 1;
    this.onOpen(open);
    const seed = seedOfLabel(open.host) ?? 0;
    // One in sixteen can not be reached, for each reason that there is.
    const dialCode = seed % 16 === 15 ? 1 + (seed % 11) : 0;
    if (dialCode === 0) this.#streams.set(streamId, { seed, windowBytes: this.windowBytes, head: '' });
    this.plain.send(OPENED, streamId, Buffer.of(dialCode));
  }

  #data(streamId: number, stream: Served, payload: Buffer): void {
    this.counts.bytesIn += payload.length;
    const credit = Buffer.alloc(4);
    credit.writeUInt32BE(payload.length);
    this.plain.send(CREDIT, streamId, credit);
    if (stream.head === '' && !/^[A-Z]{3,10} \S+ HTTP/.test(payload.toString('latin1', 0, 600)))
      stream.head = null;
    if (stream.head === null) {
      this.#send(streamId, stream, payload);
      return;
    }
    const parts = (stream.head + payload.toString('latin1')).split('\r\n\r\n');
    stream.head = (parts.pop() as string).slice(-HEAD_BYTES_MAX) || ' ';
    const answer = Math.floor(stream.seed / 16) % HTTP_ANSWERS.length;
    for (let left = parts.length; left > 0; left--)
      this.#send(streamId, stream, Buffer.from(HTTP_ANSWERS[answer] as string, 'latin1'));
    if (parts.length > 0 && ENDING_ANSWERS.has(answer)) {
      this.#streams.delete(streamId);
      this.plain.send(FIN, streamId);
    }
  }

  /** What does not fit into the window is left out: a destination may send what it likes. */
  #send(streamId: number, stream: Served, bytes: Buffer): void {
    const piece = bytes.subarray(0, stream.windowBytes);
    if (piece.length === 0) return;
    stream.windowBytes -= piece.length;
    this.counts.bytesOut += piece.length;
    this.plain.send(DATA, streamId, piece);
  }

  #datagram(streamId: number, payload: Buffer): void {
    this.counts.bytesIn += payload.length - headBytes(payload);
    this.counts.datagramsIn += 1;
    const answer = Buffer.concat([Buffer.of(1, 93, 184, 216, 34, 1, 187), payload.subarray(0, 64)]);
    this.counts.bytesOut += answer.length;
    this.plain.send(DATAGRAM, streamId, answer);
  }
}

/** Type, address and port in front of a datagram's bytes. */
function headBytes(payload: Buffer): number {
  const addressBytes = payload[0] === 1 ? 4 : payload[0] === 4 ? 16 : 1 + (payload[1] as number);
  return 1 + addressBytes + 2;
}
