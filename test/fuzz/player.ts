import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { readFrames, writeFrame } from '../agent-protocol/helpers/naive-websocket.js';
import { Random } from '../sim/random.js';
import {
  type LaterFrame,
  labelOf,
  type SocketInput,
  type Source,
  type TcpClient,
  type UdpClient,
} from './input.js';
import { MEMBER, WALK_IN_ADDRESSES } from './people.js';
import { frameBytes } from './tunnel-inputs.js';
import type { World } from './world.js';

/** A client without an answer for so long leaves; above the time that wrong logins are held back. */
const PATIENCE_MS = { open: 25, defaults: 75 } as const;
/** The longest that one input is played. */
const PLAY_MS_MAX = 1_000;
/** Time that a client which sent FIN leaves the gateway to close. */
const LINGER_MS = 30;
/** As much of an answer as is looked at, bytes. */
const ANSWER_BYTES_MAX = 4_096;

/** One for all: to make one takes longer than a handshake. */
const CLIENT_CONTEXT = createSecureContext();

const WELCOME = 2;
const OPEN = 4;
const BINARY = 2;

/** What was written to the gateway in all, by whom. */
export interface Written {
  /** By clients of the proxy ports, datagrams included. */
  buyersBytes: number;
  /** By devices with a ticket. */
  tunnelsBytes: number;
}

/** The open associations that datagrams are sent to. */
export interface AssociationPort {
  port: number;
  /** The client's own UDP socket. */
  client: DatagramSocket;
}

/** Plays inputs at a gateway, each as a client of its own. */
export class Player {
  readonly written: Written = { buyersBytes: 0, tunnelsBytes: 0 };
  associations: AssociationPort[] = [];
  #stranger: Promise<DatagramSocket> | null = null;

  constructor(private readonly world: World) {}

  /** Resolves when the client has left; to what it must not have been told, or null. */
  async play(input: SocketInput): Promise<string | null> {
    const { client } = input;
    if (client.transport === 'udp') return this.#sendDatagram(client);
    if (client.ticket !== null) await this.world.issueTicket(client.ticket);
    return new Connection(this.world, input, client, this.written).played;
  }

  close(): void {
    void this.#stranger?.then((socket) => socket.close());
    this.#stranger = null;
  }

  async #sendDatagram({ fromClient, association, message }: UdpClient): Promise<null> {
    const to = this.associations[association % this.associations.length];
    if (to === undefined) return null;
    if (!fromClient) {
      this.#stranger ??= boundSocket('127.77.0.1');
      return sent(await this.#stranger, message, to.port);
    }
    this.written.buyersBytes += message.length;
    return sent(to.client, message, to.port);
  }
}

function sent(socket: DatagramSocket, message: Buffer, port: number): Promise<null> {
  // An error is one of this machine (no buffer space): the datagram is lost, as datagrams may be.
  return new Promise((resolve) => socket.send(message, port, '127.0.0.1', () => resolve(null)));
}

/** A UDP socket at an address of its own. */
export function boundSocket(address: string): Promise<DatagramSocket> {
  const socket = createSocket('udp4');
  socket.on('error', () => {});
  return new Promise((resolve) => socket.bind(0, address, () => resolve(socket)));
}

/** The address that the input's client has. */
export function clientAddress(world: Pick<World, 'profile'>, seed: number, source: Source): string {
  if (source === 'walk-in') return WALK_IN_ADDRESSES.direct;
  const random = new Random(seed ^ 0x5bd1);
  const spread = world.profile === 'open' ? 256 : 2;
  if (source === 'balancer')
    return `127.8.${random.below(spread)}.${1 + random.below(Math.min(spread, 250))}`;
  return `127.${16 + random.below(Math.min(spread, 48))}.${random.below(spread)}.${1 + random.below(Math.min(spread, 250))}`;
}

/** What the answer grants, in whichever protocol; null: nothing. */
export function grants(answer: Buffer): string | null {
  const [first, second, third, fourth, fifth, sixth] = answer;
  if (first === 5 && second === 0) return 'SOCKS5: no login needed';
  if (first === 5 && second === 2 && third === 1 && fourth === 0 && fifth === 5 && sixth === 0)
    return 'SOCKS5: reply 00';
  const text = answer.toString('latin1');
  if (/^HTTP\/1\.1 (200|101) /.test(text)) return text.slice(0, 40);
  return /X-TS-Exit-Id/i.test(text) ? 'X-TS-Exit-Id' : null;
}

/** First bytes of what the gateway may say: SOCKS5, SOCKS4, HTTP, a TLS alert or ServerHello. */
const FIRST_BYTES = new Set([0x05, 0x00, 0x48, 0x15, 0x16]);

/** One TCP client from its connection to its end. */
class Connection {
  readonly played: Promise<string | null>;
  #resolve: (problem: string | null) => void = () => {};
  readonly #tcp: Socket;
  #socket: Socket;
  #answer = Buffer.alloc(0);
  #timer: NodeJS.Timeout;
  readonly #deadline: NodeJS.Timeout;
  #leaving = false;
  /** Of a tunnel: bytes of the WebSocket behind the handshake's answer; null: there was none yet. */
  #frames: Buffer | null = null;
  #buyer: Socket | null = null;

  constructor(
    private readonly world: World,
    private readonly input: SocketInput,
    private readonly client: TcpClient,
    private readonly written: Written,
  ) {
    this.played = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#tcp = connect({
      host: '127.0.0.1',
      port: world.portOf(client.port),
      localAddress: clientAddress(world, input.seed, client.source),
      allowHalfOpen: true,
      noDelay: true,
    });
    this.#tcp.on('error', () => {});
    this.#tcp.once('close', () => this.#over());
    this.#socket = this.#tcp;
    this.#deadline = setTimeout(() => this.#tcp.destroy(), PLAY_MS_MAX);
    this.#timer = this.#deadline;
    if (client.insideTls) this.#tcp.once('connect', () => this.#beginTls());
    else {
      this.#listen();
      this.#tcp.once('connect', () => this.#say(0));
    }
  }

  #beginTls(): void {
    const tls = connectTls({
      socket: this.#tcp,
      secureContext: CLIENT_CONTEXT,
      rejectUnauthorized: false,
      servername: 'localhost',
    });
    tls.on('error', () => this.#tcp.destroy());
    tls.once('close', () => this.#tcp.destroy());
    this.#socket = tls;
    this.#listen();
    tls.once('secureConnect', () => this.#say(0));
  }

  #listen(): void {
    this.#socket.on('data', (bytes: Buffer) => this.#heard(bytes));
    this.#socket.once('end', () => this.#leave());
  }

  #say(index: number): void {
    const piece = this.client.pieces[index];
    if (piece === undefined) this.#saidAll();
    if (piece === undefined || this.#socket.destroyed) return;
    this.#count(piece.length);
    this.#socket.write(piece);
    setImmediate(() => this.#say(index + 1));
  }

  #count(bytes: number): void {
    if (this.client.port === 'tunnel') this.written.tunnelsBytes += bytes;
    else this.written.buyersBytes += bytes;
  }

  #saidAll(): void {
    if (this.client.hasty) this.#leave();
    else this.#timer = setTimeout(() => this.#leave(), PATIENCE_MS[this.world.profile]);
  }

  #heard(bytes: Buffer): void {
    if (this.#timer !== this.#deadline) this.#timer.refresh();
    if (this.#frames !== null) {
      this.#heardFrames(bytes);
      return;
    }
    if (this.#answer.length < ANSWER_BYTES_MAX) this.#answer = Buffer.concat([this.#answer, bytes]);
    if (this.client.ticket === null) return;
    const end = this.#answer.indexOf('\r\n\r\n');
    if (end < 0 || !this.#answer.toString('latin1', 0, 12).endsWith(' 101')) return;
    this.#frames = Buffer.alloc(0);
    this.#heardFrames(this.#answer.subarray(end + 4));
  }

  #heardFrames(bytes: Buffer): void {
    const { frames, rest } = readFrames(Buffer.concat([this.#frames as Buffer, bytes]));
    this.#frames = rest;
    for (const { opcode, payload } of frames) {
      if (opcode !== BINARY || payload.length < 5) continue;
      if (payload[0] === WELCOME && this.client.later.length > 0) this.#askForAStream();
      else if (payload[0] === OPEN) this.#serveStream(payload.readUInt32BE(1));
    }
  }

  /** A buyer who wants a device where the fuzzed ones are: this one, or another that is there at the moment. */
  #askForAStream(): void {
    if (this.#buyer !== null) return;
    const name = Buffer.from(`${MEMBER.username}-country-de`);
    const secret = Buffer.from(MEMBER.password);
    const host = Buffer.from(labelOf(this.input.seed));
    const payload = Buffer.alloc(300, 'up');
    const message = Buffer.concat([
      ...[Buffer.of(5, 1, 2, 1, name.length), name, Buffer.of(secret.length), secret],
      ...[Buffer.of(5, 1, 0, 3, host.length), host, Buffer.of(1, 187), payload],
    ]);
    this.written.buyersBytes += message.length;
    const localAddress = clientAddress(this.world, this.input.seed, 'stranger');
    this.#buyer = connect({ host: '127.0.0.1', port: this.world.portOf('any'), localAddress });
    this.#buyer.on('error', () => {});
    this.#buyer.resume();
    this.#buyer.end(message);
  }

  #serveStream(stream: number): void {
    for (const frame of this.client.later) this.#sendFrame(frame, stream);
  }

  #sendFrame({ type, stream, payload }: LaterFrame, opened: number): void {
    if (this.#socket.destroyed || this.#leaving) return;
    const message = frameBytes(type, stream ?? opened, payload);
    const bytes = writeFrame({ final: true, opcode: BINARY, payload: message }, Buffer.alloc(4));
    this.#count(bytes.length);
    this.#socket.write(bytes);
  }

  #leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    if (this.#timer !== this.#deadline) clearTimeout(this.#timer);
    const { ending } = this.client;
    if (ending === 'reset') this.#tcp.resetAndDestroy();
    else if (ending === 'close') this.#tcp.destroy();
    else {
      this.#socket.end();
      this.#timer = setTimeout(() => this.#tcp.destroy(), LINGER_MS);
    }
  }

  #over(): void {
    this.#leaving = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#deadline);
    this.#buyer?.destroy();
    this.#resolve(this.#problem());
  }

  #problem(): string | null {
    const answer = this.#answer;
    if (answer.length === 0) return null;
    const shown = JSON.stringify(answer.toString('latin1', 0, 60));
    if (!FIRST_BYTES.has(answer[0] as number)) return `an answer in no protocol: ${shown}`;
    if (this.input.valid) return null;
    const granted = grants(answer);
    return granted === null ? null : `granted without a login (${granted}): ${shown}`;
  }
}
