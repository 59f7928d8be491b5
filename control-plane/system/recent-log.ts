/** One event of the log, as it was written. */
export interface LogEvent {
  time: string;
  level: 'debug' | 'info' | 'warn' | 'error';
  event: string;
  fields: Record<string, unknown>;
}

/** pino's numbers. */
const LEVELS = { debug: 20, info: 30, warn: 40, error: 50 } as const;
/** Memory of all lines together, in UTF-16 units of 2 bytes; the oldest go first. */
const CHARACTERS_MAX = 4 * 1024 * 1024;
/** A longer line is not kept. */
const LINE_CHARACTERS_MAX = 16 * 1024;

/**
 * The last lines of the process's log, in memory. It is fed what the logger writes, behind its redaction, so what is
 * secret there is secret here.
 */
export class RecentLog {
  readonly #linesMax: number;
  /** A ring: `#next` is written next, and is the oldest once the ring is full. */
  readonly #lines: string[] = [];
  #next = 0;
  #characters = 0;

  constructor(linesMax: number) {
    this.#linesMax = linesMax;
  }

  /** Costs no parsing: lines are read when somebody asks. */
  push(line: string): void {
    if (this.#linesMax === 0 || line.length > LINE_CHARACTERS_MAX) return;
    this.#characters += line.length - (this.#lines[this.#next]?.length ?? 0);
    this.#lines[this.#next] = line;
    this.#next = (this.#next + 1) % this.#linesMax;
    // Emptied lines stay in their places, so that the ring needs no moving.
    for (
      let i = this.#next % this.#lines.length;
      this.#characters > CHARACTERS_MAX;
      i = (i + 1) % this.#lines.length
    ) {
      this.#characters -= this.#lines[i]?.length ?? 0;
      this.#lines[i] = '';
    }
  }

  /**
   * Latest first: events of at least the level whose line has all words of `query` in it, whatever their case. At most
   * `limit`.
   */
  search({ level, query, limit }: { level: LogEvent['level']; query: string; limit: number }): LogEvent[] {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found: LogEvent[] = [];
    const count = this.#lines.length;
    for (let back = 1; back <= count && found.length < limit; back++) {
      const line = this.#lines[(this.#next - back + 2 * count) % count] as string;
      if (line === '') continue;
      const lower = words.length === 0 ? '' : line.toLowerCase();
      if (!words.every((word) => lower.includes(word))) continue;
      const event = readEvent(line);
      if (event !== null && LEVELS[event.level] >= LEVELS[level]) found.push(event);
    }
    return found;
  }
}

function readEvent(line: string): LogEvent | null {
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(line);
  } catch {
    return null;
  }
  const { time, level, msg, name: _name, pid: _pid, ...fields } = parsed;
  const named = (Object.keys(LEVELS) as LogEvent['level'][]).find((key) => LEVELS[key] === level);
  if (named === undefined || typeof time !== 'string') return null;
  return { time, level: named, event: typeof msg === 'string' ? msg : '', fields };
}
