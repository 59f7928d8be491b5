import { readFileSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgentLog } from './log.js';

/** What the agent must not forget over a restart. Bytes are payload, up and down together unless named. */
export interface Usage {
  /** Local calendar day `YYYY-MM-DD` that `dayBytes` belongs to. */
  day: string;
  dayBytes: number;
  /** Local calendar month `YYYY-MM` that `monthBytes` belongs to. */
  month: string;
  monthBytes: number;
  /** The traffic session that the two below belong to. */
  sessionId: string | null;
  /** Buyer → destination, in that session. */
  sessionBytesUp: number;
  /** Destination → buyer, in that session. */
  sessionBytesDown: number;
}

export function emptyUsage(): Usage {
  return {
    day: '',
    dayBytes: 0,
    month: '',
    monthBytes: 0,
    sessionId: null,
    sessionBytesUp: 0,
    sessionBytesDown: 0,
  };
}

const FILE_NAME = 'usage.json';

/**
 * Keeps usage in `<stateDir>/usage.json` (mode 0600), replaced by rename so that a crash leaves the old or the new
 * one. Without a folder it keeps nothing.
 */
export class UsageFile {
  readonly #path: string | null;
  readonly #folder: string | null;
  readonly #log: AgentLog;
  #written = '';
  #writing: Promise<void> = Promise.resolve();

  constructor(stateDir: string | null, log: AgentLog) {
    this.#folder = stateDir;
    this.#path = stateDir === null ? null : join(stateDir, FILE_NAME);
    this.#log = log;
  }

  /** What was saved; zero when there is nothing, or nothing readable (then it says so in the log). */
  load(): Usage {
    const usage = emptyUsage();
    if (this.#path === null) return usage;
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#complain('usage not readable', error);
      return usage;
    }
    const saved = parseUsage(text);
    if (saved === null) {
      this.#log('error', 'usage file is damaged, the caps of this day and month start again', {
        path: this.#path,
      });
      return usage;
    }
    this.#written = JSON.stringify(saved);
    return saved;
  }

  /** Saves when something changed since last time. Never rejects: a full disk must not stop the agent. */
  save(usage: Usage): Promise<void> {
    const text = JSON.stringify(usage);
    if (this.#path === null || text === this.#written) return this.#writing;
    this.#written = text;
    this.#writing = this.#writing.then(() => this.#replace(this.#path as string, text));
    return this.#writing;
  }

  async #replace(path: string, text: string): Promise<void> {
    try {
      await mkdir(this.#folder as string, { recursive: true, mode: 0o700 });
      await writeFile(`${path}.new`, `${text}\n`, { mode: 0o600 });
      await rename(`${path}.new`, path);
    } catch (error) {
      this.#written = '';
      this.#complain('usage not saved', error);
    }
  }

  #complain(event: string, error: unknown): void {
    this.#log('warn', event, { path: this.#path, code: (error as NodeJS.ErrnoException).code });
  }
}

function parseUsage(text: string): Usage | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const usage = emptyUsage();
  const fields = value as Record<string, unknown>;
  const bytes = (name: string) => {
    const n = fields[name];
    return typeof n === 'number' && Number.isSafeInteger(n) && n >= 0 ? n : null;
  };
  const { day, month, sessionId } = fields;
  const [dayBytes, monthBytes] = [bytes('dayBytes'), bytes('monthBytes')];
  const [sessionBytesUp, sessionBytesDown] = [bytes('sessionBytesUp'), bytes('sessionBytesDown')];
  if (typeof day !== 'string' || typeof month !== 'string' || dayBytes === null || monthBytes === null)
    return null;
  if (sessionBytesUp === null || sessionBytesDown === null) return null;
  return Object.assign(usage, {
    day,
    month,
    dayBytes,
    monthBytes,
    sessionId: typeof sessionId === 'string' ? sessionId : null,
    sessionBytesUp,
    sessionBytesDown,
  });
}
