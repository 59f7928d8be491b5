import type { Duplex } from 'node:stream';
import { bridgeSocket } from '../../agent-protocol/bridge.js';
import { ResetCode } from '../../agent-protocol/frame.js';
import { LiveSet } from '../../agent-protocol/live-set.js';
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import type { MeterBinding } from '../metering/meter.js';
import type { MeterPrices, MeterRegistry } from '../metering/registry.js';
import type { Wallet } from '../metering/wallet.js';
import type { UsageBook } from '../usage/usage-book.js';
import { Association, type AssociationClient, type AssociationDeps } from './association.js';
import { AssociationUsage, type OpenFlow } from './association-usage.js';
import type { AccountBandwidth } from './bandwidth.js';
import {
  type Allowance,
  type RelayTotals,
  Splice,
  type SpliceOwner,
  type SpliceSubject,
  type StreamAccess,
} from './splice.js';
import { type BuyerConnection, StreamDuplex } from './stream-duplex.js';

/** A dialled stream on its way into the relay, with what the destination already sent. */
export interface DialledStream {
  stream: MuxStream;
  held: { replay(stream: MuxStream): void };
}

/** Whose connection it is. */
export interface RelaySubject extends MeterPrices {
  sessionId: string;
  deviceId: string;
  buyerId: string;
  account: string;
  packageId: string | null;
  /** null: the buyer's own account. */
  subUserId: string | null;
  /** `*`: an association. */
  destinationHost: string;
  destinationPort: number;
  network: 'tcp' | 'udp';
  /** Cost label and session name of the username. */
  tag: string | null;
  sessionName: string | null;
  access: StreamAccess;
  allowance: Allowance;
  /** Acquired for this stream; released when it has ended. */
  bandwidth: AccountBandwidth;
  /** What its bytes are paid from. */
  wallets: readonly Wallet[];
  /** Whether the buyer may send a datagram there now: the normal form of the host, or null. */
  mayReach: AssociationDeps['mayReach'];
}

/** What a stream was, once it has ended. */
export interface EndedStream {
  how: 'finished' | 'reset' | 'refused';
  durationMs: number;
  bytesUp: number;
  bytesDown: number;
}

/** A stream that is counted from now on; exactly one of the methods is to be called. */
export interface RelayedStream {
  /** Joins the buyer's socket, which it takes over; `head` was read behind the request. */
  splice(socket: RawSocket, head: Buffer): void;
  /** The stream for code that wants a Duplex; what is read there goes to the buyer on `buyer`. */
  duplex(buyer: BuyerConnection): Duplex;
  /** Carries datagrams for the client; streams of network `udp`. */
  start(client: AssociationClient): Association;
  /** Not needed after all. */
  abandon(): void;
}

export type RelayOpened = { ok: true; relayed: RelayedStream } | { ok: false };

/**
 * Everything that is being relayed, and the means to cut it. One meter binding for each allocation and traffic
 * session, shared by their streams, open until `closeAllocation` or `closeSession`.
 */
export class Relay implements SpliceOwner {
  readonly totals: RelayTotals = { bytesUp: 0, bytesDown: 0 };
  readonly #meters: MeterRegistry;
  readonly #usage: UsageBook;
  readonly #associations: Omit<AssociationDeps, 'mayReach' | 'usage'>;
  readonly #onEnded: (stream: EndedStream) => void;
  readonly #live = new LiveSet<Splice>();
  readonly #byAccount = new Map<string, LiveSet<Splice>>();
  /** By allocation. */
  readonly #bindings = new Map<string, Set<MeterBinding>>();

  /** `onEnded` is told of each stream that has ended; the others are for associations. */
  constructor(
    meters: MeterRegistry,
    usage: UsageBook,
    {
      onEnded,
      ...associations
    }: Omit<AssociationDeps, 'mayReach' | 'usage'> & { onEnded: (stream: EndedStream) => void },
  ) {
    this.#onEnded = onEnded;
    this.#meters = meters;
    this.#usage = usage;
    this.#associations = associations;
  }

  /** Connections being relayed. */
  get streamCount(): number {
    return this.#live.size;
  }

  /**
   * Takes a dialled stream. `onEnd` is called once, when it is over. Not ok: the journal has no room or failed; the
   * caller resets the stream and releases the bandwidth.
   */
  open({ stream, held }: DialledStream, subject: RelaySubject, onEnd: () => void): RelayOpened {
    const { sessionId, buyerId, packageId, subUserId, allowance } = subject;
    const opened = this.#meters.open({
      sessionId,
      allocationId: allowance.allocationId,
      buyerId,
      packageId,
      subUserId,
      wallets: subject.wallets,
      providerPriceMicrosPerGb: subject.providerPriceMicrosPerGb,
      buyerPriceMicrosPerGb: subject.buyerPriceMicrosPerGb,
    });
    if (!opened.ok) return { ok: false };
    const { binding } = opened;
    const bindings = this.#bindings.get(allowance.allocationId);
    if (bindings) bindings.add(binding);
    else this.#bindings.set(allowance.allocationId, new Set([binding]));

    // Field by field: a copy of an object with so many costs a new connection more than all else here.
    const spliced: SpliceSubject = {
      sessionId,
      deviceId: subject.deviceId,
      buyerId,
      account: subject.account,
      destinationHost: subject.destinationHost,
      destinationPort: subject.destinationPort,
      network: subject.network,
      access: subject.access,
      allowance,
      binding,
      bandwidth: subject.bandwidth,
    };
    const splice = new Splice(stream, spliced, this, () => {
      stream.reset(ResetCode.REFUSED);
      splice.onEnd('refused');
    });
    const { tag, sessionName } = subject;
    const { allocationId } = allowance;
    const openFlow: OpenFlow = (host, port, source) =>
      this.#usage.open({ sessionId, allocationId, buyerId, subUserId, tag, sessionName, host, port }, source);
    const usage =
      stream.network === 'udp'
        ? new AssociationUsage(openFlow)
        : openFlow(subject.destinationHost, subject.destinationPort, splice);
    const { clock } = this.#associations;
    const startedAtMs = clock.monotonicMs();
    const place = this.#live.add(splice);
    const ofAccount = this.#ofAccount(subject.account);
    const placeOfAccount = ofAccount.add(splice);
    splice.afterEnd = (how) => {
      this.#live.remove(place);
      ofAccount.remove(placeOfAccount);
      if (ofAccount.size === 0) this.#byAccount.delete(spliced.account);
      spliced.bandwidth.release();
      usage.end();
      const { bytesUp, bytesDown } = splice;
      this.#onEnded({ how, durationMs: clock.monotonicMs() - startedAtMs, bytesUp, bytesDown });
      onEnd();
    };
    return {
      ok: true,
      relayed: {
        splice: (socket, head) => {
          const bridge = bridgeSocket(socket, stream, splice, head);
          splice.onCut(() => bridge.reset(ResetCode.REFUSED));
          splice.onRetry(() => bridge.retry());
          held.replay(stream);
        },
        duplex: (buyer) => {
          const duplex = new StreamDuplex(stream, splice, buyer);
          held.replay(stream);
          return duplex;
        },
        start: (client) => {
          const { mayReach } = subject;
          if (!(usage instanceof AssociationUsage)) throw new Error('not a stream for datagrams');
          const association = new Association(
            stream,
            splice,
            { ...this.#associations, usage, mayReach },
            client,
          );
          held.replay(stream);
          return association;
        },
        abandon: () => {
          stream.reset(ResetCode.CANCELLED);
          splice.onEnd('reset');
        },
      },
    };
  }

  /** @internal */
  ended(splice: Splice, how: EndedStream['how']): void {
    splice.afterEnd?.(how);
  }

  #ofAccount(account: string): LiveSet<Splice> {
    const known = this.#byAccount.get(account);
    if (known) return known;
    const splices = new LiveSet<Splice>();
    this.#byAccount.set(account, splices);
    return splices;
  }

  /** Accounts that have a connection being relayed. */
  accounts(): string[] {
    return [...this.#byAccount.keys()];
  }

  /** These wallets bound the account's connections as well from now on. */
  bindAccount(account: string, wallets: readonly Wallet[]): void {
    for (const { subject } of this.#byAccount.get(account) ?? []) subject.binding.bindTo(wallets);
  }

  /** Cuts the account's connections that the test says; returns how many. */
  cutOfAccount(account: string, ended: (splice: Splice) => boolean): number {
    let count = 0;
    for (const splice of [...(this.#byAccount.get(account) ?? [])]) {
      if (!ended(splice)) continue;
      splice.cut();
      count++;
    }
    return count;
  }

  /** Cuts every connection that the test says; returns how many. */
  cut(concerns: (splice: Splice) => boolean): number {
    let count = 0;
    for (const splice of [...this.#live]) {
      if (!concerns(splice)) continue;
      splice.cut();
      count++;
    }
    return count;
  }

  /** The allocation serves nobody here any more: its connections are cut, its meters FINAL. */
  closeAllocation(allocationId: string, how: { allocationEnded: boolean }): void {
    this.cut(({ subject }) => subject.allowance.allocationId === allocationId);
    for (const binding of this.#bindings.get(allocationId) ?? []) this.#meters.close(binding, how);
    this.#bindings.delete(allocationId);
  }

  /** The traffic session is over: its connections are cut, its meters FINAL. Pulled packages live on elsewhere. */
  closeSession(sessionId: string): void {
    this.cut(({ subject }) => subject.sessionId === sessionId);
    for (const [allocationId, bindings] of this.#bindings) {
      for (const binding of bindings) {
        if (binding.meter.identity.sessionId !== sessionId) continue;
        this.#meters.close(binding, { allocationEnded: false });
        bindings.delete(binding);
      }
      if (bindings.size === 0) this.#bindings.delete(allocationId);
    }
  }

  /** Prices may have changed: each open meter goes on at those in force; where that is impossible, streams are cut. */
  reprice(pricesOf: (identity: MeterBinding['meter']['identity']) => MeterPrices): void {
    const stranded = new Set(this.#meters.rollAll(pricesOf));
    if (stranded.size > 0) this.cut(({ subject }) => stranded.has(subject.binding));
  }

  /** The journal failed: nothing can be counted, so nothing goes on. */
  cutAll(): void {
    this.cut(() => true);
  }
}
