import type { Accepted } from '../../agent-protocol/raw-server.js';

export interface WaitingRoomDeps {
  /**
   * Time that a connection may wait until it is served, ms; at it, with dozens waiting, the door is closed until most of
   * them are served.
   */
  waitMsMax: number;
  /** Connections that may wait, at least 1; the same at them. */
  waitingMax: number;
  /** Monotonic, ms. */
  nowMs: () => number;
  serve: (accepted: Accepted) => void;
  /** Whoever comes from now on is refused. */
  closeDoor: () => void;
  openDoor: () => void;
}

interface Waiting {
  accepted: Accepted;
  sinceMs: number;
}

/** Connections begun in one turn of the event loop at most, so that those under way have their turn as well. */
const SERVED_A_TURN = 4;
/** Above it, ms, a turn had other work than to accept, as with bulk traffic: nobody is kept waiting after it. */
const LONG_TURN_MS = 0.3;
/** Fewer than these are served at once: that they waited was a pause of the process or the machine. */
const WAITING_MIN = 64;
/** Those who were served are kept until they are so many, or nobody waits. */
const FORGET_AFTER = 1_024;
/** Of those who waited when the door was closed, the share with whom it is opened again. */
const OPEN_AGAIN_AT = 0.25;

/**
 * Where connections are between being accepted and being read. libuv accepts one in each turn of the event loop, beside
 * all other work of that turn; so in a process that gets more than it can serve they would wait with the operating
 * system, unseen, until their clients give up. Here, while one comes in every turn, and turns are short, they are only
 * accepted, which takes a tenth of the time that serving takes, and served when none came. When they have to wait for too
 * long the door is closed: the operating system refuses further clients at once, at no cost to the process, which has
 * work enough meanwhile.
 */
export class WaitingRoom {
  readonly #deps: WaitingRoomDeps;
  #waiting: Waiting[] = [];
  /** Those before it are served. */
  #next = 0;
  #cameThisTurn = false;
  #cameLastTurn = false;
  /** The door is closed until no more than so many wait; null: it is open. */
  #openAt: number | null = null;
  #turning = false;
  #turnedAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: WaitingRoomDeps) {
    this.#deps = deps;
  }

  get count(): number {
    return this.#waiting.length - this.#next;
  }

  enter(accepted: Accepted): void {
    this.#waiting.push({ accepted, sinceMs: this.#deps.nowMs() });
    this.#cameThisTurn = true;
    if (!this.#turning) this.#turnSoon();
  }

  /** Serves all who wait, now. */
  empty(): void {
    while (this.count > 0) this.#serveNext();
  }

  #turnSoon(): void {
    this.#turning = true;
    setImmediate(() => this.#turn());
  }

  /** After what the operating system had to tell in a turn. */
  #turn(): void {
    this.#turning = false;
    const nowMs = this.#deps.nowMs();
    const wasShort = nowMs - this.#turnedAtMs < LONG_TURN_MS;
    this.#turnedAtMs = nowMs;
    const moreCome = wasShort && this.#cameThisTurn && this.#cameLastTurn;
    this.#cameLastTurn = this.#cameThisTurn;
    this.#cameThisTurn = false;
    if (this.#openAt === null && this.#isFull(nowMs)) {
      this.#openAt = this.count * OPEN_AGAIN_AT;
      this.#deps.closeDoor();
    }
    if (!moreCome || this.#openAt !== null)
      for (let served = 0; served < SERVED_A_TURN && this.count > 0; served++) this.#serveNext();
    if (this.#openAt !== null && this.count <= this.#openAt) {
      this.#openAt = null;
      this.#deps.openDoor();
    }
    if (this.count === 0 || this.#next >= FORGET_AFTER) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
    // One more when the last was served: whether one comes in the turn after it.
    if (this.count > 0 || this.#cameLastTurn) this.#turnSoon();
  }

  #isFull(nowMs: number): boolean {
    const first = this.#waiting[this.#next];
    if (first === undefined) return false;
    const { waitMsMax, waitingMax } = this.#deps;
    if (this.count >= waitingMax) return true;
    return this.count >= WAITING_MIN && nowMs - first.sinceMs >= waitMsMax;
  }

  #serveNext(): void {
    const { accepted } = this.#waiting[this.#next] as Waiting;
    this.#next++;
    this.#deps.serve(accepted);
  }
}
