/** What an `io` returns when it cannot be done yet (a row lock is held by another): the thread waits and tries again. */
export const BLOCKED: unique symbol = Symbol('blocked');

/** A promise that nobody keeps. Not one for all: that would keep whoever waits for it. */
const NEVER = () => new Promise<never>(() => {});

/**
 * One line of execution of a simulated process. The code in it is the project's own and runs as it is written; each
 * call to the world outside (a Redis command, a statement) is one step, and the history decides when it happens and
 * what happens to others before it. Only microtasks: no timers, no I/O.
 */
export class Thread {
  /** For the log of a history that failed. */
  readonly name: string;
  /** Killed: nothing of it happens any more, and what it waits for never comes. */
  dead = false;
  /** Called at the kill, for what the world knows of it (row locks). */
  onKilled: (() => void) | null = null;
  #budget = 0;
  /** Usually one; several where the code waits for all of them. */
  #waiting: Array<() => boolean> = [];
  #running: Promise<void> | null = null;
  #blocked = false;
  #wake: (() => void) | null = null;
  readonly #ended: (error: unknown) => void;

  /** `ended` is told how each thing that was started ended: null, or what it rejected with. */
  constructor(name: string, ended: (error: unknown) => void) {
    this.name = name;
    this.#ended = ended;
  }

  /** Something was started and has not ended. */
  get busy(): boolean {
    return this.#running !== null;
  }
  /** Its latest step waits for another thread. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** The world outside does `act` for this thread when its turn comes. A throw is a rejection. */
  io<T>(act: () => T | typeof BLOCKED): Promise<T> {
    if (this.dead) return NEVER();
    let blocked = false;
    if (this.#budget > 0) {
      this.#budget--;
      let result: T | typeof BLOCKED;
      try {
        result = act();
      } catch (error) {
        return Promise.reject(error as Error);
      }
      if (this.dead) return NEVER(); // the act was the kill itself
      if (result !== BLOCKED) return Promise.resolve(result);
      blocked = true;
    }
    return new Promise<T>((resolve, reject) => {
      this.#blocked ||= blocked;
      this.#budget = 0;
      this.#waiting.push(() => {
        let result: T | typeof BLOCKED;
        try {
          result = act();
        } catch (error) {
          reject(error as Error);
          return true;
        }
        if (this.dead) return true;
        if (result === BLOCKED) return false;
        resolve(result);
        return true;
      });
      this.#arrived();
    });
  }

  /**
   * Starts `body` and lets it take at most `steps` steps. Resolves when it has taken them, ended, or cannot go on.
   */
  async start(body: () => Promise<unknown>, steps = Number.POSITIVE_INFINITY): Promise<void> {
    if (this.#running !== null) throw new Error(`${this.name} runs already`);
    this.#budget = steps;
    this.#blocked = false;
    const arrival = this.#arrival();
    const over = (error: unknown) => {
      this.#running = null;
      this.#ended(error);
      this.#arrived();
    };
    this.#running = body().then(() => over(null), over);
    await arrival;
  }

  /** Lets it take up to so many further steps. */
  async advance(steps = Number.POSITIVE_INFINITY): Promise<void> {
    if (this.#running === null || this.dead) return;
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    const arrival = this.#arrival();
    this.#waiting = [];
    this.#budget = Math.max(0, steps - waiting.length);
    // All that wait take their step: the code goes on when the last of them has its answer.
    const blocked = waiting.filter((attempt) => !attempt());
    this.#blocked = blocked.length > 0;
    this.#waiting.push(...blocked);
    if (!this.#blocked) await arrival;
    else this.#wake = null;
  }

  /** kill -9: from now on nothing of it happens. */
  kill(): void {
    if (this.dead) return;
    this.dead = true;
    this.#waiting = [];
    this.#running = null;
    this.onKilled?.();
    this.#arrived();
  }

  #arrival(): Promise<void> {
    return new Promise((wake) => {
      this.#wake = wake;
    });
  }
  #arrived(): void {
    this.#wake?.();
    this.#wake = null;
  }
}
