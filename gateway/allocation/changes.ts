/** Those who wait for an exit look again when something has changed: one promise for all of them. */
export class Changes {
  #next: { promise: Promise<void>; tell: () => void } | null = null;

  /** An exit may have come within reach. */
  tell(): void {
    this.#next?.tell();
    this.#next = null;
  }

  /** Resolves at the next change, or after so long. */
  async within(ms: number): Promise<void> {
    if (this.#next === null) {
      let tell = () => {};
      const promise = new Promise<void>((resolve) => {
        tell = resolve;
      });
      this.#next = { promise, tell };
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([this.#next.promise, late]);
    clearTimeout(timer);
  }
}
