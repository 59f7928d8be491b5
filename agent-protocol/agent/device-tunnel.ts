import { platform } from 'node:os';
import type { Drain, Goaway, Open } from '../control.js';
import { DialCode, WIRE_VERSIONS } from '../frame.js';
import { LiveSet } from '../live-set.js';
import type { RawSocket } from '../raw-socket.js';
import type { CloseReason, MuxSession, SessionHandler } from '../session.js';
import type { MuxStream } from '../stream.js';
import type { TlsSessions } from '../tls-sessions.js';
import { connectTunnel, TunnelRefused } from '../websocket.js';
import type { TunnelInvitation } from './api.js';
import type { AgentConfig } from './config.js';
import {
  type AssociationLimits,
  DeviceAssociation,
  type DeviceAssociationOwner,
} from './device-association.js';
import { attemptRawSocket, DeviceStream, type DeviceStreamOwner, type OwnedStream } from './device-stream.js';
import type { DialSettings } from './dial.js';
import type { AgentLog } from './log.js';
import type { DeviceNetwork } from './options.js';
import type { OwnerRefusal, OwnerRules } from './owner-rules.js';
import type { ReachSettings } from './reachable.js';
import type { Resolve } from './resolve.js';
import { AGENT_NAME, AGENT_VERSION } from './version.js';

/** What all tunnels of an agent share. */
export interface TunnelEnvironment {
  readonly config: AgentConfig;
  readonly log: AgentLog;
  readonly rules: OwnerRules;
  readonly resolve: Resolve;
  readonly resolveExempt: Resolve;
  /** Of its gateways, for reconnecting. */
  readonly tlsSessions: TlsSessions;
  isExempt(host: string, port: number): boolean;
  /** What the machine is connected by. */
  network(): DeviceNetwork;
  /** An OPEN came. */
  onStream(): void;
  /** It was answered, with this dial code in lower case. */
  onAnswered(code: string): void;
  /** The owner's rules refused bytes in the middle of a stream. */
  onClosedByRules(): void;
  onDatagramDropped(): void;
}

/** Why a tunnel is not the one to use any more. */
export type TunnelEnd =
  /** The gateway asked to move; live streams go on until the deadline. */
  | { readonly kind: 'drain'; readonly reason: string; readonly deadlineMs: number }
  | {
      readonly kind: 'closed';
      /** A GOAWAY code, a code of CloseReason or of TunnelRefused. */
      readonly code: string;
      readonly reason: string;
      readonly byPeer: boolean;
      readonly reconnectAfterMs: number | null;
      /** Of a refused handshake. */
      readonly httpStatus: number | null;
    };

/** After the pause was told, streams come for no longer than a message is under way; so long is waited, ms. */
const LATE_STREAMS_MS = 1_000;

const NO_STALLS = { send: 0, receive: 0 };

/** An end without anything special to it. */
const CLOSED: Omit<Extract<TunnelEnd, { kind: 'closed' }>, 'code' | 'reason'> = {
  kind: 'closed',
  byPeer: false,
  reconnectAfterMs: null,
  httpStatus: null,
};

/**
 * One tunnel to a gateway, from the handshake to the last stream.
 *
 * | state | holds | leaves to |
 * |---|---|---|
 * | opening | the handshake, then the wait for WELCOME | online, closed |
 * | online | the tunnel that the gateway opens streams on | draining, closed |
 * | draining | a replaced tunnel; live streams go on until the deadline | closed |
 * | closed | nothing | |
 */
export class DeviceTunnel implements SessionHandler, DeviceStreamOwner, DeviceAssociationOwner {
  /** Resolves when it is time for the next tunnel: told to drain, closed, or not opened at all. */
  readonly left: Promise<TunnelEnd>;
  /** Resolves when nothing of it remains. */
  readonly closed: Promise<void>;
  readonly rules: OwnerRules;
  readonly dialSettings: DialSettings<RawSocket>;
  readonly lingerMs: number;
  bytesUp = 0;
  bytesDown = 0;
  readonly #environment: TunnelEnvironment;
  readonly #streams = new LiveSet<OwnedStream>();
  #associationCount = 0;
  #session: MuxSession | null = null;
  #state: 'opening' | 'online' | 'draining' | 'closed' = 'opening';
  #mayCloseWhenIdle = false;
  #deadline: NodeJS.Timeout | undefined;
  /** Runs while streams may come that were opened before the gateway heard of the pause. */
  #lateStreams: NodeJS.Timeout | undefined;
  #leave: (end: TunnelEnd) => void = () => {};
  #close: () => void = () => {};
  #welcomed: (welcome: boolean) => void = () => {};

  constructor(environment: TunnelEnvironment) {
    this.#environment = environment;
    this.rules = environment.rules;
    const { config, resolve, resolveExempt } = environment;
    this.lingerMs = config.lingerMs;
    this.dialSettings = {
      resolve,
      resolveExempt,
      attempt: attemptRawSocket,
      isExempt: environment.isExempt,
      isBlockedAddress: (address) => environment.rules.isBlockedAddress(address),
      timeoutMs: config.dialTimeoutMs,
      attemptDelayMs: config.attemptDelayMs,
    };
    this.left = new Promise((resolve) => {
      this.#leave = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  /** Connects and waits for WELCOME. False: it did not come to that, `left` says why. Never rejects. */
  async open(invitation: TunnelInvitation): Promise<boolean> {
    const welcomed = new Promise<boolean>((resolve) => {
      this.#welcomed = resolve;
    });
    try {
      const tls = { sessions: this.#environment.tlsSessions };
      const session = await connectTunnel({ url: invitation.url, ticket: invitation.ticket, tls }, this);
      if (this.#state === 'closed') {
        session.destroy(); // closed here while the handshake was under way
        return false;
      }
      this.#session = session;
      session.hello({
        agent: AGENT_NAME,
        agent_version: AGENT_VERSION,
        os: platform(),
        terms_version: this.#environment.config.termsVersion,
        ...(this.#environment.config.udp.enabled ? {} : { udp: false }),
        versions: [...WIRE_VERSIONS],
      });
    } catch (error) {
      this.#ended(refusedEnd(error));
    }
    return welcomed;
  }

  /** Times streams stood for want of window: the gateway's, and ours. */
  get stalls(): { readonly send: number; readonly receive: number } {
    return this.#session?.stalls ?? NO_STALLS;
  }

  onAnswered(code: keyof typeof DialCode): void {
    this.#environment.onAnswered(code.toLowerCase());
  }

  /** STATUS, when there is somebody to tell. */
  tellStatus(): void {
    const { rules } = this;
    const { capBytesLeft } = rules;
    this.#session?.status({
      network: this.#environment.network(),
      // A used-up cap asks for the same as a pause; `cap_bytes_left` tells the two apart
      paused: rules.closed !== null || this.#mayCloseWhenIdle,
      ...(capBytesLeft === null ? {} : { cap_bytes_left: capBytesLeft }),
      bytes_up: this.bytesUp,
      bytes_down: this.bytesDown,
    });
  }

  /** Ends every stream: the owner's rules say so. */
  cutStreams(why: 'CAP_REACHED' | 'PAUSED'): void {
    for (const stream of [...this.#streams]) stream.cut(why);
  }

  /**
   * Draining: its successor is up, so it may go as soon as its last stream is done. The gateway is told to open no more;
   * those that it opened before it heard that still come.
   */
  closeWhenIdle(): void {
    if (this.#mayCloseWhenIdle) return;
    this.#mayCloseWhenIdle = true;
    this.tellStatus();
    this.#lateStreams = setTimeout(() => {
      this.#lateStreams = undefined;
      this.#closeIfDone();
    }, LATE_STREAMS_MS);
  }

  /** Ends it now, with its streams, those that linger as well. Harmless when it has ended. */
  close(goaway: Goaway): void {
    if (this.#session !== null) this.#session.close(goaway);
    else this.#ended({ ...CLOSED, code: goaway.code, reason: goaway.reason });
    this.cutStreams('PAUSED');
  }

  onWelcome(): void {
    this.#state = 'online';
    this.#welcomed(true);
  }

  onOpen(_session: MuxSession, stream: MuxStream, open: Open): void {
    this.#environment.onStream();
    const { udp, logDestinations } = this.#environment.config;
    const { host, port, network } = open;
    if (logDestinations) this.#environment.log('info', 'destination', { host, port, network });
    const refusal = open.network === 'tcp' ? this.rules.refusal(open.host) : this.#associationRefusal(udp);
    if (refusal !== null) {
      stream.opened(DialCode[refusal]);
      this.onAnswered(refusal);
      return;
    }
    this.rules.streamsOpen++;
    if (open.network === 'udp') {
      // What OPEN says of host and port means nothing here: each datagram names its destination
      this.#associationCount++;
      const association = new DeviceAssociation(stream, this, udp);
      association.place = this.#streams.add(association);
      return;
    }
    const deviceStream = new DeviceStream(stream, this);
    deviceStream.place = this.#streams.add(deviceStream);
    deviceStream.begin(open);
  }

  #associationRefusal({ enabled, associationsMax }: AssociationLimits): OwnerRefusal | 'UNSUPPORTED' | null {
    if (!enabled) return 'UNSUPPORTED';
    return this.rules.refusal(null) ?? (this.#associationCount < associationsMax ? null : 'CAP_REACHED');
  }

  onDrain(_session: MuxSession, drain: Drain): void {
    if (this.#state !== 'online') return;
    this.#state = 'draining';
    this.#deadline = setTimeout(
      () => this.close({ code: 'shutting_down', reason: 'drained' }),
      drain.deadline_ms,
    );
    this.#leave({ kind: 'drain', reason: drain.reason, deadlineMs: drain.deadline_ms });
  }

  onClose(_session: MuxSession, reason: CloseReason): void {
    this.#ended({ ...CLOSED, ...reason });
  }

  onStreamOver(stream: OwnedStream): void {
    if (stream.place === null || !this.#streams.remove(stream.place)) return;
    if (stream instanceof DeviceAssociation) this.#associationCount--;
    this.rules.streamsOpen--;
    this.#closeIfDone();
  }

  /** By what the destinations of datagrams are judged: as those of connections. */
  get reachSettings(): ReachSettings {
    return this.dialSettings;
  }

  onDatagramDropped(): void {
    this.#environment.onDatagramDropped();
  }

  onRefusedByRules(): void {
    // Not from within the relay of a chunk
    setImmediate(() => this.#environment.onClosedByRules());
  }

  #closeIfDone(): void {
    const mayClose = this.#mayCloseWhenIdle && this.#lateStreams === undefined;
    if (this.#state === 'draining' && mayClose && this.#streams.size === 0)
      this.close({ code: 'shutting_down', reason: 'drained' });
  }

  #ended(end: TunnelEnd): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearTimeout(this.#deadline);
    clearTimeout(this.#lateStreams);
    this.#welcomed(false);
    this.#leave(end);
    this.#close();
  }
}

function refusedEnd(error: unknown): TunnelEnd {
  // Anything else is a URL that cannot be dialled; the control plane may give a better one next time
  if (!(error instanceof TunnelRefused)) return { ...CLOSED, code: 'connect_failed', reason: String(error) };
  const { code, message: reason, status: httpStatus, retryAfterMs: reconnectAfterMs } = error;
  return { kind: 'closed', code, reason, byPeer: httpStatus !== null, reconnectAfterMs, httpStatus };
}
