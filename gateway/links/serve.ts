import { ResetCode } from '../../agent-protocol/frame.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { StreamSocketView } from '../../agent-protocol/stream-socket-view.js';
import type { ProxyFailure } from '../errors.js';
import type { Attempts, Authenticated } from '../listeners/connect-pipeline.js';
import type { DatagramTotals } from '../relay/datagram-totals.js';
import type { Log } from '../runtime/logging.js';
import { ClientOnLink } from './linked-association.js';
import type { OwnPipeline } from './linked-pipeline.js';
import { ANSWER_HEAD, encodeAnswer, type LinkRequest } from './messages.js';

/** As many devices as any connection may try. */
const DEVICES_MAX = 3;

export interface ServeDeps {
  /** This gateway's own: what comes by a link goes no further. */
  own: Pick<OwnPipeline, 'authenticate' | 'connect' | 'associate' | 'associationPlaces' | 'echo'>;
  isOverloaded: () => boolean;
  /** Where datagrams are counted that come to nothing. */
  totals: DatagramTotals;
  log: Log;
}

/**
 * Serves what another gateway asks for one of its buyers, as if the buyer were here: login, limits, allocation, dial and
 * meter are this gateway's. The stream gets the answer line, and after a yes the connection's bytes.
 */
export function serveOnLink(deps: ServeDeps): (request: LinkRequest, stream: MuxStream) => void {
  return (request, stream) => {
    serve(deps, request, stream).catch((error: unknown) => {
      deps.log.error({ err: error }, 'request of another gateway failed');
      stream.reset(ResetCode.INTERNAL);
    });
  };
}

async function serve(
  deps: ServeDeps,
  { asks, login, devicesLeft = DEVICES_MAX, stays, exact }: LinkRequest,
  stream: MuxStream,
): Promise<void> {
  const { own, isOverloaded } = deps;
  const refuse = (answer: { ok: true } | ProxyFailure) => end(stream, answer);
  if (isOverloaded()) return refuse({ ok: false, code: 'DRAINING', detail: 'overloaded' });
  if (devicesLeft < 1) return refuse({ ok: false, code: 'NO_PEER' });
  const auth = await own.authenticate(login);
  if (!auth.ok) return refuse(auth);
  // Where it can not be done, who asked goes on with another gateway.
  const attempts = { devicesMax: Math.min(devicesLeft, DEVICES_MAX), stays, exact, goesOn: true };
  if ('echo' in asks) return refuse(await own.echo(auth, attempts));
  if ('associate' in asks) return associate(deps, auth, attempts, stream);
  const connected = await own.connect(auth, asks.connect, attempts);
  if (!connected.ok) return refuse(connected);
  if (stream.state === 'closed') return connected.abandon();
  const view = new StreamSocketView(stream);
  view.write(encodeAnswer({ ok: true, exit: connected.exit } as { ok: true }));
  connected.splice(view, Buffer.alloc(0));
}

/** As a connection, but that the answer is a datagram. */
async function associate(
  { own, totals }: ServeDeps,
  auth: Authenticated,
  attempts: Attempts,
  stream: MuxStream,
): Promise<void> {
  // Of the gateway, not of the buyer: another one may have room.
  if (own.associationPlaces.isFull)
    return end(stream, { ok: false, code: 'DRAINING', detail: 'associations' });
  const associated = await own.associate(auth, attempts);
  if (!associated.ok) return end(stream, associated);
  // Without room on the link there is none for its datagrams either: who asked goes on with another gateway.
  if (
    stream.state === 'closed' ||
    !answerAsDatagram(stream, { ok: true, exit: associated.exit } as { ok: true })
  ) {
    stream.reset(ResetCode.INTERNAL);
    return associated.abandon();
  }
  new ClientOnLink(stream, totals).start(associated);
}

/** The answer, and the end of the stream. */
function end(stream: MuxStream, answer: { ok: true } | ProxyFailure): void {
  if (stream.network === 'udp') {
    answerAsDatagram(stream, answer);
    stream.reset(ResetCode.CANCELLED);
    return;
  }
  const view = new StreamSocketView(stream);
  view.write(encodeAnswer(answer));
  view.end();
  view.resume();
}

/** Whether the link had room for it. */
function answerAsDatagram(stream: MuxStream, answer: { ok: true } | ProxyFailure): boolean {
  return stream.sendDatagram(ANSWER_HEAD, encodeAnswer(answer));
}
