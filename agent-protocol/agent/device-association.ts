import { isIPv4 } from 'node:net';
import { mappedIpv4, parseHost } from '../address.js';
import { type Datagram, decodeDatagram, encodeDatagramHead } from '../datagram.js';
import { DialCode, ResetCode } from '../frame.js';
import { STREAM_DATAGRAM_BYTES_MAX } from '../limits.js';
import type { Place } from '../live-set.js';
import type { MuxStream, StreamHandler } from '../stream.js';
import { type UdpSink, UdpSocket } from '../udp-socket.js';
import type { DeviceStreamOwner, OwnedStream } from './device-stream.js';
import { type Reachable, type ReachSettings, reachable } from './reachable.js';

/** Bounds of what associations do; SPEC.md section 6 says the same. */
export interface AssociationLimits {
  /** false: OPEN of network `udp` is answered with UNSUPPORTED. */
  readonly enabled: boolean;
  /** Associations of one tunnel at once; then CAP_REACHED for the new one. */
  readonly associationsMax: number;
  /** Destinations of one association at once; datagrams to further ones are dropped. */
  readonly flowsMax: number;
  /** A destination without a datagram for so long is forgotten, and its answers are dropped. */
  readonly flowIdleMs: number;
  /** An association without a datagram for so long is reset. */
  readonly idleMs: number;
  /** Ports nothing is ever sent to. */
  readonly blockPorts: readonly number[];
}

export const ASSOCIATION_LIMITS: AssociationLimits = {
  enabled: true,
  associationsMax: 100,
  flowsMax: 256,
  flowIdleMs: 60_000,
  idleMs: 120_000,
  // Services of a network of one's own, and those that answer with many times what they were asked
  blockPorts: [7, 13, 17, 19, 69, 111, 137, 138, 161, 162, 389, 1900, 3702, 5353, 11211],
};

/** Datagrams of one association that wait for a name to be resolved; the newest is dropped. */
const WAITING_MAX = 16;

/** What an association tells the tunnel it belongs to. */
export interface DeviceAssociationOwner extends Omit<DeviceStreamOwner, 'dialSettings'> {
  readonly reachSettings: ReachSettings;
  /** A datagram came to nothing. */
  onDatagramDropped(): void;
}

/** An address and port that datagrams go to and may come from. */
interface Peer {
  readonly address: string;
  readonly port: number;
  /** What stands in front of datagrams from there. */
  readonly head: Buffer;
  /** Destinations that led there: a name and its address may both be used. */
  flows: number;
  usedAtMs: number;
}

/** A destination as it was asked for. */
interface Flow {
  /** null: its name is being resolved, and `waiting` waits for that. */
  peer: Peer | null;
  waiting: Buffer[];
  usedAtMs: number;
}

/**
 * One association on the device's side: datagrams to any number of destinations, and back from exactly those.
 *
 * | state | holds | leaves to |
 * |---|---|---|
 * | open | flows, peers and up to two sockets, made when first needed | over (RESET, cut, idle, socket failed) |
 * | over | nothing | |
 */
export class DeviceAssociation implements StreamHandler, OwnedStream, UdpSink {
  place: Place<OwnedStream> | null = null;
  readonly #stream: MuxStream;
  readonly #owner: DeviceAssociationOwner;
  readonly #limits: AssociationLimits;
  /** By host and port as asked for. */
  readonly #flows = new Map<string, Flow>();
  /** By address and port. */
  readonly #peers = new Map<string, Peer>();
  #ipv4: UdpSocket | null = null;
  #ipv6: UdpSocket | null = null;
  #waitingCount = 0;
  #usedAtMs = performance.now();
  readonly #sweeping: NodeJS.Timeout;
  #over = false;

  /** Takes the stream over and answers its OPEN. */
  constructor(stream: MuxStream, owner: DeviceAssociationOwner, limits: AssociationLimits) {
    this.#stream = stream;
    this.#owner = owner;
    this.#limits = limits;
    stream.handler = this;
    this.#sweeping = setInterval(() => this.#sweep(), Math.min(limits.flowIdleMs, limits.idleMs) / 4);
    stream.opened(DialCode.OK);
    owner.onAnswered('OK');
  }

  cut(why: 'CAP_REACHED' | 'PAUSED'): void {
    this.#end(ResetCode[why]);
  }

  // ---- up: tunnel to destination ----------------------------------------------------------------------------------

  onDatagram(_stream: MuxStream, payload: Buffer): void {
    const datagram = decodeDatagram(payload);
    if (!this.#over && datagram !== null && !this.#passUp(datagram)) this.#owner.onDatagramDropped();
  }

  /** Sends it, or keeps it until its name is resolved; false: it is to be dropped. */
  #passUp({ host, port, bytes }: Datagram): boolean {
    this.#usedAtMs = performance.now();
    const key = `${host} ${port}`;
    const flow = this.#flows.get(key) ?? this.#newFlow(key, host, port);
    if (flow === null) return false;
    flow.usedAtMs = this.#usedAtMs;
    // Copied: the payload belongs to the tunnel's read buffer
    if (flow.peer !== null) return this.#send(flow.peer, Buffer.from(bytes));
    if (this.#waitingCount >= WAITING_MAX) return false;
    this.#waitingCount++;
    flow.waiting.push(Buffer.from(bytes));
    return true;
  }

  /** null: the destination may not be reached. */
  #newFlow(key: string, host: string, port: number): Flow | null {
    const { rules, reachSettings } = this.#owner;
    if (this.#flows.size >= this.#limits.flowsMax || rules.isBlockedHost(host)) return null;
    if (this.#limits.blockPorts.includes(port) && !reachSettings.isExempt(host, port)) return null;
    const judged = reachable(reachSettings, host, port);
    const flow: Flow = { peer: null, waiting: [], usedAtMs: this.#usedAtMs };
    if (judged instanceof Promise) void judged.then((outcome) => this.#onJudged(key, flow, port, outcome));
    else if (judged.ok) flow.peer = this.#peer(judged.addresses, port);
    else return null;
    this.#flows.set(key, flow);
    return flow;
  }

  #onJudged(key: string, flow: Flow, port: number, judged: Reachable): void {
    if (this.#over) return;
    const { waiting } = flow;
    flow.waiting = [];
    this.#waitingCount -= waiting.length;
    flow.peer = judged.ok ? this.#peer(judged.addresses, port) : null;
    // Not kept: the next datagram asks again, and the resolver remembers its failures for a while
    if (flow.peer === null) this.#flows.delete(key);
    for (const bytes of waiting)
      if (flow.peer === null || !this.#send(flow.peer, bytes)) this.#owner.onDatagramDropped();
  }

  /** Nothing tells that an IPv6 path is dead, so IPv4 comes first. */
  #peer(addresses: readonly string[], port: number): Peer {
    const first = addresses.find((address) => isIPv4(address)) ?? (addresses[0] as string);
    const parsed = parseHost(first);
    // One text for one address, the one that the operating system gives for the sender of an answer
    const address = mappedIpv4(first) ?? ('address' in parsed ? parsed.address : first);
    const key = `${address} ${port}`;
    let peer = this.#peers.get(key);
    if (peer === undefined) {
      peer = { address, port, head: encodeDatagramHead(address, port), flows: 0, usedAtMs: this.#usedAtMs };
      this.#peers.set(key, peer);
    }
    peer.flows++;
    return peer;
  }

  #send(peer: Peer, bytes: Buffer): boolean {
    const { rules } = this.#owner;
    const socket = this.#socketTo(peer.address);
    if (socket.unsentBytes + bytes.length > STREAM_DATAGRAM_BYTES_MAX) return false;
    if (!rules.bandwidth.takeNow(bytes.length)) return false;
    if (!rules.countUp(bytes.length)) return this.#refused();
    this.#owner.bytesUp += bytes.length;
    peer.usedAtMs = this.#usedAtMs;
    socket.send(bytes, peer.address, peer.port);
    return true;
  }

  #socketTo(address: string): UdpSocket {
    if (isIPv4(address)) {
      this.#ipv4 ??= new UdpSocket(4, this);
      return this.#ipv4;
    }
    this.#ipv6 ??= new UdpSocket(6, this);
    return this.#ipv6;
  }

  // ---- down: destination to tunnel --------------------------------------------------------------------------------

  /** From a socket. */
  onReceived(bytes: Buffer, address: string, port: number): void {
    if (!this.#passDown(bytes, this.#peers.get(`${address} ${port}`))) this.#owner.onDatagramDropped();
  }

  /** Whoever was not sent to lately is a stranger. */
  #passDown(bytes: Buffer, peer: Peer | undefined): boolean {
    const nowMs = performance.now();
    if (peer === undefined || nowMs - peer.usedAtMs >= this.#limits.flowIdleMs) return false;
    peer.usedAtMs = nowMs;
    this.#usedAtMs = nowMs;
    if (!this.#stream.takesDatagram(bytes.length)) return false;
    if (!this.#owner.rules.bandwidth.takeNow(bytes.length)) return false;
    if (!this.#owner.rules.countDown(bytes.length)) return this.#refused();
    this.#owner.bytesDown += bytes.length;
    return this.#stream.sendDatagram(peer.head, bytes);
  }

  /** The cap is reached; whoever enforces it cuts the streams. */
  #refused(): false {
    this.#owner.onRefusedByRules();
    return false;
  }

  // ---- ends -------------------------------------------------------------------------------------------------------

  #sweep(): void {
    const nowMs = performance.now();
    if (nowMs - this.#usedAtMs >= this.#limits.idleMs) {
      this.#end(ResetCode.TIMEOUT);
      return;
    }
    for (const [key, { peer, usedAtMs }] of this.#flows) {
      if (nowMs - Math.max(usedAtMs, peer?.usedAtMs ?? nowMs) < this.#limits.flowIdleMs) continue;
      this.#flows.delete(key);
      if (peer !== null && --peer.flows === 0) this.#peers.delete(`${peer.address} ${peer.port}`);
    }
  }

  onReset(): void {
    this.#end(null);
  }
  onSocketError(): void {
    this.#end(ResetCode.INTERNAL);
  }
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}

  /** `code` null: the other end knows. */
  #end(code: ResetCode | null): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#sweeping);
    this.#ipv4?.close();
    this.#ipv6?.close();
    if (code !== null) this.#stream.reset(code);
    this.#owner.onStreamOver(this);
  }
}
