import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls, createSecureContext } from 'node:tls';
import type { RawSocket } from '../../../agent-protocol/raw-socket.js';
import { SocketDuplex } from '../../../agent-protocol/socket-duplex.js';
import type { BuyerAccess } from '../../../gateway/buyers/directory.js';
import { parseUsername } from '../../../gateway/buyers/username.js';
import type { ProxyErrorCode, ProxyFailure } from '../../../gateway/errors.js';
import type {
  Authenticated,
  Connected,
  EchoAnswer,
  ProxyPipeline,
} from '../../../gateway/listeners/connect-pipeline.js';
import type { PortProtocol } from '../../../gateway/listeners/port-protocol.js';
import {
  ProxyListener,
  type ProxyListenerDeps,
  type ProxyListenerSettings,
  proxyListenerDefaults,
} from '../../../gateway/listeners/proxy-listener.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import type { Certificate } from '../../../gateway/runtime/tls-certificate.js';
import { testCertificate } from '../../helpers/test-certificate.js';

export const ACCOUNT = 'acme1';
export const PASSWORD = 'Pa55w0rd';

/** Nothing that a test waits for takes longer; then it fails and shows what there was. */
const WAIT_MAX_MS = 10_000;

interface Test {
  teardown(f: () => unknown): void;
}

/**
 * A pipeline without devices: every host leads to the loopback port the client asked for. The host `<CODE>.fail` and
 * the password `<CODE>` are refused with that code.
 */
export class FakePipeline implements ProxyPipeline {
  readonly logins: Array<{ username: string; password: string | null; clientAddress: string }> = [];
  readonly destinations: Array<{ host: string; port: number }> = [];
  readonly heads: Buffer[] = [];
  /** What takes streams out: sockets to the destinations. */
  readonly streams = new Set<Socket>();
  abandoned = 0;
  exitCount = 0;
  /** Delays `connect` until it resolves. */
  gate: Promise<void> = Promise.resolve();

  async authenticate(credentials: {
    username: string;
    password: string | null;
    clientAddress: string;
  }): Promise<Authenticated | ProxyFailure> {
    this.logins.push(credentials);
    const { username, password } = credentials;
    if (password !== null && /^[A-Z_]+$/.test(password))
      return { ok: false, code: password as ProxyErrorCode };
    const parsed = parseUsername(username);
    if (!parsed.ok) return username === '' ? { ok: false, code: 'AUTH_FAILED' } : parsed;
    if (parsed.params.account !== ACCOUNT || password !== PASSWORD) return { ok: false, code: 'AUTH_FAILED' };
    const buyer: BuyerAccess = {
      account: ACCOUNT,
      buyerId: '00000000-0000-4000-8000-000000000001',
      subUser: null,
      priceMicrosPerGb: 0n,
      limits: { streamsMax: 1, connectionsPerSecondMax: 1, extraPorts: [], grantedPorts: [] },
      rules: [],
      access: { clientAddress: '127.0.0.1', proof: 'credential', tokenId: null },
      packageRoute: null,
    };
    return { ok: true, buyer, params: parsed.params, asked: credentials };
  }

  /** The tag `<CODE>` is refused with that code. */
  async echo({ params }: Authenticated): Promise<EchoAnswer | ProxyFailure> {
    if (params.tag !== null) return { ok: false, code: params.tag as ProxyErrorCode };
    const exit = { id: 'exit0', country: 'DE', session: params.session };
    return { ok: true, exit, city: 'Köln <3', asn: 64_500, bytesLeft: 1_000 };
  }

  async connect(
    auth: Authenticated,
    destination: { host: string; port: number },
  ): Promise<Connected | ProxyFailure> {
    this.destinations.push(destination);
    const code = /^(.*)\.fail$/i.exec(destination.host)?.[1];
    if (code) return { ok: false, code: code.toUpperCase() as ProxyErrorCode };
    if (destination.host === 'throws.test') throw new Error('broken invariant');
    await this.gate;
    const socket = connect({ host: '127.0.0.1', port: destination.port, allowHalfOpen: true });
    try {
      await once(socket, 'connect');
    } catch {
      return { ok: false, code: 'REFUSED' };
    }
    this.streams.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.streams.delete(socket));
    this.exitCount += 1;
    return {
      ok: true,
      exit: { id: `exit${this.exitCount}`, country: 'US', session: auth.params.session },
      splice: (raw: RawSocket, head: Buffer) => {
        this.heads.push(Buffer.from(head));
        const client = new SocketDuplex(raw);
        if (head.length > 0) socket.write(head);
        client.on('error', () => socket.destroy());
        client.once('close', () => socket.end());
        socket.once('close', () => client.destroy());
        client.pipe(socket);
        socket.pipe(client);
      },
      duplex: (): Duplex => socket,
      abandon: () => {
        this.abandoned += 1;
        socket.destroy();
      },
    };
  }
}

/** What a listener speaks TLS with in tests. */
export const certificate: Certificate = {
  ...testCertificate,
  context: createSecureContext(testCertificate),
  expiresAtMs: Number.POSITIVE_INFINITY,
};

/** The whole conversation of a SOCKS5 client up to its request for `host:port`. */
export function socksRequest(host: string, port: number, username = ACCOUNT, password = PASSWORD): Buffer {
  return Buffer.concat([
    Buffer.from([5, 1, 2, 1, username.length]),
    Buffer.from(username),
    Buffer.from([password.length]),
    Buffer.from(password),
    Buffer.from([5, 1, 0, 3, host.length]),
    Buffer.from(host),
    Buffer.from([port >> 8, port & 255]),
  ]);
}

/** What the SOCKS5 server answers to that when all is well. */
export const SOCKS_SUCCESS: Buffer = Buffer.from([5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);

/** A listener on a free loopback port over a fake pipeline; closed at the end of the test. */
export async function startListener<P extends ProxyPipeline = FakePipeline>(
  t: Test,
  options: { pipeline?: P; settings?: Partial<ProxyListenerSettings>; accepts?: PortProtocol } & Partial<
    Pick<ProxyListenerDeps, 'certificate' | 'isOverloaded' | 'log'>
  > = {},
): Promise<{ listener: ProxyListener; pipeline: P; port: number; proxyUrl: string }> {
  const pipeline = options.pipeline ?? (new FakePipeline() as unknown as P);
  const listener = new ProxyListener({
    log: silentLog,
    ...options,
    pipeline,
    settings: { ...proxyListenerDefaults, ...options.settings },
  });
  t.teardown(() => listener.close(0));
  const accepts = options.accepts ?? 'any';
  const { port } = await listener.listen({ host: '127.0.0.1', port: 0, accepts });
  return { listener, pipeline, port, proxyUrl: `http://${ACCOUNT}:${PASSWORD}@127.0.0.1:${port}` };
}

/** A TCP server on a free loopback port; its connections are cut at the end of the test. */
export async function startServer(t: Test, server: Server, onSocket?: (s: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    onSocket?.(socket);
  });
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** Sends back what it gets; ends when the client ends. */
export function startEchoServer(t: Test): Promise<number> {
  return startServer(t, createServer({ allowHalfOpen: true }), (socket) => socket.pipe(socket));
}

/** A plain client socket that remembers all it received. */
export class TestClient {
  readonly socket: Socket;
  received: Buffer = Buffer.alloc(0);
  ended = false;
  closed = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.#wake();
    });
    socket.on('end', () => {
      this.ended = true;
      this.#wake();
    });
    socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  /** `localAddress`: the address of this machine that it comes from. */
  static async connect(t: Test, port: number, localAddress = '127.0.0.1'): Promise<TestClient> {
    const socket = connect({ host: '127.0.0.1', port, localAddress, allowHalfOpen: true, noDelay: true });
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    return new TestClient(socket);
  }

  /** The same inside TLS; rejects when the handshake fails. */
  static async connectTls(t: Test, port: number, options: ConnectionOptions = {}): Promise<TestClient> {
    const socket = connectTls({
      host: '127.0.0.1',
      port,
      ca: testCertificate.cert,
      allowHalfOpen: true,
      ...options,
    } as ConnectionOptions);
    t.teardown(() => socket.destroy());
    await once(socket, 'secureConnect');
    return new TestClient(socket);
  }

  send(bytes: Buffer | string): void {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  get text(): string {
    return this.received.toString('latin1');
  }

  /** Waits until it has received so many bytes in all. */
  async bytes(count: number): Promise<Buffer> {
    await this.until(() => this.received.length >= count);
    return this.received.subarray(0, count);
  }

  /** Waits until what it received matches. */
  async match(pattern: RegExp): Promise<string> {
    await this.until(() => pattern.test(this.text));
    return this.text;
  }

  /** Waits until the server has ended its side or the connection is closed. */
  async end(): Promise<Buffer> {
    await this.until(() => this.ended || this.closed);
    return this.received;
  }

  async until(condition: () => boolean): Promise<void> {
    const timer = setTimeout(() => this.socket.destroy(), WAIT_MAX_MS);
    try {
      while (!condition()) {
        if (this.closed)
          throw new Error(`connection closed after ${JSON.stringify(this.text.slice(-2_000))}`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Waits for what no event of the client tells. */
export async function eventually(condition: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + WAIT_MAX_MS;
  while (!condition()) {
    if (performance.now() > giveUpAt) throw new Error(`never: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** `Proxy-Authorization` of the test account, or of what is given. */
export function basic(username = ACCOUNT, password = PASSWORD): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
