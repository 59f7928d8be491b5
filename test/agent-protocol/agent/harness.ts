import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import type { Goaway, Hello, Open, Status } from '../../../agent-protocol/control.js';
import { limitsMessage } from '../../../agent-protocol/control.js';
import { DialCode } from '../../../agent-protocol/frame.js';
import { defaultLimits, type SessionLimits } from '../../../agent-protocol/limits.js';
import type { CloseReason, MuxSession } from '../../../agent-protocol/session.js';
import type { MuxStream, StreamHandler } from '../../../agent-protocol/stream.js';
import { refuseUpgrade, ticketOf, upgradeTunnel } from '../../../agent-protocol/websocket.js';

/** Values that come one after the other, each to be awaited in turn. */
export class Arrivals<T> {
  readonly all: T[] = [];
  #taken = 0;
  readonly #waiting: ((value: T) => void)[] = [];
  add(value: T): void {
    this.all.push(value);
    this.#waiting.shift()?.(value);
  }
  /** The first one that nobody awaited yet. */
  next(): Promise<T> {
    const value = this.all[this.#taken++];
    if (value !== undefined) return Promise.resolve(value);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
  async nextWhere(wanted: (value: T) => boolean): Promise<T> {
    for (;;) {
      const value = await this.next();
      if (wanted(value)) return value;
    }
  }
}

/** A tunnel as the gateway side sees it. */
export interface TestTunnel {
  readonly session: MuxSession;
  readonly hello: Hello;
  readonly ticket: string;
  readonly statuses: Arrivals<Status>;
  readonly closed: Promise<CloseReason>;
}

export interface TestGateway {
  readonly url: string;
  /** After WELCOME. */
  readonly tunnels: Arrivals<TestTunnel>;
  /** Tickets of every handshake. */
  readonly tickets: string[];
  /** Set: the handshake is refused with it. */
  refuse: { status: number; code: string } | null;
  stop(): Promise<void>;
}

export async function startGateway(limits: Partial<SessionLimits> = {}): Promise<TestGateway> {
  const server = createServer();
  const sessions = new Set<MuxSession>();
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    const ticket = ticketOf(request) ?? '';
    gateway.tickets.push(ticket);
    if (gateway.refuse !== null) {
      refuseUpgrade(socket, gateway.refuse.status, gateway.refuse.code, 'as the test says');
      return;
    }
    const statuses = new Arrivals<Status>();
    let onClosed: (reason: CloseReason) => void = () => {};
    const closed = new Promise<CloseReason>((resolve) => {
      onClosed = resolve;
    });
    const session = upgradeTunnel(request, socket, head, {
      onHello: (session, hello) => {
        session.welcome({
          session_id: 's1',
          gateway_id: 'gw-test',
          limits: limitsMessage({ ...defaultLimits, ...limits }),
          policy_version: '1',
          terms_version: '1',
          ping_live_ms: 5_000,
          ping_idle_ms: 25_000,
        });
        gateway.tunnels.add({ session, hello, ticket, statuses, closed });
      },
      onStatus: (_session, status) => statuses.add(status),
      onClose: (session, reason) => {
        sessions.delete(session);
        onClosed(reason);
      },
    });
    if (session !== null) sessions.add(session);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const gateway: TestGateway = {
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/tunnel`,
    tunnels: new Arrivals(),
    tickets: [],
    refuse: null,
    stop: async () => {
      for (const session of [...sessions]) session.destroy();
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  return gateway;
}

/** One request to the fake control plane. */
export interface ApiCall {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: Record<string, unknown>;
}

export interface ApiAnswer {
  status: number;
  body: object;
  headers?: Record<string, string>;
}

export interface TestApi {
  readonly url: string;
  readonly calls: Arrivals<ApiCall>;
  /** Answers by path; without one: 404. */
  answers: Record<string, (call: ApiCall) => ApiAnswer>;
  stop(): Promise<void>;
}

/** A control plane that lets devices start on `gateway`, with tickets `t1`, `t2`, …. */
export async function startApi(gateway: { url: string }): Promise<TestApi> {
  let tickets = 0;
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece);
    const call: ApiCall = {
      path: request.url ?? '',
      authorization: request.headers.authorization,
      body: JSON.parse(Buffer.concat(pieces).toString()),
    };
    const answer = api.answers[call.path]?.(call) ?? { status: 404, body: {} };
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers });
    response.end(JSON.stringify(answer.body), () => api.calls.add(call));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const api: TestApi = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls: new Arrivals(),
    answers: {
      '/api/traffic/start': () => ({
        status: 200,
        body: {
          session_id: 's1',
          ok: true,
          tunnel: { url: gateway.url, ticket: `t${++tickets}`, expires_in: 60 },
        },
      }),
      '/api/traffic/report': () => ({ status: 200, body: { ok: true } }),
      '/api/traffic/stop': () => ({ status: 200, body: { ok: true, bytes: 0, earned: '0.000000' } }),
    },
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  return api;
}

/** An answer as the control plane refuses. */
export function problem(status: number, code: string, headers: Record<string, string> = {}): () => ApiAnswer {
  return () => ({ status, body: { type: 'about:blank', status, code, detail: `because ${code}` }, headers });
}

/** A TCP server; `onConnection` says what it does. */
export async function startTcp(
  onConnection: (socket: Socket) => void,
): Promise<{ port: number; sockets: Set<Socket>; stop(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

export function startEcho() {
  return startTcp((socket) => socket.pipe(socket));
}

/** The gateway's end of a stream, collecting what comes and giving credit at once. */
export class TestStream implements StreamHandler {
  readonly stream: MuxStream;
  readonly opened: Promise<DialCode>;
  readonly finished: Promise<void>;
  readonly reset: Promise<number>;
  bytes = Buffer.alloc(0);
  #onOpened: (code: DialCode) => void = () => {};
  #onFinished: () => void = () => {};
  #onReset: (code: number) => void = () => {};
  #onMore: () => void = () => {};

  constructor(session: MuxSession, host: string, port: number, network: Open['network'] = 'tcp') {
    this.opened = new Promise((resolve) => {
      this.#onOpened = resolve;
    });
    this.finished = new Promise((resolve) => {
      this.#onFinished = resolve;
    });
    this.reset = new Promise((resolve) => {
      this.#onReset = resolve;
    });
    this.stream = session.open({ host, port, network }, this);
  }
  onOpened(_stream: MuxStream, code: DialCode): void {
    this.#onOpened(code);
  }
  onData(stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    this.bytes = Buffer.concat([this.bytes, buffer.subarray(start, end)]);
    stream.consumed(end - start);
    this.#onMore();
  }
  onFin(): void {
    this.#onFinished();
  }
  onReset(_stream: MuxStream, code: number): void {
    this.#onReset(code);
  }
  onWritable(): void {}
  send(text: string): void {
    const bytes = Buffer.from(text);
    this.stream.send(bytes, 0, bytes.length, 0);
  }
  async received(bytes: number): Promise<string> {
    while (this.bytes.length < bytes)
      await new Promise<void>((resolve) => {
        this.#onMore = resolve;
      });
    return this.bytes.toString();
  }
}

export const goaway = (code: Goaway['code']): Goaway => ({ code, reason: 'as the test says' });

export { DialCode };
