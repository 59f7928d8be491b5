import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Test } from 'tap';
import { type Bridge, bridgeSocket } from '../../../agent-protocol/bridge.js';
import type { BridgeObserver } from '../../../agent-protocol/bridge-observer.js';
import { DialCode } from '../../../agent-protocol/frame.js';
import type { SessionLimits } from '../../../agent-protocol/limits.js';
import { adoptSocket, dialAddress, type RawSocket } from '../../../agent-protocol/raw-socket.js';
import type { MuxSession } from '../../../agent-protocol/session.js';
import type { MuxStream } from '../../../agent-protocol/stream.js';
import { Verdict } from '../../../agent-protocol/verdict.js';
import type { TunnelOptions } from '../../../agent-protocol/websocket.js';
import { openTunnel, type Tunnel } from './tunnel.js';

/** Counts what passes, as the relay's meter does. */
export class Counter implements BridgeObserver {
  bytesOut = 0;
  bytesIn = 0;
  ends: string[] = [];
  /** Bytes per direction above which it refuses. */
  limitBytes = Number.POSITIVE_INFINITY;
  /** The largest piece seen. */
  largestPieceBytes = 0;
  /** What it answers within the limit; what is not GO is not counted. */
  verdict: (direction: 'out' | 'in', bytes: number) => Verdict = () => Verdict.GO;
  /** What it watches, once both sides are joined. */
  bridge: Bridge | null = null;
  /** The buyer's socket. */
  raw: RawSocket | null = null;
  readonly ended: Promise<string>;
  #resolve!: (how: string) => void;
  constructor() {
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
  onBytesOut(bytes: number): Verdict {
    if (this.bytesOut + bytes > this.limitBytes) return Verdict.REFUSE;
    const verdict = this.verdict('out', bytes);
    if (verdict === Verdict.GO) this.bytesOut += bytes;
    return verdict;
  }
  onBytesIn(bytes: number): Verdict {
    if (this.bytesIn + bytes > this.limitBytes) return Verdict.REFUSE;
    this.largestPieceBytes = Math.max(this.largestPieceBytes, bytes);
    const verdict = this.verdict('in', bytes);
    if (verdict === Verdict.GO) this.bytesIn += bytes;
    return verdict;
  }
  onEnd(how: 'finished' | 'reset' | 'refused'): void {
    this.ends.push(how);
    this.#resolve(how);
  }
}

export interface Relay extends Tunnel {
  /** Connects a client whose bytes end at the destination. */
  connect(): Promise<Socket>;
  /** One a client connection, in order of arrival. */
  counters: Counter[];
  streams: MuxStream[];
  clients: Server;
}

/** Listens on loopback until the test is over; returns the port. */
export async function listen(t: Test, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** client → (adopted socket, bridge) gateway → tunnel → agent (bridge, dialled socket) → destination. */
export async function startRelay(
  t: Test,
  destination: (socket: Socket) => void,
  options: {
    limits?: Partial<SessionLimits>;
    head?: Buffer;
    tunnel?: TunnelOptions;
    limitBytes?: number;
    /** Told of each new connection's counter and stream, before anything is relayed. */
    onStream?: (counter: Counter, stream: MuxStream) => void;
    via?: (port: number) => Promise<number>;
  } = {},
): Promise<Relay> {
  const port = await listen(t, createServer({ allowHalfOpen: true }, destination));
  const tunnel = await openTunnel(t, {
    ...(options.limits ? { limits: options.limits } : {}),
    ...(options.tunnel ? { tunnel: options.tunnel } : {}),
    ...(options.via ? { via: options.via } : {}),
    agent: {
      onOpen: (_session, stream, open) => {
        const raw = dialAddress(open.host, open.port, (error) => {
          stream.opened(error === null ? DialCode.OK : DialCode.REFUSED);
          if (error === null) bridgeSocket(raw, stream);
        });
      },
    },
  });
  const counters: Counter[] = [];
  const streams: MuxStream[] = [];
  const clients = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (accepted) => {
    const counter = new Counter();
    if (options.limitBytes !== undefined) counter.limitBytes = options.limitBytes;
    counters.push(counter);
    const raw = adoptSocket(accepted);
    counter.raw = raw;
    const stream = openTo(tunnel.gateway, port, raw, counter, options.head);
    streams.push(stream);
    options.onStream?.(counter, stream);
  });
  const clientPort = await listen(t, clients);
  return {
    ...tunnel,
    counters,
    streams,
    clients,
    connect: async () => {
      const socket = connect({ port: clientPort, host: '127.0.0.1', allowHalfOpen: true });
      t.teardown(() => socket.destroy());
      await once(socket, 'connect');
      return socket;
    },
  };
}

function openTo(
  session: MuxSession,
  port: number,
  raw: RawSocket,
  counter: Counter,
  head?: Buffer,
): MuxStream {
  return session.open(
    { host: '127.0.0.1', port, network: 'tcp' },
    {
      onOpened: (stream, code) => {
        if (code === DialCode.OK) counter.bridge = bridgeSocket(raw, stream, counter, head);
        else raw.destroy();
      },
      onData: () => {},
      onFin: () => {},
      onReset: () => raw.reset(),
      onWritable: () => {},
    },
  );
}

/** All bytes until the other side ends. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  socket.on('data', (piece: Buffer) => pieces.push(piece));
  await once(socket, 'end');
  return Buffer.concat(pieces);
}
