import type { RawSink, RawSocket } from './raw-socket.js';

/** How often the silent side of a join is asked whether its peer has reset it, ms. */
const PROBE_INTERVAL_MS = 500;

/**
 * Carries bytes between two sockets, both ways and as they are, until both have ended; takes both over. An end is
 * passed on as an end, anything else as RST, within PROBE_INTERVAL_MS also while the other side takes nothing. Reads
 * no more than the other side takes: one read buffer waits in each direction.
 */
export function joinSockets(a: RawSocket, b: RawSocket): void {
  const probing = setInterval(() => {
    a.probe();
    b.probe();
  }, PROBE_INTERVAL_MS);
  probing.unref();
  const over = () => clearInterval(probing);
  a.setSink(new Side(a, b, over));
  b.setSink(new Side(b, a, over));
  a.resume();
  b.resume();
}

/** What one of two joined sockets reads. */
class Side implements RawSink {
  constructor(
    private readonly from: RawSocket,
    private readonly to: RawSocket,
    private readonly onOver: () => void,
  ) {}

  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    const mayKeep = headroomBytes > 0;
    const bytes = buffer.subarray(start, end);
    if (this.to.write(mayKeep ? bytes : Buffer.from(bytes))) return false;
    this.from.pause();
    return mayKeep;
  }

  /** What `from` was given has gone: whoever sends it may go on. */
  onDrain(): void {
    this.to.resume();
  }

  onEnd(): void {
    this.to.end();
  }

  onClose(error: Error | null): void {
    this.onOver();
    if (this.to.closed) return;
    if (error === null && this.from.ended) this.to.end();
    else this.to.reset();
  }
}
