import { FRAME_HEADROOM } from './frame.js';

/** The datagrams of one tunnel that wait in its socket: how much room is left for more. */
export class DatagramBacklog {
  /** How often all that was ever written had gone to the operating system. */
  drainCount = 0;
  /** Headers included. */
  #bytes = 0;

  /** `bytesMax`: of all that wait, headers included; what would make them more is not taken. */
  constructor(private readonly bytesMax: number) {}

  /** Whether a datagram of so many bytes has room. */
  takes(bytes: number): boolean {
    return this.#bytes + bytes + FRAME_HEADROOM <= this.bytesMax;
  }

  /** One was written; `taken`: the operating system has all that was ever written. */
  wrote(bytes: number, taken: boolean): void {
    this.#bytes = taken ? 0 : this.#bytes + bytes + FRAME_HEADROOM;
  }

  /** Everything written has gone to the operating system. */
  drained(): void {
    this.#bytes = 0;
    this.drainCount++;
  }
}
