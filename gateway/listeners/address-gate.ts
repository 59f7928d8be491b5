import { addressGroup } from '../runtime/addresses.js';

/** One connection that counts against its address until it leaves. */
export interface Place {
  leave(): void;
}

export interface AddressGateSettings {
  /** Connections of one address that have not logged in, above which a growing share of new ones is closed unread. */
  strangersSoftMax: number;
  /** At so many all new ones of the address are closed unread. */
  strangersHardMax: number;
}

/**
 * Bounds what one client address (IPv6: one /64) can hold before it has logged in. Between the two limits new
 * connections are dropped at random, so that whoever fills the places cannot keep everybody else behind the same
 * address out: of their tries some get in. Holds one number for each address that has a connection here.
 */
export class AddressGate {
  readonly #settings: AddressGateSettings;
  readonly #random: () => number;
  readonly #strangers = new Map<string, number>();
  #count = 0;
  #droppedTotal = 0;

  /** `random`: [0, 1); for tests. */
  constructor(settings: AddressGateSettings, random: () => number = Math.random) {
    this.#settings = settings;
    this.#random = random;
  }

  /** Connections that have not logged in, of all addresses. */
  get count(): number {
    return this.#count;
  }

  /** Connections turned away since the start. */
  get droppedTotal(): number {
    return this.#droppedTotal;
  }

  /** A place for a new connection; null: it is to be closed. */
  enter(address: string): Place | null {
    const group = addressGroup(address);
    const held = this.#strangers.get(group) ?? 0;
    if (this.#drops(held)) {
      this.#droppedTotal += 1;
      return null;
    }
    this.#strangers.set(group, held + 1);
    this.#count += 1;
    let left = false;
    return {
      leave: () => {
        if (left) return;
        left = true;
        this.#count -= 1;
        const others = (this.#strangers.get(group) ?? 1) - 1;
        if (others > 0) this.#strangers.set(group, others);
        else this.#strangers.delete(group);
      },
    };
  }

  #drops(held: number): boolean {
    const { strangersSoftMax, strangersHardMax } = this.#settings;
    if (held >= strangersHardMax) return true;
    if (held < strangersSoftMax) return false;
    return this.#random() * (strangersHardMax - strangersSoftMax) < held + 1 - strangersSoftMax;
  }
}
