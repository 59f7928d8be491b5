/** A line with a rate and a delay in front of a TCP port, in a process of its own. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { Line } from '../line.js';
import type { LineCalls } from '../protocol.js';
import { serveCalls } from './serve-calls.js';

/** What has arrived is passed on this often. */
const TICK_MS = 1;

const directions = new Set<Direction>();
/** Of all connections, Mbit/s. */
let rate = 1_000;
let ticking: NodeJS.Timeout | null = null;

/** One way of a connection. The end of its bytes is passed on behind them, a break at once. */
class Direction {
  readonly line: Line;
  readonly #from: Socket;
  readonly #to: Socket;
  #ended = false;

  constructor(from: Socket, to: Socket, line: Line) {
    this.line = line;
    this.#from = from;
    this.#to = to;
    directions.add(this);
    from.on('data', (bytes) => {
      line.put(bytes, performance.now());
      if (!line.takesMore) from.pause();
      ticking ??= setInterval(tick, TICK_MS);
    });
    from.on('end', () => {
      this.#ended = true;
      ticking ??= setInterval(tick, TICK_MS);
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      if (!this.#ended) to.destroy();
    });
    to.on('close', () => {
      directions.delete(this);
      if (!to.writableFinished) from.destroy();
    });
  }

  /** Whether there is more to pass on. */
  pass(nowMs: number): boolean {
    if (this.#to.writableLength > 0) return true; // its reader is slower than the line
    this.#to.cork();
    for (let bytes = this.line.take(nowMs); bytes !== null; bytes = this.line.take(nowMs))
      this.#to.write(bytes);
    this.#to.uncork();
    if (this.#from.isPaused() && this.line.takesMore) this.#from.resume();
    if (this.line.heldBytes > 0) return true;
    if (this.#ended) this.#to.end();
    return false;
  }
}

function tick(): void {
  const nowMs = performance.now();
  let more = false;
  for (const direction of directions) more = direction.pass(nowMs) || more;
  if (more || ticking === null) return;
  clearInterval(ticking);
  ticking = null;
}

const calls: LineCalls = {
  async listen(to, delayMs) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
      const far = connect({ ...to, allowHalfOpen: true, noDelay: true });
      for (const [from, into] of [
        [near, far],
        [far, near],
      ] as const)
        new Direction(from, into, new Line(rate, delayMs));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
  },
  async setRate(megabitsPerSecond) {
    rate = megabitsPerSecond;
    for (const { line } of directions) line.setRate(megabitsPerSecond);
  },
};
serveCalls({ ...calls });
