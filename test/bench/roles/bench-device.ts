import { createHash, randomBytes } from 'node:crypto';
import { backoffMs, SOON_BACKOFF, sleep } from '../../../agent-protocol/agent/backoff.js';
import { bridgeSocket } from '../../../agent-protocol/bridge.js';
import type { Hello, Open } from '../../../agent-protocol/control.js';
import { DialCode } from '../../../agent-protocol/frame.js';
import { dialSocket, type RawSocket } from '../../../agent-protocol/raw-socket.js';
import type { CloseReason, MuxSession, SessionHandler } from '../../../agent-protocol/session.js';
import type { MuxStream, StreamHandler } from '../../../agent-protocol/stream.js';
import { connectTunnel, TunnelRefused } from '../../../agent-protocol/websocket.js';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import type { TicketRecord } from '../../../gateway/live/records.js';
import { writeTicket } from '../../../gateway/live/store.js';

/** Time a device has to use its ticket: thousands wait for their turn. */
const TICKET_TTL_MS = 120_000;

const HELLO: Hello = {
  agent: 'bench',
  agent_version: '0.1.0',
  os: 'linux',
  terms_version: '1',
  versions: [1],
};

/** Where devices connect to, and where the gateway looks for their tickets. */
export interface DeviceSite {
  tunnelUrl: string;
  redisUrl: string;
}

/** How a device's way back went. */
export interface Return {
  /** Attempts that came to nothing. */
  failures: number;
  /** Why the first of them did; null: none did. */
  firstFailure: string | null;
  welcomed: boolean;
}

/**
 * One device: a tunnel by the project's wire core, whose streams it connects to wherever they ask. It writes its own
 * tickets, in place of the control plane.
 */
export class BenchDevice implements SessionHandler {
  #session: MuxSession | null = null;
  #welcome: (() => void) | null = null;
  #refuse: ((error: Error) => void) | null = null;

  constructor(
    readonly record: TicketRecord,
    readonly tunnelUrl: string,
    readonly redis: LiveRedis,
    /** Its tunnel was lost, and not by `cut`. */
    readonly onLost: (reason: string) => void,
  ) {}

  /** One attempt, with a fresh ticket; resolves on WELCOME. */
  async connect(): Promise<void> {
    const ticket = randomBytes(24).toString('base64url');
    const key = createHash('sha256').update(ticket).digest('hex');
    await writeTicket(this.redis, key, this.record, TICKET_TTL_MS);
    const welcomed = new Promise<void>((resolve, reject) => {
      this.#welcome = resolve;
      this.#refuse = reject;
    });
    welcomed.catch(() => {}); // heard of below, unless the handshake fails first
    const headers = { 'X-Forwarded-For': this.record.exitIp };
    const session = await connectTunnel({ url: this.tunnelUrl, ticket, headers }, this);
    this.#session = session;
    session.hello(HELLO);
    await welcomed;
  }

  /** Connects again as the agent does after a loss: waits, tries, waits longer. Gives up with the signal. */
  async connectAgain(signal: AbortSignal): Promise<Return> {
    const result: Return = { failures: 0, firstFailure: null, welcomed: false };
    let atLeastMs = 0;
    for (;;) {
      await sleep(atLeastMs + backoffMs(result.failures, Math.random(), SOON_BACKOFF), signal);
      if (signal.aborted) return result;
      try {
        await this.connect();
        result.welcomed = true;
        return result;
      } catch (error) {
        const refused = error instanceof TunnelRefused ? error : null;
        atLeastMs = refused?.retryAfterMs ?? 0;
        result.failures++;
        result.firstFailure ??= `${refused?.code ?? ''} ${(error as Error).message}`.trim();
      }
    }
  }

  /** Ends the tunnel's socket at this side, without a word. */
  cut(): void {
    const session = this.#session;
    this.#session = null;
    session?.destroy();
  }

  onWelcome(): void {
    this.#welcome?.();
    this.#refuse = null;
  }

  onOpen(_session: MuxSession, stream: MuxStream, { host, port }: Open): void {
    stream.handler = new ServedStream(stream, dialSocket({ host, port }));
  }

  onClose(session: MuxSession, { code, reason }: CloseReason): void {
    const text = `a tunnel closed: ${code} ${reason}`;
    if (this.#refuse !== null) {
      this.#refuse(new Error(text));
      this.#refuse = null;
    } else if (this.#session === session) this.onLost(text);
    if (this.#session === session) this.#session = null;
  }
}

/** A stream whose destination is being connected to; then the bridge takes it over. */
class ServedStream implements StreamHandler {
  readonly #raw: RawSocket;

  constructor(stream: MuxStream, raw: RawSocket) {
    this.#raw = raw;
    const { socket } = raw;
    const failed = () => stream.opened(DialCode.UNREACHABLE);
    socket.once('error', failed);
    socket.once('connect', () => {
      socket.off('error', failed);
      stream.opened(DialCode.OK);
      bridgeSocket(raw, stream);
    });
  }

  onReset(): void {
    this.#raw.destroy();
  }
  // Before OPENED the gateway may only reset
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}
}
