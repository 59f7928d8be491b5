import { decodeDatagram } from '../../agent-protocol/datagram.js';
import { OTHER, type UsageFlow, type UsageSource } from '../usage/usage-book.js';

/** A flow of usage for what an association moves to and from one destination. */
export type OpenFlow = (host: string, port: number, source: UsageSource) => Pick<UsageFlow, 'end'>;

/** Destinations of one association that are told apart; those after them are counted together as `(other)`. */
export const ASSOCIATION_DESTINATIONS_MAX = 256;

class Destination implements UsageSource {
  bytesUp = 0;
  bytesDown = 0;
  flow: Pick<UsageFlow, 'end'> | null = null;
}

/**
 * What an association moves, by destination: up by the host that was asked for, down by the address that the datagram
 * came from, as the device says. Every byte counted is in exactly one of them.
 */
export class AssociationUsage {
  readonly #open: OpenFlow;
  readonly #destinations = new Map<string, Destination>();
  /** Datagrams mostly come from where the one before came from: its head, and whose it is. */
  #lastHead = Buffer.alloc(0);
  #lastSender: Destination | null = null;
  #ended = false;

  constructor(open: OpenFlow) {
    this.#open = open;
  }

  /** So many payload bytes go up to a host in its normal form. */
  up(host: string, port: number, bytes: number): void {
    const destination = this.#of(host, port);
    if (destination) destination.bytesUp += bytes;
  }

  /** A DATAGRAM payload with a whole head of `headBytes` goes down. */
  down(payload: Buffer, headBytes: number): void {
    const last = this.#lastHead;
    if (
      this.#lastSender === null ||
      last.length !== headBytes ||
      payload.compare(last, 0, headBytes, 0, headBytes)
    ) {
      const sender = decodeDatagram(payload);
      if (sender === null) return;
      this.#lastHead = Buffer.from(payload.subarray(0, headBytes));
      this.#lastSender = this.#of(sender.host, sender.port);
    }
    if (this.#lastSender) this.#lastSender.bytesDown += payload.length - headBytes;
  }

  /** The association is over. A second call does nothing. */
  end(): void {
    this.#ended = true;
    for (const { flow } of this.#destinations.values()) flow?.end();
    this.#destinations.clear();
    this.#lastSender = null;
  }

  #of(host: string, port: number): Destination | null {
    if (this.#ended) return null;
    const key = `${host} ${port}`;
    const known = this.#destinations.get(key);
    if (known) return known;
    if (this.#destinations.size >= ASSOCIATION_DESTINATIONS_MAX && host !== OTHER) return this.#of(OTHER, 0);
    const destination = new Destination();
    this.#destinations.set(key, destination);
    destination.flow = this.#open(host, port, destination);
    return destination;
  }
}
