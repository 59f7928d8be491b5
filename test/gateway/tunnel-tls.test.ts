/** The tunnel port in TLS: what is negotiated, and resuming. */
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { developmentCertificate } from '../../gateway/runtime/development-certificate.js';
import type { CertificateFiles } from '../../gateway/runtime/tls-certificate.js';
import { type GatewayRig, startGatewayRig } from '../helpers/gateway.js';

let rig: GatewayRig;
let files: CertificateFiles;
const folder = t.testdir({});
t.before(async () => {
  files = await developmentCertificate(folder, Date.now());
  rig = await startGatewayRig({ TS_TUNNEL_TLS_CERT: files.certPath, TS_TUNNEL_TLS_KEY: files.keyPath });
});
t.teardown(() => rig?.stop());

interface Handshake {
  cipher: string;
  resumed: boolean;
  /** A resumed one brings none. */
  ticket: Buffer | null;
}

/** Shakes hands, and waits for a ticket where one comes. */
function shakeHands(options: ConnectionOptions = {}): Promise<Handshake> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connect({
      host: '127.0.0.1',
      port: rig.gateway.tunnelPort,
      ca: readFileSync(files.certPath),
      ...options,
    });
    const done = (ticket: Buffer | null) => {
      resolve({ cipher: socket.getCipher().name, resumed: socket.isSessionReused(), ticket });
      socket.destroy();
    };
    socket.on('error', reject);
    socket.once('session', done);
    socket.once('secureConnect', () => {
      if (socket.isSessionReused()) done(null);
    });
    socket.resume();
  });
}

/** What is negotiated, and that a ticket serves. */
async function check(t: Test): Promise<Handshake> {
  const first = await shakeHands();
  t.match(first, { cipher: 'TLS_AES_128_GCM_SHA256', resumed: false });
  t.match(await shakeHands({ session: first.ticket as Buffer }), { resumed: true });
  const phone = 'TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256';
  t.match(await shakeHands({ ciphers: phone }), { cipher: 'TLS_CHACHA20_POLY1305_SHA256' });
  const only256 = await shakeHands({ ciphers: 'TLS_AES_256_GCM_SHA384' });
  t.match(only256, { cipher: 'TLS_AES_256_GCM_SHA384' });
  return first;
}

t.test(
  'AES-128 first, ChaCha20 for who prefers it, tickets; all the same with the next certificate',
  async (t) => {
    const { ticket } = await check(t);
    const next = await developmentCertificate(join(folder, 'next'), Date.now());
    copyFileSync(next.keyPath, files.keyPath);
    copyFileSync(next.certPath, files.certPath);
    let after: Handshake | Error;
    do {
      after = await shakeHands({ session: ticket as Buffer }).catch((error: Error) => error);
    } while (after instanceof Error || after.resumed);
    await check(t);
  },
);
