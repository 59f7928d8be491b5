import { ResetCode } from '../../agent-protocol/frame.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { StreamSocketView } from '../../agent-protocol/stream-socket-view.js';
import type { ProxyFailure } from '../errors.js';
import type { ProxyPipeline } from '../listeners/connect-pipeline.js';
import type { Log } from '../runtime/logging.js';
import { encodeAnswer, type LinkRequest } from './messages.js';

/** As many devices as any connection may try. */
const DEVICES_MAX = 3;

export interface ServeDeps {
  /** This gateway's own: what comes by a link goes no further. */
  own: Pick<ProxyPipeline, 'authenticate' | 'connect' | 'echo'>;
  isOverloaded: () => boolean;
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
  { own, isOverloaded }: ServeDeps,
  { asks, login, devicesLeft = DEVICES_MAX, stays, exact }: LinkRequest,
  stream: MuxStream,
): Promise<void> {
  const refuse = (answer: { ok: true } | ProxyFailure) => {
    const view = new StreamSocketView(stream);
    view.write(encodeAnswer(answer));
    view.end();
    view.resume();
  };
  if (isOverloaded()) return refuse({ ok: false, code: 'DRAINING', detail: 'overloaded' });
  if (devicesLeft < 1) return refuse({ ok: false, code: 'NO_PEER' });
  const auth = await own.authenticate(login);
  if (!auth.ok) return refuse(auth);
  // Where it can not be done, who asked goes on with another gateway.
  const attempts = { devicesMax: Math.min(devicesLeft, DEVICES_MAX), stays, exact, goesOn: true };
  if ('echo' in asks) return refuse(await own.echo(auth, attempts));
  const connected = await own.connect(auth, asks.connect, attempts);
  if (!connected.ok) return refuse(connected);
  if (stream.state === 'closed') return connected.abandon();
  const view = new StreamSocketView(stream);
  view.write(encodeAnswer({ ok: true, exit: connected.exit } as { ok: true }));
  connected.splice(view, Buffer.alloc(0));
}
