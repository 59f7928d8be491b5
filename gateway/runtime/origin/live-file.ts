import { type FSWatcher, watch } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Log } from '../logging.js';

/** How a text file becomes a value: either that, or what is wrong with it, one problem a line. */
export type Parse<T> = (text: string) => { ok: true; value: T } | { ok: false; problems: string[] };

/** How often the file's time is looked at where the system does not tell of changes (network folders), ms. */
const POLL_MS = 5_000;
/** Problems of a broken file that reach the log. */
const PROBLEMS_LOGGED = 20;

/**
 * A file that people edit while the process runs. A change is read within moments; a broken version is reported with
 * its line numbers and the last good one stays in force.
 */
export class LiveFile<T> {
  #value: T;
  #seen: string;
  #checking: Promise<void> | null = null;
  #watcher: FSWatcher | null = null;
  readonly #timer: NodeJS.Timeout;

  private constructor(
    readonly path: string,
    private readonly parse: Parse<T>,
    private readonly log: Log,
    first: { value: T; seen: string },
    pollMs: number,
  ) {
    this.#value = first.value;
    this.#seen = first.seen;
    this.#timer = setInterval(() => void this.check(), pollMs).unref();
    try {
      // The folder, not the file: editors write a new file and rename it over the old one.
      this.#watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
        if (name === null || name === basename(path)) void this.check();
      });
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch {
      this.#watcher = null; // no watches left on this machine: the poll finds changes
    }
  }

  /** Rejects when the file cannot be read or is broken: nothing good to fall back on yet. */
  static async open<T>(path: string, parse: Parse<T>, log: Log, pollMs = POLL_MS): Promise<LiveFile<T>> {
    const seen = await signature(path);
    const parsed = parse(await readFile(path, 'utf8'));
    if (!parsed.ok) throw new Error(`${path} is not usable:\n${parsed.problems.join('\n')}`);
    return new LiveFile(path, parse, log, { value: parsed.value, seen }, pollMs);
  }

  /** The last good version. */
  get value(): T {
    return this.#value;
  }

  /** Reads the file again if it changed; never rejects. */
  async check(): Promise<void> {
    while (this.#checking) await this.#checking; // the change may have come after that one looked
    this.#checking = this.#checkOnce();
    await this.#checking;
    this.#checking = null;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#watcher?.close();
  }

  async #checkOnce(): Promise<void> {
    try {
      const seen = await signature(this.path);
      if (seen === this.#seen) return;
      const parsed = this.parse(await readFile(this.path, 'utf8'));
      this.#seen = seen;
      if (parsed.ok) {
        this.#value = parsed.value;
        this.log.info({ path: this.path }, 'file_reloaded');
      } else {
        const problems = parsed.problems.slice(0, PROBLEMS_LOGGED);
        this.log.error({ path: this.path, problems }, 'file_broken_last_good_kept');
      }
    } catch (error) {
      if (this.#seen === 'gone') return;
      this.#seen = 'gone';
      this.log.error({ path: this.path, err: error }, 'file_unreadable_last_good_kept');
    }
  }
}

async function signature(path: string): Promise<string> {
  const { mtimeMs, size, ino } = await stat(path);
  return `${mtimeMs} ${size} ${ino}`;
}
