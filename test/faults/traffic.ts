import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { httpConnect } from '../helpers/connect-client.js';
import { socksConnect } from '../helpers/socks-client.js';

/** What a transfer is asked to do. */
export interface TransferPlan {
  /** `echo`: what is sent comes back. */
  kind: 'download' | 'upload' | 'echo';
  sizeBytes: number;
  /** Bytes a second the sender is held to. */
  paceBytesPerS: number;
}

/** One stream and what both of its ends saw. */
export interface Transfer extends TransferPlan {
  /** Payload that reached the buyer. */
  downBytes: number;
  /** Payload that reached the destination. */
  upBytes: number;
  state: 'refused' | 'running' | 'complete' | 'cut';
  /** When the buyer began to dial, when the proxy said yes, when it was over; `performance.now()`. Null: not yet, or never. */
  startedAtMs: number;
  openedAtMs: number | null;
  endedAtMs: number | null;
  /** What the proxy said instead of yes; null: it said yes, or nothing. */
  refusal: string | null;
}

const HEAD_BYTES = 64;
const PACE_MS = 10;
const BLOCK = Buffer.alloc(256 * 1024, 0x5a);

/** Writes `sizeBytes` no faster than asked for; resolves when all of it is with the system, or the socket is gone. */
async function send(socket: Socket, sizeBytes: number, paceBytesPerS: number): Promise<void> {
  const startMs = performance.now();
  let sent = 0;
  while (sent < sizeBytes && !socket.destroyed) {
    const due = Math.min(
      sizeBytes,
      Math.floor(((performance.now() - startMs + PACE_MS) * paceBytesPerS) / 1_000),
    );
    while (sent < due && !socket.destroyed) {
      const piece = BLOCK.subarray(0, Math.min(due - sent, BLOCK.length));
      sent += piece.length;
      if (!socket.write(piece)) await drained(socket);
    }
    if (sent < sizeBytes) await delay(PACE_MS);
  }
}

/** Resolves when the socket takes more, or is gone. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
  });
}

/** The destination of all test traffic: it does what the first 64 bytes of a connection ask for, and counts. */
export class Origin {
  readonly #server: Server;
  readonly #transfers = new Map<number, Transfer>();
  readonly #sockets = new Set<Socket>();
  #lastId = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<Origin> {
    const server = createServer({ allowHalfOpen: true });
    const origin = new Origin(server);
    server.on('connection', (socket: Socket) => origin.#serve(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return origin;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Names a transfer; the buyer sends the returned head first. */
  expect(transfer: Transfer): Buffer {
    const id = ++this.#lastId;
    this.#transfers.set(id, transfer);
    return Buffer.from(
      `${id} ${transfer.kind} ${transfer.sizeBytes} ${transfer.paceBytesPerS}`.padEnd(HEAD_BYTES),
    );
  }

  forget(): void {
    this.#transfers.clear();
  }

  /** Connections that devices have open now. */
  get openCount(): number {
    return this.#sockets.size;
  }

  async stop(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }

  #serve(socket: Socket): void {
    socket.on('error', () => {});
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    let head = Buffer.alloc(0);
    let transfer: Transfer | undefined;
    socket.on('data', (chunk: Buffer) => {
      if (transfer) {
        transfer.upBytes += chunk.length;
        return;
      }
      head = Buffer.concat([head, chunk]);
      if (head.length < HEAD_BYTES) return;
      const [id, kind, size, pace] = head.toString('latin1', 0, HEAD_BYTES).trim().split(' ');
      transfer = this.#transfers.get(Number(id));
      if (!transfer) {
        socket.destroy();
        return;
      }
      transfer.upBytes += head.length;
      if (kind === 'echo') {
        socket.write(head.subarray(HEAD_BYTES));
        socket.pipe(socket);
      } else if (kind === 'download') void send(socket, Number(size), Number(pace)).then(() => socket.end());
    });
    socket.on('end', () => {
      // The buyer has sent everything: one byte says that it has arrived.
      if (transfer?.kind === 'upload') socket.end(Buffer.from([1]));
      else if (!transfer) socket.end();
    });
  }
}

export interface ProxyAddress {
  /** Left out: socks5. */
  protocol?: 'socks5' | 'connect';
  proxyPort: number;
  username: string;
  password: string;
}

/** A transfer under way. */
export interface RunningTransfer {
  readonly transfer: Transfer;
  /** Resolves at its end, whatever end that is; never rejects. */
  readonly over: Promise<void>;
  /** Drops it. */
  cut(): void;
}

/** Asks the proxy in its protocol; `refusal`: what it said instead of yes. Rejects when nobody listens there. */
async function ask(
  to: ProxyAddress & { host: string; port: number; onSocket: (socket: Socket) => void },
): Promise<{ socket: Socket; refusal: string | null }> {
  if (to.protocol === 'connect') {
    const { socket, status, reason } = await httpConnect(to);
    return { socket, refusal: status === 200 ? null : `${status ?? 'no'} ${reason}` };
  }
  const { socket, auth, reply } = await socksConnect(to);
  return { socket, refusal: reply === 0 ? null : `${auth ?? 'no'} auth, ${reply ?? 'no'} reply` };
}

/** The traffic of one case: every byte that was relayed in it, probes included. */
export class Traffic {
  readonly #origin: Origin;
  readonly #running = new Set<RunningTransfer>();
  readonly transfers: Transfer[] = [];
  /** How often connections were refused, by what the proxy said (RFC 1929 status, RFC 1928 reply). */
  readonly refusals = new Map<string, number>();

  constructor(origin: Origin) {
    this.#origin = origin;
  }

  /** Transfers that have a connection now. */
  get liveCount(): number {
    return [...this.#running].filter((r) => r.transfer.state === 'running').length;
  }

  /** Bytes that reached a buyer or the destination. */
  get relayedBytes(): number {
    return this.transfers.reduce((sum, t) => sum + t.downBytes + t.upBytes, 0);
  }

  start(proxy: ProxyAddress, plan: TransferPlan): RunningTransfer {
    const transfer: Transfer = {
      ...plan,
      downBytes: 0,
      upBytes: 0,
      state: 'refused',
      startedAtMs: performance.now(),
      openedAtMs: null,
      endedAtMs: null,
      refusal: null,
    };
    this.transfers.push(transfer);
    let socket: Socket | null = null;
    const running: RunningTransfer = {
      transfer,
      over: this.#run(proxy, transfer, (connected) => {
        socket = connected;
      }).then(() => {
        transfer.endedAtMs = performance.now();
        this.#running.delete(running);
      }),
      cut: () => socket?.resetAndDestroy(),
    };
    this.#running.add(running);
    return running;
  }

  /** Whether a connection can be made through the proxy and one byte comes back within `timeoutMs`. */
  async probe(proxy: ProxyAddress, timeoutMs: number): Promise<boolean> {
    const running = this.start(proxy, { kind: 'download', sizeBytes: 1, paceBytesPerS: 1e6 });
    const timer = setTimeout(() => running.cut(), timeoutMs);
    await Promise.race([running.over, delay(timeoutMs + 100)]);
    clearTimeout(timer);
    return running.transfer.state === 'complete';
  }

  /** Waits until every transfer is over; those that are not by then are dropped. Resolves to how many those were. */
  async end(timeoutMs: number): Promise<number> {
    const waiting = [...this.#running];
    await Promise.race([Promise.all(waiting.map((r) => r.over)), delay(timeoutMs)]);
    const late = [...this.#running];
    for (const running of late) running.cut();
    await Promise.race([Promise.all(late.map((r) => r.over)), delay(1_000)]);
    return late.length;
  }

  async #run(proxy: ProxyAddress, transfer: Transfer, connected: (socket: Socket) => void): Promise<void> {
    const origin = this.#origin;
    const to = { ...proxy, host: '127.0.0.1', port: origin.port, onSocket: connected };
    const answer = await ask(to).catch(() => null);
    if (answer === null) return;
    const { socket } = answer;
    if (answer.refusal !== null) {
      transfer.refusal = answer.refusal;
      this.refusals.set(answer.refusal, (this.refusals.get(answer.refusal) ?? 0) + 1);
      socket.destroy();
      return;
    }
    transfer.state = 'running';
    transfer.openedAtMs = performance.now();
    let ended = false;
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (chunk: Buffer) => {
      transfer.downBytes += chunk.length;
    });
    socket.on('end', () => {
      ended = true;
      socket.end();
    });
    socket.write(origin.expect(transfer));
    if (transfer.kind !== 'download')
      void send(socket, transfer.sizeBytes, transfer.paceBytesPerS).then(() => {
        if (!socket.destroyed) socket.end();
      });
    await closed;
    const whole = transfer.downBytes === (transfer.kind === 'upload' ? 1 : transfer.sizeBytes);
    transfer.state = ended && whole ? 'complete' : 'cut';
  }
}
