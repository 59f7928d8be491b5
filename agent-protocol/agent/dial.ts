import { type Reachable, type ReachSettings, reachable } from './reachable.js';

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

export interface DialSettings<Socket extends { destroy(): void }> extends ReachSettings {
  readonly attempt: Attempt<Socket>;
  /** Resolving and connecting together. */
  readonly timeoutMs: number;
  /** Head start of one attempt over the next; a failed attempt ends its head start. */
  readonly attemptDelayMs: number;
}

/** Reaches a destination: judges it (`reachable`), and connects by Happy Eyeballs (RFC 8305). */
export function dial<Socket extends { destroy(): void }>(
  settings: DialSettings<Socket>,
  host: string,
  port: number,
  handler: DialHandler<Socket>,
): Dial {
  const race = new AddressRace(settings, port, handler);
  const judged = reachable(settings, host, port);
  if (judged instanceof Promise) void judged.then((outcome) => race.start(outcome));
  else race.start(judged);
  return race;
}

/** The worst failure says most about the destination: an answer is worth more than silence. */
const TELLING: readonly DialFailure[] = ['REFUSED', 'TIMEOUT', 'UNREACHABLE', 'INTERNAL'];

class AddressRace<Socket extends { destroy(): void }> implements Dial {
  readonly #settings: DialSettings<Socket>;
  readonly #port: number;
  #handler: DialHandler<Socket> | null;
  #addresses: readonly string[] = [];
  #next = 0;
  readonly #underWay: Socket[] = [];
  #failure: DialFailure | null = null;
  #headStart: NodeJS.Timeout | undefined;
  readonly #timeout: NodeJS.Timeout;

  constructor(settings: DialSettings<Socket>, port: number, handler: DialHandler<Socket>) {
    this.#settings = settings;
    this.#port = port;
    this.#handler = handler;
    this.#timeout = setTimeout(() => this.#fail('TIMEOUT'), settings.timeoutMs);
  }

  /** Connects to the addresses in their order. */
  start(judged: Reachable): void {
    if (this.#handler === null) return;
    if (!judged.ok) {
      this.#failSoon(judged.why);
      return;
    }
    this.#addresses = judged.addresses;
    this.#tryNext();
  }

  cancel(): void {
    this.#handler = null;
    clearTimeout(this.#timeout);
    clearTimeout(this.#headStart);
    for (const socket of this.#underWay) socket.destroy();
    this.#underWay.length = 0;
  }

  #tryNext(): void {
    clearTimeout(this.#headStart);
    const address = this.#addresses[this.#next++];
    if (address === undefined) return;
    let socket: Socket | null = null;
    socket = this.#settings.attempt(address, this.#port, (error) => {
      if (socket !== null) this.#attemptEnded(socket, error);
    });
    this.#underWay.push(socket);
    if (this.#next < this.#addresses.length)
      this.#headStart = setTimeout(() => this.#tryNext(), this.#settings.attemptDelayMs);
  }

  #attemptEnded(socket: Socket, error: NodeJS.ErrnoException | null): void {
    const at = this.#underWay.indexOf(socket);
    if (this.#handler === null || at < 0) return;
    this.#underWay.splice(at, 1);
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
    else if (this.#underWay.length === 0) this.#fail(this.#failure);
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
