/** Those who wait for an exit look again when something has changed. */
export class Changes {
  readonly #waiting = new Set<() => void>();

  /** An exit may have come within reach. */
  tell(): void {
    for (const goOn of [...this.#waiting]) goOn();
  }

  /** Resolves at the next change, or after so long. */
  within(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const goOn = () => {
        clearTimeout(timer);
        this.#waiting.delete(goOn);
        resolve();
      };
      const timer = setTimeout(goOn, ms);
      this.#waiting.add(goOn);
    });
  }
}
