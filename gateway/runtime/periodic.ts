/** What a job that is run again and again needs. */
export interface PeriodicOptions {
  /** One round. */
  run: () => Promise<unknown>;
  /** Pause between two beginnings, ms; a round that takes longer delays the next. */
  intervalMs: number;
  /** A round failed; the next one comes all the same. */
  onError: (error: unknown) => void;
}

/** Runs a job at intervals, one round at a time. Does not keep the process alive. */
export class Periodic {
  readonly #options: PeriodicOptions;
  #timer: NodeJS.Timeout | null = null;
  #round: Promise<unknown> = Promise.resolve();

  constructor(options: PeriodicOptions) {
    this.#options = options;
  }

  start(): void {
    const { run, intervalMs, onError } = this.#options;
    this.#timer ??= setInterval(() => {
      this.#round = this.#round.then(run).catch(onError);
    }, intervalMs).unref();
  }

  /** Ends it; resolves when the round under way is over. */
  async stop(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    await this.#round;
  }
}
