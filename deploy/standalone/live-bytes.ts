import type { WriteStream } from 'node:tty';

/** What the gateway's `/status` says of itself, as far as shown here. */
interface GatewayStatus {
  tunnels: number;
  streams: number;
  bytesUp: number;
  bytesDown: number;
}

const POLL_MS = 1_000;
/** When nobody watches, a line is written at most this often, and only when something moved. */
const PLAIN_LINE_MS = 5_000;

/** Shows the bytes as they flow: one line kept up to date for a person at a terminal, plain lines otherwise. */
export class LiveBytes {
  readonly #timer: NodeJS.Timeout;
  #last: GatewayStatus | null = null;
  #lastLineMs = 0;
  #shown = '';

  constructor(
    private readonly statusUrl: string,
    private readonly out: WriteStream,
  ) {
    this.#timer = setInterval(() => void this.#poll(), POLL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #poll(): Promise<void> {
    let now: GatewayStatus;
    try {
      now = (await (
        await fetch(this.statusUrl, { signal: AbortSignal.timeout(POLL_MS) })
      ).json()) as GatewayStatus;
    } catch {
      return; // the gateway is being started again: the next poll shows it
    }
    const last = this.#last ?? now;
    this.#last = now;
    const text =
      `devices ${now.tunnels}  streams ${now.streams}  ` +
      `up ${size(now.bytesUp)} (${size(Math.max(0, now.bytesUp - last.bytesUp))}/s)  ` +
      `down ${size(now.bytesDown)} (${size(Math.max(0, now.bytesDown - last.bytesDown))}/s)`;
    if (this.out.isTTY) {
      this.out.write(`\r\x1b[2K${text}`);
    } else if (text !== this.#shown && performance.now() - this.#lastLineMs >= PLAIN_LINE_MS) {
      this.#lastLineMs = performance.now();
      this.#shown = text;
      this.out.write(`${text}\n`);
    }
  }
}

/** Bytes for people: 1 kB = 1000 B. */
function size(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = -1;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[unit]}`;
}
