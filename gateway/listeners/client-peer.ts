import { plainAddress } from '../runtime/addresses.js';
import type { Place } from './address-gate.js';

/** Who is at the other end of a connection, from accept until it is gone. */
export class ClientPeer {
  /** Its address as text: of the TCP peer, or what a load balancer announced; IPv4 without the IPv6 prefix. */
  readonly address: string;
  #place: Place | null;
  #loggedIn = false;

  /** `place`: what it holds among those of its address that have not logged in. */
  constructor(address: string, place: Place) {
    this.address = plainAddress(address) ?? address;
    this.#place = place;
  }

  /** Whether a right login came on this connection. */
  get loggedIn(): boolean {
    return this.#loggedIn;
  }

  /** A right login came: from now on the account's limits hold, not those of strangers. */
  logIn(): void {
    this.#loggedIn = true;
    this.leave();
  }

  /** The connection is gone. Calling it again does nothing. */
  leave(): void {
    this.#place?.leave();
    this.#place = null;
  }
}
