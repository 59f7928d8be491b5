/** Where progress goes: a terminal that a person watches, or anything else. */
export interface ProgressOutput {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

const BAR_WIDTH_MAX = 40;
/** Without a terminal one line for each so many percent. */
const LINE_EVERY_PERCENT = 10;

/**
 * How far long work has come: a bar that redraws itself when a person watches, plain lines else. `update` may be
 * called as often as one likes; `end` leaves the cursor on a line of its own.
 */
export class Progress {
  readonly #output: ProgressOutput;
  readonly #what: string;
  #shown = -1;

  constructor(output: ProgressOutput, what: string) {
    this.#output = output;
    this.#what = what;
  }

  update(done: number, total: number): void {
    const percent = total === 0 ? 100 : Math.min(100, Math.floor((done * 100) / total));
    if (this.#output.isTTY) {
      if (percent === this.#shown) return;
      this.#shown = percent;
      const width = Math.min(BAR_WIDTH_MAX, Math.max(10, (this.#output.columns ?? 80) - 40));
      const filled = Math.round((percent * width) / 100);
      const bar = '#'.repeat(filled) + '.'.repeat(width - filled);
      this.#output.write(`\r[${bar}] ${String(percent).padStart(3)} %  ${done} of ${total} ${this.#what}`);
      return;
    }
    if (this.#shown >= 0 && percent < 100 && percent - this.#shown < LINE_EVERY_PERCENT) return;
    if (percent === this.#shown) return;
    this.#shown = percent;
    this.#output.write(`${done} of ${total} ${this.#what}\n`);
  }

  end(): void {
    if (this.#output.isTTY && this.#shown >= 0) this.#output.write('\n');
  }
}
