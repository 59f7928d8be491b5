import { type SecureContext, TLSSocket } from 'node:tls';
import { adoptTls, type RawSink, type RawSocket } from '../../agent-protocol/raw-socket.js';

export interface TlsHandshakeOptions {
  context: SecureContext;
  /** Time for the handshake, ms; then the connection is closed. */
  timeLeftMs: number;
  /** The time is over. */
  onDeadline: () => void;
}

/** A session, or why there is none. */
export type TlsHandshake = { ok: true; socket: RawSocket } | { ok: false; problem: string };

/** ALPN, RFC 7301: what is spoken inside; a client that offers only others gets the alert for it. */
const ALPN_PROTOCOLS = ['http/1.1'];

/**
 * Fatal alert handshake_failure in a record of TLS 1.0, which every version understands (RFC 8446 section 6.2): for a
 * port that has no certificate or wants no TLS.
 */
export const TLS_REFUSAL: Buffer = Buffer.from([0x15, 3, 1, 0, 2, 2, 40]);

/** After it was handed to TLS the TCP socket has nothing to tell. */
const ignoring: RawSink = { onBytes: () => false, onDrain() {}, onEnd() {}, onClose() {} };

/**
 * Speaks TLS as a server on `tcp`, which it takes over; `head` was read of it before. The session lives in the same
 * process on the same handle: OpenSSL reads and writes the socket without a detour over streams. Not ok: the
 * connection is closed already, with an alert where TLS has one.
 */
export function acceptTls(
  tcp: RawSocket,
  head: Buffer,
  { context, timeLeftMs, onDeadline }: TlsHandshakeOptions,
): Promise<TlsHandshake> {
  tcp.pause();
  tcp.setSink(ignoring);
  if (tcp.ended || tcp.closed) {
    tcp.destroy();
    return Promise.resolve({ ok: false, problem: 'closed' });
  }
  // What was read comes to OpenSSL first: TLSSocket takes what its socket has buffered.
  tcp.socket.unshift(head);
  const tls = new TLSSocket(tcp.socket, {
    isServer: true,
    secureContext: context,
    ALPNProtocols: ALPN_PROTOCOLS,
  });
  return new Promise((resolve) => {
    let problem = 'closed';
    const timer = setTimeout(() => {
      problem = 'too slow';
      onDeadline();
      tcp.destroy();
    }, timeLeftMs);
    const note = (error: NodeJS.ErrnoException) => {
      problem = error.code ?? error.message;
    };
    const onClose = () => {
      clearTimeout(timer);
      resolve({ ok: false, problem });
    };
    // The session allows half-open connections, so it would wait for the rest of the handshake until the deadline.
    const onEnd = () => tcp.destroy();
    tls.on('error', note);
    tls.once('close', onClose);
    tls.once('end', onEnd);
    // The server's side of a TLSSocket made by hand says `secure`; `secureConnect` is the client's.
    tls.once('secure', () => {
      clearTimeout(timer);
      tls.removeListener('close', onClose);
      tls.removeListener('end', onEnd);
      tls.removeListener('error', note);
      resolve({ ok: true, socket: adoptTls(tls, tcp) });
    });
  });
}
