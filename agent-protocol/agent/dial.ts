import { classifyAddress, parseHost } from '../address.js';
import type { Resolve } from './resolve.js';

/** Why a destination could not be reached; the names are those of the OPENED codes. */
export type DialFailure =
  | 'DNS_FAIL'
  | 'REFUSED'
  | 'UNREACHABLE'
  | 'TIMEOUT'
  | 'PROHIBITED'
  | 'BLOCKED'
  | 'INTERNAL';

/** What a dial ends in; exactly one of the two is called, unless it is cancelled first. */
export interface DialHandler<Socket> {
  onConnected(socket: Socket): void;
  onFailed(failure: DialFailure): void;
}

/** A dial under way. */
export interface Dial {
  /** Gives up at once; the handler is not called any more. Harmless afterwards. */
  cancel(): void;
}

/** One connection attempt to one address. `onResult` is called once: null when connected. */
export type Attempt<Socket> = (
  address: string,
  port: number,
  onResult: (error: NodeJS.ErrnoException | null) => void,
) => Socket;

export interface DialSettings<Socket extends { destroy(): void }> {
  /** For destinations under the address policy. */
  readonly resolve: Resolve;
  /** For exempt destinations: names of the machine itself. */
  readonly resolveExempt: Resolve;
  readonly attempt: Attempt<Socket>;
  /** Destinations that skip the address policy, exactly as asked for (development). */
  isExempt(host: string, port: number): boolean;
  /** Addresses that the owner blocks. */
  isBlockedAddress(address: string): boolean;
  /** Resolving and connecting together. */
  readonly timeoutMs: number;
  /** Head start of one attempt over the next; a failed attempt ends its head start. */
  readonly attemptDelayMs: number;
}

/**
 * Reaches a destination: resolves it, drops every address that is not global unicast, and connects by Happy
 * Eyeballs (RFC 8305). The very address that was judged is the one connected to, so an answer that changes between
 * two look-ups (DNS rebinding) changes nothing.
 */
export function dial<Socket extends { destroy(): void }>(
  settings: DialSettings<Socket>,
  host: string,
  port: number,
  handler: DialHandler<Socket>,
): Dial {
  const race = new AddressRace(settings, port, handler);
  if (settings.isExempt(host, port)) {
    const literal = classifyAddress(host) !== 'invalid';
    if (literal) race.start([host]);
    else race.resolve(settings.resolveExempt, host, (addresses) => addresses);
    return race;
  }
  const parsed = parseHost(host);
  if (parsed.kind === 'name') race.resolve(settings.resolve, parsed.name, globalOnly);
  else if (parsed.kind === 'ipv4' || parsed.kind === 'ipv6') race.start(globalOnly([parsed.address]));
  else race.start([]); // local names, and what no resolver should ever see
  return race;
}

function globalOnly(addresses: readonly string[]): readonly string[] {
  return addresses.filter((address) => classifyAddress(address) === 'global');
}

/** The worst failure says most about the destination: an answer is worth more than silence. */
const TELLING: readonly DialFailure[] = ['REFUSED', 'TIMEOUT', 'UNREACHABLE', 'INTERNAL'];

class AddressRace<Socket extends { destroy(): void }> implements Dial {
  readonly #settings: DialSettings<Socket>;
  readonly #port: number;
  #handler: DialHandler<Socket> | null;
  #addresses: readonly string[] = [];
  #next = 0;
  readonly #underWay = new Set<Socket>();
  #failure: DialFailure | null = null;
  #headStart: NodeJS.Timeout | undefined;
  readonly #timeout: NodeJS.Timeout;

  constructor(settings: DialSettings<Socket>, port: number, handler: DialHandler<Socket>) {
    this.#settings = settings;
    this.#port = port;
    this.#handler = handler;
    this.#timeout = setTimeout(() => this.#fail('TIMEOUT'), settings.timeoutMs);
  }

  resolve(
    resolve: Resolve,
    name: string,
    allowed: (addresses: readonly string[]) => readonly string[],
  ): void {
    resolve(name).then(
      (resolution) => {
        if (!resolution.ok) this.#fail('DNS_FAIL');
        else this.start(allowed(resolution.addresses));
      },
      () => this.#fail('DNS_FAIL'),
    );
  }

  /** Connects to these, in this order. None: everything that the name led to is prohibited. */
  start(allowed: readonly string[]): void {
    if (this.#handler === null) return;
    this.#addresses = allowed.filter((address) => !this.#settings.isBlockedAddress(address));
    if (allowed.length === 0) this.#failSoon('PROHIBITED');
    else if (this.#addresses.length === 0) this.#failSoon('BLOCKED');
    else this.#tryNext();
  }

  cancel(): void {
    this.#handler = null;
    clearTimeout(this.#timeout);
    clearTimeout(this.#headStart);
    for (const socket of this.#underWay) socket.destroy();
    this.#underWay.clear();
  }

  #tryNext(): void {
    clearTimeout(this.#headStart);
    const address = this.#addresses[this.#next++];
    if (address === undefined) return;
    let socket: Socket | null = null;
    socket = this.#settings.attempt(address, this.#port, (error) => {
      if (socket !== null) this.#attemptEnded(socket, error);
    });
    this.#underWay.add(socket);
    if (this.#next < this.#addresses.length)
      this.#headStart = setTimeout(() => this.#tryNext(), this.#settings.attemptDelayMs);
  }

  #attemptEnded(socket: Socket, error: NodeJS.ErrnoException | null): void {
    if (this.#handler === null || !this.#underWay.delete(socket)) return;
    if (error === null) {
      const handler = this.#handler;
      this.cancel();
      handler.onConnected(socket);
      return;
    }
    const failure = failureOf(error.code);
    if (this.#failure === null || TELLING.indexOf(failure) < TELLING.indexOf(this.#failure))
      this.#failure = failure;
    if (this.#next < this.#addresses.length) this.#tryNext();
    else if (this.#underWay.size === 0) this.#fail(this.#failure);
  }

  #fail(failure: DialFailure): void {
    const handler = this.#handler;
    if (handler === null) return;
    this.cancel();
    handler.onFailed(failure);
  }

  /** Never from within `dial` itself: the caller does not have its Dial yet. */
  #failSoon(failure: DialFailure): void {
    queueMicrotask(() => this.#fail(failure));
  }
}

function failureOf(code: string | undefined): DialFailure {
  switch (code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'ECONNABORTED':
      return 'REFUSED';
    case 'ETIMEDOUT':
      return 'TIMEOUT';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EHOSTDOWN':
    case 'ENETDOWN':
    case 'EADDRNOTAVAIL': // no address of this family on the device
    case 'EAFNOSUPPORT':
    case 'EINVAL':
    case 'EACCES': // a firewall on the device
    case 'EPERM':
      return 'UNREACHABLE';
    default:
      return 'INTERNAL';
  }
}
