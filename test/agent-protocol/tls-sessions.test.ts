import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { TlsSessions } from '../../agent-protocol/tls-sessions.js';
import { connectTunnel, upgradeTunnel } from '../../agent-protocol/websocket.js';
import { developmentCertificate } from '../../gateway/runtime/development-certificate.js';
import { readCertificate } from '../../gateway/runtime/tls-certificate.js';
import { testCertificate } from '../helpers/test-certificate.js';
import { hello, Watched, welcome } from './helpers/tunnel.js';

/** A gateway's port in TLS; `resumed` has, of each handshake, whether it was by ticket. */
async function serve(t: Test, port = 0) {
  const resumed: boolean[] = [];
  const server: Server = createServer(testCertificate);
  server.on('secureConnection', (socket: TLSSocket) => resumed.push(socket.isSessionReused()));
  server.on('upgrade', (request, socket, head) => {
    const handler = new Watched({ onHello: (session) => session.welcome(welcome()) });
    upgradeTunnel(request, socket, head, handler);
  });
  server.listen(port, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  return { server, resumed, port: (server.address() as AddressInfo).port };
}

/** Opens a tunnel up to WELCOME, and ends it. */
async function visit(port: number, sessions: TlsSessions, ca: string): Promise<void> {
  let welcomed!: () => void;
  const open = new Promise<void>((resolve) => {
    welcomed = resolve;
  });
  const handler = new Watched({ onWelcome: () => welcomed() });
  const url = `wss://127.0.0.1:${port}/tunnel`;
  const session = await connectTunnel({ url, ticket: 't', tls: { ca, sessions } }, handler);
  session.hello(hello);
  await open;
  session.close({ code: 'stopped', reason: 'test' });
  await handler.closed;
}

t.test('the tunnels after the first resume; a new certificate and a new start do no harm', async (t) => {
  const sessions = new TlsSessions();
  const first = await serve(t);
  const next = await readCertificate(await developmentCertificate(t.testdir({}), Date.now()));
  const ca = testCertificate.cert + next.cert;
  for (let i = 0; i < 4; i++) await visit(first.port, sessions, ca);
  t.same(first.resumed, [false, true, true, false], 'each ticket once, and a full handshake brings two');

  first.server.setSecureContext({ cert: next.cert, key: next.key });
  for (let i = 0; i < 4; i++) await visit(first.port, sessions, ca);
  t.same(
    first.resumed.slice(4),
    [false, true, true, false],
    'a new certificate: new tickets, and an old one does no harm',
  );

  first.server.close();
  await once(first.server, 'close');
  const second = await serve(t, first.port);
  for (let i = 0; i < 2; i++) await visit(second.port, sessions, ca);
  t.same(second.resumed, [false, true], 'a new start: in full once');
});

t.test('a certificate that is not trusted leaves no session behind', async (t) => {
  const { port, resumed } = await serve(t);
  const sessions = new TlsSessions();
  const stranger = await readCertificate(await developmentCertificate(t.testdir({}), Date.now()));
  await t.rejects(visit(port, sessions, stranger.cert), { code: 'connect_failed' });
  await visit(port, sessions, testCertificate.cert);
  t.same(resumed.slice(-1), [false]);
});

t.test('each session is given once, the newest first, and few are remembered', (t) => {
  const sessions = new TlsSessions();
  const [older, newer] = [randomBytes(10), randomBytes(10)];
  sessions.keep('a', older);
  sessions.keep('a', newer);
  t.equal(sessions.take('a'), newer);
  t.equal(sessions.take('a'), older);
  t.equal(sessions.take('a'), undefined);
  for (let i = 0; i < 100; i++) sessions.keep('a', newer);
  let count = 0;
  while (sessions.take('a')) count++;
  t.ok(count >= 2 && count <= 4, `${count} of a site`);
  for (let i = 0; i < 100; i++) sessions.keep(`site ${i}`, newer);
  t.equal(sessions.take('site 0'), undefined);
  t.equal(sessions.take('site 99'), newer);
  t.end();
});
