/** What a worker asks of another one for itself: plain HTTP stays where its connection is, request by request. */
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import { SocketDuplex } from '../../agent-protocol/socket-duplex.js';
import type { ProxyFailure } from '../errors.js';
import { ClientConnection } from './client-connection.js';
import type { ClientPeer } from './client-peer.js';
import type { Connected, EchoAnswer, Exit } from './connect-pipeline.js';
import type { Destination } from './destination.js';
import { echo } from './echo.js';
import {
  type Elsewhere,
  type HandedRequest,
  type Login,
  passEnd,
  place,
  type Siblings,
} from './hand-over.js';
import type { ListenerContext } from './open-destination.js';

type Asker = Pick<ListenerContext, 'pipeline' | 'siblings'>;

/** As `ProxyPipeline.connect`, by way of another worker where this one has no device that will do. */
export async function connectAnywhere(
  { pipeline, siblings }: Asker,
  peer: ClientPeer,
  login: Login,
  destination: Destination,
): Promise<Connected | ProxyFailure> {
  const placed = await place(login, siblings, (attempts) => pipeline.connect(login, destination, attempts));
  if (placed.ok !== 'elsewhere') return placed;
  const asked = await ask<{ ok: true; exit: Exit }>(siblings as Siblings, peer, login, placed, {
    answer: 'worker',
    destination,
  });
  if (!asked.ok) return asked;
  const { exit, socket, head } = asked;
  return {
    ok: true,
    exit,
    duplex: () => new ElsewhereDuplex(socket, head),
    splice: () => socket.reset(),
    abandon: () => socket.reset(),
  };
}

/** As `echo`, by way of another worker. */
export async function echoAnywhere(
  { pipeline, siblings }: Asker,
  peer: ClientPeer,
  login: Login,
  port: number,
): Promise<EchoAnswer | ProxyFailure> {
  const placed = await place(login, siblings, (attempts) => echo(pipeline, login, port, attempts));
  if (placed.ok !== 'elsewhere') return placed;
  const asked = await ask<EchoAnswer>(siblings as Siblings, peer, login, placed, { echo: port });
  if (asked.ok) asked.socket.destroy();
  return asked;
}

/** One line: what `answerLine` writes. */
function readAnswerLine(unread: Buffer): { value: string; bytes: number } | null {
  const end = unread.indexOf(0x0a);
  return end < 0 ? null : { value: unread.toString('utf8', 0, end), bytes: end + 1 };
}

/** An answer of one worker to another. */
export function answerLine(answer: { ok: true } | ProxyFailure): Buffer {
  return Buffer.from(`${JSON.stringify(answer)}\n`);
}

/** More than any answer has. */
const ANSWER_BYTES_MAX = 65_536;

async function ask<T extends { ok: true }>(
  siblings: Siblings,
  peer: ClientPeer,
  login: Login,
  { worker, tried, devicesLeft, stays }: Elsewhere,
  asks: HandedRequest['asks'],
): Promise<(T & { socket: RawSocket; head: Buffer }) | ProxyFailure> {
  const [own, others] = await siblings.pairs.make();
  const connection = new ClientConnection(own, peer, {
    // The other worker answers within its own limits, or its end is closed with it.
    handshakeTimeoutMs: 0,
    onDeadline: () => {},
    unreadBytesMax: ANSWER_BYTES_MAX,
    lingerTimeoutMs: 0,
  });
  connection.stopDeadline();
  passEnd(
    siblings,
    worker,
    {
      asks,
      requestId: '',
      credentials: login.credentials,
      clientAddress: peer.address,
      localAddress: '',
      head: '',
      tried,
      devicesLeft,
      stays,
    },
    others,
  );
  const line = await connection.read(readAnswerLine);
  if (line === null) return { ok: false, code: 'PEER_DROPPED', detail: 'worker' };
  const answer = JSON.parse(line) as T | ProxyFailure;
  const { socket, head } = connection.release();
  if (answer.ok) return { ...answer, socket, head };
  socket.destroy();
  return answer;
}

/** A stream through another worker's device. Left before both sides have ended it is reset, as a stream here would be. */
class ElsewhereDuplex extends SocketDuplex {
  constructor(socket: RawSocket, head: Buffer) {
    super(socket);
    if (head.length > 0) this.unshift(head);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.readableEnded || !this.writableFinished) this.raw.reset();
    super._destroy(error, done);
  }
}
