import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { LiveSet } from '../../agent-protocol/live-set.js';
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import type { SocketDuplex } from '../../agent-protocol/socket-duplex.js';
import { httpRefusal, httpRefusalBytes, type ProxyFailure, proxyErrors } from '../errors.js';
import type { ClientPeer } from './client-peer.js';
import { asksForLogin, NO_CREDENTIALS, newRequestId, readBasicCredentials } from './credentials.js';
import { isEchoHost, readAbsoluteTarget } from './destination.js';
import { sendEcho } from './echo.js';
import { connectAnywhere, echoAnywhere } from './elsewhere.js';
import type { Login } from './hand-over.js';
import { discardBody, exchangeWithOrigin, type ForwardRequest } from './http-exchange.js';
import { checkFraming, headerValue } from './http-head.js';
import { upgradeAtOrigin } from './http-upgrade.js';
import type { ListenerContext } from './open-destination.js';
import { OriginAgent } from './origin-agent.js';

export interface HttpForwarderSettings {
  /** Longest request head, bytes; above it 400. */
  headBytesMax: number;
  /** Longest answer head of an origin, bytes; above it 502. */
  originHeadBytesMax: number;
  /** Time until the next head on a kept-open connection is complete, ms; then it is closed. */
  keepAliveTimeoutMs: number;
  /** The same while nobody has logged in on the connection, ms. */
  handshakeTimeoutMs: number;
  /** Time a refused client has to read the refusal and end, ms; then the connection is dropped. */
  lingerTimeoutMs: number;
  /** Plain HTTP requests of one connection waiting for their turn; above it nothing more is read from it. */
  pipelinedMax: number;
  /** Idle streams to origins that one connection keeps for its next requests; above it the oldest is closed. */
  idleStreamsMax: number;
}

/** Takes a connection back on which CONNECT follows plain requests; `unread` begins with its head. */
export type OnConnect = (socket: RawSocket, peer: ClientPeer, unread: Buffer) => void;

/** On the sockets of the forwarder: whose they are. */
const CONNECTION = Symbol('connection');
interface Forwarded {
  [CONNECTION]?: ForwardConnection;
}

/** One client connection in the forwarder. */
interface ForwardConnection {
  socket: SocketDuplex;
  peer: ClientPeer;
  agent: OriginAgent;
  /** The latest request's end: the next one starts after it, so that answers and effects keep their order. */
  tail: Promise<void>;
  waiting: number;
  idleTimer: NodeJS.Timeout | null;
  newest: IncomingMessage | null;
  current: IncomingMessage | null;
  /** The newest request, when its head was read but the message is not to be understood. */
  malformed: IncomingMessage | null;
  /** node:http has let go of it: an upgrade or a tunnel. */
  detached: boolean;
}

/**
 * Plain HTTP: `GET http://host/path` and its like, one after the other on a connection, each authenticated on its
 * own. node:http reads requests and writes answers (its strict parser, no leniency); streams to origins come from the
 * pipeline.
 */
export class HttpForwarder {
  readonly #context: ListenerContext;
  readonly #settings: HttpForwarderSettings;
  readonly #onConnect: OnConnect;
  readonly #server: Server;
  readonly #connections = new LiveSet<ForwardConnection>();
  #draining = false;

  constructor(context: ListenerContext, settings: HttpForwarderSettings, onConnect: OnConnect) {
    this.#context = context;
    this.#settings = settings;
    this.#onConnect = onConnect;
    // Never listens: it is given connections. Its own timers need listening, so deadlines are kept here.
    this.#server = createServer({
      maxHeaderSize: settings.headBytesMax,
      requireHostHeader: false,
      keepAliveTimeout: 0,
    });
    this.#server.maxHeadersCount = 0; // the size is limited instead: a count would drop headers silently
    // A client may say all it has to say and end its side before the answer (not in the types).
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    this.#server.on('request', (req, res) => this.#queue(req, (c) => this.#request(c, req, res, false)));
    this.#server.on('checkContinue', (req, res) => this.#queue(req, (c) => this.#request(c, req, res, true)));
    // Left to node:http, an expectation it does not know would be answered out of turn, and without a login.
    this.#server.on('checkExpectation', (req, res) =>
      this.#queue(req, (c) => this.#request(c, req, res, false)),
    );
    this.#server.on('upgrade', (req, _socket, head) => this.#queue(req, (c) => this.#upgrade(c, req, head)));
    this.#server.on('connect', (req, _socket, head) => this.#queue(req, (c) => this.#connect(c, req, head)));
    this.#server.on('clientError', (_error, socket) => this.#malformed(socket));
  }

  /** Takes a connection whose unread bytes begin with a request head. Lives until the socket closes. */
  serve(socket: SocketDuplex, peer: ClientPeer): void {
    const connection: ForwardConnection = {
      socket,
      peer,
      agent: new OriginAgent(this.#settings.idleStreamsMax, socket),
      tail: Promise.resolve(),
      waiting: 0,
      idleTimer: null,
      newest: null,
      current: null,
      malformed: null,
      detached: false,
    };
    (socket as Duplex & Forwarded)[CONNECTION] = connection;
    const place = this.#connections.add(connection);
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#connections.remove(place);
      this.#forget(connection);
    });
    this.#startIdleTimer(connection, this.#idleTimeoutMs(connection));
    this.#server.emit('connection', socket);
  }

  /** No further requests: idle connections are closed, later requests get DRAINING. */
  drain(): void {
    this.#draining = true;
    for (const { waiting, socket } of this.#connections) if (waiting === 0) socket.destroy();
  }

  #forget(connection: ForwardConnection): void {
    if (connection.idleTimer) clearTimeout(connection.idleTimer);
    connection.agent.destroy();
  }

  #startIdleTimer(connection: ForwardConnection, timeoutMs: number): void {
    const { socket } = connection;
    connection.idleTimer = setTimeout(() => socket.destroy(), timeoutMs);
  }

  /** Does the work after that of the requests before it on the connection. */
  #queue(req: IncomingMessage, work: (connection: ForwardConnection) => Promise<void> | void): void {
    const connection = (req.socket as Duplex & Forwarded)[CONNECTION];
    if (!connection) {
      req.socket.destroy();
      return;
    }
    const { socket } = connection;
    const { lingerTimeoutMs } = this.#settings;
    if (connection.idleTimer) clearTimeout(connection.idleTimer);
    connection.idleTimer = null;
    connection.waiting += 1;
    connection.newest = req;
    if (connection.waiting === this.#settings.pipelinedMax) socket.pause();
    connection.tail = connection.tail
      .then(() => {
        if (socket.destroyed || socket.writableEnded) return;
        connection.current = req;
        if (connection.malformed === req) return this.#refuseDetached(connection, badParam('head'));
        return work(connection);
      })
      .catch((error: unknown) => {
        this.#context.log.error({ err: error }, 'plain HTTP request failed');
        socket.destroy();
      })
      .then(() => {
        connection.waiting -= 1;
        if (connection.waiting === this.#settings.pipelinedMax - 1) socket.resume();
        if (connection.waiting > 0 || socket.destroyed || connection.detached) return;
        if (this.#draining) socket.destroy();
        else if (socket.writableEnded) this.#startIdleTimer(connection, lingerTimeoutMs);
        else this.#startIdleTimer(connection, this.#idleTimeoutMs(connection));
      });
  }

  #idleTimeoutMs({ peer }: ForwardConnection): number {
    const { keepAliveTimeoutMs, handshakeTimeoutMs } = this.#settings;
    return peer.loggedIn ? keepAliveTimeoutMs : Math.min(handshakeTimeoutMs, keepAliveTimeoutMs);
  }

  async #request(
    connection: ForwardConnection,
    req: IncomingMessage,
    res: ServerResponse,
    expectContinue: boolean,
  ): Promise<void> {
    const done = new Promise<void>((resolve) => res.once('close', resolve));
    const requestId = newRequestId();
    const { lingerTimeoutMs, originHeadBytesMax } = this.#settings;
    const read = await this.#read(connection, req, requestId);
    if (connection.socket.destroyed) return;
    const refuse = (failure: Refusal) => {
      this.#context.refused(connection.peer, failure, requestId);
      const { status, reason, headers, body } = httpRefusal(failure, requestId);
      if (closesConnection(failure, req, expectContinue)) headers.push('Connection', 'close');
      discardBody(req, lingerTimeoutMs);
      res.writeHead(status, reason, headers);
      res.end(body);
    };
    if (!read.ok) refuse(read);
    else if (isEchoHost(read.destination.host)) {
      const answer = await echoAnywhere(this.#context, connection.peer, read.auth, read.destination.port);
      if (connection.socket.destroyed) return;
      if (answer.ok) {
        discardBody(req, lingerTimeoutMs);
        sendEcho(req, res, answer, requestId);
      } else refuse(answer);
    } else {
      const { agent, peer } = connection;
      exchangeWithOrigin(req, res, read, {
        agent,
        connect: (login, destination) => connectAnywhere(this.#context, peer, login, destination),
        originHeadBytesMax,
        refuse,
        expectContinue,
        lingerTimeoutMs,
      });
    }
    await done;
  }

  async #upgrade(connection: ForwardConnection, req: IncomingMessage, head: Buffer): Promise<void> {
    const { socket, agent, peer } = connection;
    if (headerValue(req.rawHeaders, 'upgrade')?.toLowerCase() !== 'websocket') {
      // Some clients offer h2c with each request: an origin reached through a proxy need not take it up.
      socket.unshift(Buffer.concat([requestHeadBytes(req, 'upgrade'), head]));
      this.#server.emit('connection', socket);
      return;
    }
    connection.detached = true;
    const requestId = newRequestId();
    const refuse = (failure: ProxyFailure) => this.#refuseDetached(connection, failure, requestId);
    const read = await this.#read(connection, req, requestId);
    if (!read.ok) return refuse(read);
    if (isEchoHost(read.destination.host)) return refuse(badParam('upgrade'));
    if (headerValue(req.rawHeaders, 'transfer-encoding') ?? headerValue(req.rawHeaders, 'content-length'))
      return refuse({ ok: false, code: 'BAD_PARAM', detail: 'upgrade' });
    const { originHeadBytesMax } = this.#settings;
    upgradeAtOrigin(req, socket, head, read, {
      agent,
      connect: (login, destination) => connectAnywhere(this.#context, peer, login, destination),
      originHeadBytesMax,
      refuse,
    });
  }

  /** CONNECT on a connection that plain requests were sent on before: goes back to where CONNECT is served. */
  #connect(connection: ForwardConnection, req: IncomingMessage, head: Buffer): void {
    const { socket, peer } = connection;
    connection.detached = true;
    this.#forget(connection);
    const unread = socket.release();
    this.#onConnect(socket.raw, peer, Buffer.concat([requestHeadBytes(req), head, unread]));
  }

  /** Who asks for what, or why not. */
  async #read(
    connection: ForwardConnection,
    req: IncomingMessage,
    requestId: string,
  ): Promise<({ ok: true } & ForwardRequest) | Refusal> {
    const target = readAbsoluteTarget(req.url ?? '', req.method ?? '');
    const login = await this.#login(connection, req);
    if (!login.ok) return login;
    return target ? { ...login, ...target, requestId } : badParam('target');
  }

  async #login(
    connection: ForwardConnection,
    req: IncomingMessage,
  ): Promise<{ ok: true; auth: Login; route: string } | Refusal> {
    const unsound = checkFraming({
      method: req.method ?? '',
      target: req.url ?? '',
      minorVersion: req.httpVersionMinor === 0 ? 0 : 1,
      rawHeaders: req.rawHeaders,
    });
    if (unsound) return unsound;
    const authorization = headerValue(req.rawHeaders, 'proxy-authorization');
    const credentials = authorization === null ? NO_CREDENTIALS : readBasicCredentials(authorization);
    if (!credentials) return { ok: false, code: 'AUTH_FAILED' };
    const auth = await this.#context.login(connection.peer, credentials);
    if (auth.ok) return { ok: true, auth, route: credentials.username };
    if (authorization === null && asksForLogin(auth))
      return { ok: false, code: 'AUTH_FAILED', mayRetry: true };
    return auth;
  }

  /** A refusal on a connection that node:http has let go of: told, then closed. */
  #refuseDetached(connection: ForwardConnection, failure: ProxyFailure, requestId = newRequestId()): void {
    this.#context.refused(connection.peer, failure, requestId);
    this.#endWith(connection.socket, httpRefusalBytes(failure, requestId));
  }

  /** What node:http can not read is refused in its turn; a request already under way is cut. */
  #malformed(socket: Duplex): void {
    const connection = (socket as Duplex & Forwarded)[CONNECTION];
    if (!connection || !socket.writable) {
      socket.destroy();
      return;
    }
    const { newest } = connection;
    if (newest && !newest.complete) {
      if (connection.current === newest) socket.destroy();
      else connection.malformed = newest;
      return;
    }
    void connection.tail.then(() => {
      if (!socket.writableEnded) this.#refuseDetached(connection, badParam('head'));
    });
  }

  /** Writes the last bytes and closes, after the client had time to read them. */
  #endWith(socket: Duplex, bytes: Buffer): void {
    if (!socket.writable) {
      socket.destroy();
      return;
    }
    socket.end(bytes);
    socket.resume();
    const timer = setTimeout(() => socket.destroy(), this.#settings.lingerTimeoutMs);
    socket.once('end', () => socket.destroy());
    socket.once('close', () => clearTimeout(timer));
  }
}

/** A refusal; `mayRetry`: no login was sent, so the client is expected to repeat its request with one. */
type Refusal = ProxyFailure & { mayRetry?: true };

function badParam(detail: string): Refusal {
  return { ok: false, code: 'BAD_PARAM', detail };
}

/**
 * Whether a refusal ends the client's connection. Not when the request was in order, not when a login is to follow,
 * not while a body is on its way (closing would reset the connection before the refusal is read; `discardBody` sets
 * the limit). Always when the next request could not be told from an unsent body.
 */
function closesConnection(failure: Refusal, req: IncomingMessage, expectContinue: boolean): boolean {
  if (expectContinue || (failure.code === 'BAD_PARAM' && req.complete)) return true;
  const { fault } = proxyErrors[failure.code];
  return !(failure.mayRetry || fault === 'destination' || fault === 'device' || !req.complete);
}

/** The request's head again, as it came but for the header `without`. */
function requestHeadBytes(req: IncomingMessage, without?: string): Buffer {
  let head = `${req.method} ${req.url} HTTP/${req.httpVersion}\r\n`;
  for (let i = 0; i < req.rawHeaders.length; i += 2)
    if (req.rawHeaders[i]?.toLowerCase() !== without)
      head += `${req.rawHeaders[i]}: ${req.rawHeaders[i + 1]}\r\n`;
  return Buffer.from(`${head}\r\n`, 'latin1');
}
