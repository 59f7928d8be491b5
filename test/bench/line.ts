/** 1 Mbit/s in bytes a millisecond. */
const MEGABIT = 125;
/** The queue in front of the line, as time that the line needs for it: some ticks of a timer. */
const QUEUE_MS = 5;

/** One direction of a line: what goes in comes out at the line's rate and after its delay, in order. */
export class Line {
  /** Bytes a millisecond. */
  #rate = 0;
  readonly #delayMs: number;
  /** What is on its way, oldest first, each with the time at which its first byte went onto the line. */
  readonly #pieces: { bytes: Buffer; beganMs: number }[] = [];
  /** Bytes of the first piece that came out. */
  #taken = 0;
  #busyUntilMs = 0;
  #heldBytes = 0;

  /** `delayMs` is that of one way. */
  constructor(megabitsPerSecond: number, delayMs: number) {
    this.setRate(megabitsPerSecond);
    this.#delayMs = delayMs;
  }

  /** May be changed at any time; what is on its way then comes at the new rate, too. */
  setRate(megabitsPerSecond: number): void {
    this.#rate = megabitsPerSecond * MEGABIT;
  }

  /** Bytes that went in and have not come out. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Whether more may go in: at most what is under way on a busy line, and a queue of QUEUE_MS in front of it. */
  get takesMore(): boolean {
    return this.#heldBytes < this.#rate * (this.#delayMs + QUEUE_MS);
  }

  /** The bytes are kept as they are, not copied. */
  put(bytes: Buffer, nowMs: number): void {
    const beganMs = Math.max(nowMs, this.#busyUntilMs);
    this.#busyUntilMs = beganMs + bytes.length / this.#rate;
    this.#heldBytes += bytes.length;
    this.#pieces.push({ bytes, beganMs });
  }

  /** The next bytes that have arrived by now; null when there are none. To be called until it says null. */
  take(nowMs: number): Buffer | null {
    const first = this.#pieces[0];
    if (first === undefined) return null;
    const arrived = Math.floor((nowMs - this.#delayMs - first.beganMs) * this.#rate);
    const end = Math.min(first.bytes.length, arrived);
    if (end <= this.#taken) return null;
    const bytes = first.bytes.subarray(this.#taken, end);
    this.#taken = end;
    this.#heldBytes -= bytes.length;
    if (end === first.bytes.length) {
      this.#pieces.shift();
      this.#taken = 0;
    }
    return bytes;
  }
}
