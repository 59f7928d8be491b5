import { AddressSet, plainAddress } from '../runtime/addresses.js';

/** Answers remembered for addresses that come again and again. */
const KNOWN_MAX = 10_000;

/** Which account a client address stands for. Immutable; a change of the lists makes a new one. */
export class AddressAccounts {
  readonly #accounts: ReadonlyArray<{ account: string; addresses: AddressSet }>;
  /** All of them together: most addresses are in none, which one look tells. */
  readonly #any: AddressSet;
  readonly #known = new Map<string, string | null>();

  /** CIDRs by account. */
  constructor(cidrs: ReadonlyMap<string, readonly string[]>) {
    this.#accounts = [...cidrs].map(([account, list]) => ({ account, addresses: new AddressSet(list) }));
    this.#any = new AddressSet([...cidrs.values()].flat());
  }

  /** The one account whose list holds the address; null: none, or more than one. */
  find(clientAddress: string): string | null {
    const address = plainAddress(clientAddress);
    if (address === null || !this.#any.has(address)) return null;
    let account = this.#known.get(address);
    if (account === undefined) {
      const holders = this.#accounts.filter(({ addresses }) => addresses.has(address));
      account = holders.length === 1 && holders[0] ? holders[0].account : null;
      if (this.#known.size >= KNOWN_MAX) this.#known.clear();
      this.#known.set(address, account);
    }
    return account;
  }
}
