import {
  type Decoded,
  type Drain,
  decodeDrain,
  decodeGoaway,
  decodeHello,
  decodeOpen,
  decodeStatus,
  decodeWelcome,
  encodeControl,
  type Goaway,
  type Hello,
  limitsOf,
  type Open,
  type Status,
  type Welcome,
} from './control.js';
import { DatagramBacklog } from './datagram-backlog.js';
import { FrameType, frameRules, RESET_TUNNEL_LOST, ResetCode, WIRE_VERSIONS } from './frame.js';
import { type ConnectionSink, FrameConnection } from './frame-connection.js';
import { type Beating, type Heartbeat, processHeartbeat } from './heartbeat.js';
import {
  defaultLimits,
  defaultTimings,
  OPENS_PER_BEAT_MAX,
  RESETS_PER_BEAT_MAX,
  SESSION_FRAMES_PER_BEAT_MAX,
  type SessionLimits,
  TUNNEL_DATAGRAM_BYTES_MAX,
} from './limits.js';
import { LiveMap } from './live-set.js';
import { Liveness } from './liveness.js';
import type { RawSocket } from './raw-socket.js';
import { TunnelWindowBudget } from './receive-window.js';
import {
  type CloseReason,
  over,
  type SessionHandler,
  type SessionOptions,
  type SessionRole,
  type SessionState,
} from './session-contract.js';
import { ignoringStream, MuxStream, type StreamCarrier, type StreamHandler } from './stream.js';
import { newestCommon, noCommonVersion } from './versions.js';
import { WakeQueue } from './wake-queue.js';
import { CloseCode } from './websocket-frames.js';

export type {
  CloseReason,
  SessionHandler,
  SessionOptions,
  SessionRole,
  SessionState,
} from './session-contract.js';

const STREAM_ID_MAX = 0xffff_ffff;

/** One tunnel: many streams over one WebSocket. Methods marked internal are called by its own parts. */
export class MuxSession implements StreamCarrier, ConnectionSink, Beating {
  readonly role: SessionRole;
  handler: SessionHandler;
  /** In force from WELCOME on. */
  limits: SessionLimits = defaultLimits;
  /** Version of the wire, settled by HELLO and WELCOME. */
  wireVersion = 1;

  readonly #connection: FrameConnection;
  readonly #heartbeat: Heartbeat;
  readonly #liveness: Liveness;
  readonly #waiting: WakeQueue;
  readonly datagrams: DatagramBacklog;
  readonly stalls = { send: 0, receive: 0 };
  readonly #startedAtMs = performance.now();
  #state: SessionState = 'greeting';
  #saidHello = false;
  /** Versions of the wire that this end takes: an agent, those that it offered. */
  #wireVersions: readonly number[];
  readonly #streams = new LiveMap<number, MuxStream>();
  /** Highest id opened, or seen in OPEN. */
  #lastStreamId = 0;
  /** @internal what the windows granted have grown beyond their first size, summed */
  readonly windowBudget = new TunnelWindowBudget(() => this.limits.tunnelWindowBytesMax);
  #opensInBeat = 0;
  #resetsInBeat = 0;
  #sessionFramesInBeat = 0;

  /** @internal made by upgradeTunnel and connectTunnel, over a socket whose WebSocket handshake is done */
  constructor(raw: RawSocket, options: SessionOptions) {
    const heartbeat = options.heartbeat ?? processHeartbeat();
    const timings = { ...defaultTimings, ...options.timings };
    this.role = options.role;
    this.handler = options.handler;
    this.#wireVersions = options.wireVersions ?? WIRE_VERSIONS;
    this.datagrams = new DatagramBacklog(options.datagramBytesMax ?? TUNNEL_DATAGRAM_BYTES_MAX);
    this.#waiting = new WakeQueue(() => raw.backlogBytes);
    this.#liveness = new Liveness(
      timings,
      options.role === 'gateway',
      heartbeat.intervalMs,
      this.#startedAtMs,
    );
    this.#heartbeat = heartbeat;
    heartbeat.add(this);
    this.#connection = new FrameConnection(raw, options.isClient, timings.closeTimeoutMs, this);
  }

  get state(): SessionState {
    return this.#state;
  }
  get streamCount(): number {
    return this.#streams.size;
  }
  /** Bytes of the WebSocket in and out, all overhead included. */
  get bytesIn(): number {
    return this.#connection.bytesIn;
  }
  get bytesOut(): number {
    return this.#connection.bytesOut;
  }
  /** Smoothed round-trip time of PING, ms; 0 until the first PONG. */
  get rttMs(): number {
    return this.#liveness.rttMs;
  }
  /** The same without queues: what the way itself takes. */
  get pathRttMs(): number {
    return this.#liveness.pathRttMs;
  }
  get backlogBytes(): number {
    return this.#connection.raw.backlogBytes;
  }
  get heldDataBytes(): number {
    return this.#connection.heldDataBytes;
  }
  get remoteAddress(): string | undefined {
    return this.#connection.raw.remoteAddress;
  }
  /** Whether `open` can give a stream now. */
  get canOpen(): boolean {
    return (
      this.role === 'gateway' &&
      this.#state === 'open' &&
      this.#streams.size < this.limits.streamsMax &&
      this.#lastStreamId < STREAM_ID_MAX
    );
  }

  /**
   * Gateway: asks the agent for a stream. Never throws: when `canOpen` is false the stream comes back closed, and its
   * handler hears onReset in the next tick (RESET_TUNNEL_LOST after the tunnel's end, else ResetCode.REFUSED).
   */
  open(request: Open, handler: StreamHandler): MuxStream {
    if (!this.canOpen) {
      const stream = new MuxStream(0, this, request.network, ignoringStream);
      const code = this.#state === 'closed' ? RESET_TUNNEL_LOST : ResetCode.REFUSED;
      stream.cut(code);
      process.nextTick(() => handler.onReset(stream, code));
      return stream;
    }
    const stream = this.#addStream(++this.#lastStreamId, request.network, handler);
    this.writeFrame(FrameType.OPEN, stream.id, encodeControl(request));
    return stream;
  }

  /** Agent: the first frame; once. */
  hello(message: Hello): void {
    if (this.#state !== 'greeting' || this.#saidHello) return;
    this.#saidHello = true;
    this.#wireVersions = message.versions;
    this.writeFrame(FrameType.HELLO, 0, encodeControl(message));
  }

  /** Gateway: answers HELLO, with the version of the wire in use; limits and ping times in it are in force at both ends. */
  welcome(message: Omit<Welcome, 'version'>): void {
    if (this.#state !== 'greeting' || !this.#saidHello) return;
    this.writeFrame(FrameType.WELCOME, 0, encodeControl({ version: this.wireVersion, ...message }));
    this.#enterOpen(message);
  }

  /** Agent: tells of network, battery, caps. */
  status(message: Status): void {
    if (this.#state === 'open') this.writeFrame(FrameType.STATUS, 0, encodeControl(message));
  }

  /** Gateway: asks the agent to move to another gateway; streams go on. */
  drain(message: Drain): void {
    if (this.#state === 'open') this.writeFrame(FrameType.DRAIN, 0, encodeControl(message));
  }

  /** Ends the tunnel: GOAWAY and the WebSocket close leave, streams are cut, the socket follows. */
  close(goaway: Goaway, closeCode: number = CloseCode.NORMAL): void {
    if (this.#state === 'closed') return;
    this.writeFrame(FrameType.GOAWAY, 0, encodeControl(goaway));
    this.#finish(over(goaway.code, goaway.reason), closeCode);
  }

  /** Drops the tunnel without a word. */
  destroy(): void {
    this.#finish(over('destroyed', ''), null);
  }

  // ---- what the connection tells ----------------------------------------------------------------------------------

  get readHeadroomBytes(): number {
    return this.#connection.readHeadroomBytes;
  }

  keepReadBuffer(): void {
    this.#connection.keepReadBuffer();
  }

  letGoOfReadBuffer(): void {
    this.#connection.letGoOfReadBuffer();
  }

  /** @internal */
  onDrain(): void {
    this.datagrams.drained();
    this.#waiting.drained();
  }

  /** @internal */
  onLost(reason: string): void {
    this.#finish(over('connection_lost', reason, true), null);
  }

  /** @internal */
  onPeerClose(closeCode: number, reason: string): void {
    this.#finish(over('connection_closed', `${closeCode} ${reason}`.trim(), true), closeCode);
  }

  /** @internal */
  onFault(closeCode: number, reason: string): void {
    this.#fail(reason, closeCode);
  }

  /** @internal */
  onWebSocketPing(): boolean {
    if (++this.#sessionFramesInBeat <= SESSION_FRAMES_PER_BEAT_MAX) return true;
    this.#fail('flood of WebSocket pings');
    return false;
  }

  // ---- frames -----------------------------------------------------------------------------------------------------

  /** @internal */
  onDataBytes(streamId: number, buffer: Buffer, start: number, end: number): void {
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.#failIf(stream.receiveData(buffer, start, end));
    else if (this.#state === 'greeting') this.#fail('DATA before WELCOME');
    else if (streamId > this.#lastStreamId) this.#fail(`DATA on stream ${streamId}, which was never opened`);
  }

  /** @internal */
  onRunEnd(streamId: number): void {
    const stream = this.#streams.get(streamId);
    stream?.handler.onRunEnd?.(stream);
  }

  /** @internal */
  onFrame(type: FrameType, streamId: number, payload: Buffer): void {
    const rule = frameRules[type];
    if (rule?.sender === this.role) this.#fail(`${rule.name} from the wrong end`);
    else if (streamId === 0) this.#failIf(this.#onSessionFrame(type, payload));
    else if (this.#state !== 'open') this.#fail(`${rule?.name} before WELCOME`);
    else if (type === FrameType.OPEN) this.#failIf(this.#onOpenFrame(streamId, payload));
    else this.#failIf(this.#onStreamFrame(type, streamId, payload));
  }

  /** Returns null or what of the protocol was violated, as the following do. */
  #onSessionFrame(type: FrameType, payload: Buffer): string | null {
    if (++this.#sessionFramesInBeat > SESSION_FRAMES_PER_BEAT_MAX) return 'flood of session frames';
    switch (type) {
      case FrameType.PING:
        this.writeFrame(FrameType.PONG, 0, payload);
        return null;
      case FrameType.PONG:
        this.#liveness.pong(payload, performance.now(), this.bytesIn + this.bytesOut);
        return null;
      case FrameType.GOAWAY:
        return this.#take(decodeGoaway(payload), (goaway) =>
          this.#finish(
            over(goaway.code, goaway.reason, true, goaway.reconnect_after_ms ?? null),
            CloseCode.NORMAL,
          ),
        );
      case FrameType.HELLO:
        if (this.#saidHello) return 'second HELLO';
        return this.#take(decodeHello(payload), (hello) => this.#onHello(hello));
      case FrameType.WELCOME:
        if (this.#state !== 'greeting' || !this.#saidHello) return 'WELCOME out of turn';
        return this.#take(decodeWelcome(payload), (welcome) => this.#onWelcome(welcome));
      default:
        if (this.#state !== 'open') return `${frameRules[type]?.name} before WELCOME`;
        return type === FrameType.STATUS
          ? this.#take(decodeStatus(payload), (status) => this.handler.onStatus?.(this, status))
          : this.#take(decodeDrain(payload), (drain) => this.handler.onDrain?.(this, drain));
    }
  }

  #take<T>(decoded: Decoded<T>, use: (message: T) => void): string | null {
    if (!decoded.ok) return `malformed message: ${decoded.reason}`;
    use(decoded.message);
    return null;
  }

  #onHello(hello: Hello): void {
    const version = newestCommon(hello.versions, this.#wireVersions);
    if (version === null) {
      this.close(noCommonVersion('wire', hello.versions, this.#wireVersions));
      return;
    }
    this.wireVersion = version;
    this.#saidHello = true;
    this.handler.onHello?.(this, hello);
  }

  #onWelcome(welcome: Welcome): void {
    const { version = 1 } = welcome;
    if (!this.#wireVersions.includes(version)) {
      this.#fail(`wire version ${version} was not offered`);
      return;
    }
    this.wireVersion = version;
    this.#enterOpen(welcome);
    this.handler.onWelcome?.(this, welcome);
  }

  #onOpenFrame(streamId: number, payload: Buffer): string | null {
    if (streamId <= this.#lastStreamId) return `OPEN of stream ${streamId} after ${this.#lastStreamId}`;
    if (++this.#opensInBeat > OPENS_PER_BEAT_MAX) return 'flood of OPEN';
    if (this.#streams.size >= this.limits.streamsMax) return 'OPEN above streams_max';
    return this.#take(decodeOpen(payload), (open) => {
      this.#lastStreamId = streamId;
      this.handler.onOpen?.(this, this.#addStream(streamId, open.network, ignoringStream), open);
    });
  }

  #onStreamFrame(type: FrameType, streamId: number, payload: Buffer): string | null {
    if (type === FrameType.RESET && ++this.#resetsInBeat > RESETS_PER_BEAT_MAX) return 'flood of RESET';
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      // Not above the last id: it was closed here while the frame was on its way.
      if (streamId <= this.#lastStreamId) return null;
      return `${frameRules[type]?.name} on stream ${streamId}, which was never opened`;
    }
    return stream.receiveFrame(type, payload);
  }

  // ---- streams ----------------------------------------------------------------------------------------------------

  #enterOpen(welcome: Omit<Welcome, 'version'>): void {
    this.limits = limitsOf(welcome);
    this.#connection.frameBytesMax = this.limits.frameBytesMax;
    this.#liveness.timings = {
      ...this.#liveness.timings,
      pingLiveMs: welcome.ping_live_ms,
      pingIdleMs: welcome.ping_idle_ms,
    };
    this.#state = 'open';
    this.#ping(performance.now());
  }

  #addStream(id: number, network: 'tcp' | 'udp', handler: StreamHandler): MuxStream {
    if (this.#streams.size === 0) {
      const nowMs = performance.now();
      if (this.#liveness.wentLive(nowMs) && this.role === 'gateway') this.#ping(nowMs);
    }
    const stream = new MuxStream(id, this, network, handler);
    this.#streams.set(id, stream);
    return stream;
  }

  /** @internal */
  release(stream: MuxStream, windowBytes: number): void {
    if (this.#streams.get(stream.id) !== stream) return;
    this.#streams.delete(stream.id);
    this.#waiting.remove(stream);
    this.windowBudget.giveBack(windowBytes - this.limits.streamWindowBytes);
  }

  /** @internal */
  awaitDrain(stream: MuxStream): void {
    this.#waiting.add(stream);
  }

  /** @internal */
  writeData(streamId: number, buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    return this.#connection.writeData(streamId, buffer, start, end, headroomBytes);
  }

  /** @internal */
  writeDatagram(streamId: number, head: Uint8Array, bytes: Uint8Array): boolean {
    const taken = this.#connection.writeDatagram(streamId, head, bytes);
    this.datagrams.wrote(head.length + bytes.length, taken);
    return taken;
  }

  /** @internal */
  writeFrame(type: FrameType, streamId: number, payload: Uint8Array | null): void {
    if (this.#state !== 'closed') this.#connection.writeFrame(type, streamId, payload);
  }

  // ---- life and death ---------------------------------------------------------------------------------------------

  /** @internal */
  onBeat(nowMs: number, lateMs: number): void {
    this.#opensInBeat = 0;
    this.#resetsInBeat = 0;
    this.#sessionFramesInBeat = 0;
    if (this.#state === 'greeting') {
      if (nowMs - this.#startedAtMs > this.#liveness.timings.greetingTimeoutMs)
        this.#fail(`no ${this.role === 'agent' ? 'WELCOME' : 'HELLO'} in time`);
      return;
    }
    const due = this.#liveness.beat(nowMs, lateMs, this.#connection.heard, this.#streams.size > 0);
    this.#connection.heard = false;
    if (due.due === 'ping') this.#ping(nowMs);
    else if (due.due === 'death')
      this.#finish(over('dead_peer', `silent for ${Math.round(due.silentMs)} ms`), null);
  }

  #ping(nowMs: number): void {
    this.writeFrame(FrameType.PING, 0, this.#liveness.ping(nowMs, this.bytesIn + this.bytesOut));
  }

  #failIf(violation: string | null): void {
    if (violation !== null) this.#fail(violation);
  }

  #fail(reason: string, closeCode: number = CloseCode.PROTOCOL_ERROR): void {
    this.close({ code: 'protocol_error', reason }, closeCode);
  }

  /** The one way into `closed`. With a null `closeCode` the socket is dropped without a WebSocket close. */
  #finish(reason: CloseReason, closeCode: number | null): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#heartbeat.remove(this);
    if (closeCode === null) this.#connection.destroy();
    else this.#connection.close(closeCode, reason.code);
    for (const stream of this.#streams.values()) stream.cut(RESET_TUNNEL_LOST);
    this.handler.onClose(this, reason);
  }
}
