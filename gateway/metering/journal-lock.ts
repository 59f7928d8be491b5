import { randomBytes } from 'node:crypto';
import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  utimes,
  writeSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { JournalError } from './journal-file.js';

/** A held lock. */
export interface JournalLock {
  /** Sign of life for those who cannot see our process; false when the lock is not ours any more. */
  heartbeat(): Promise<boolean>;
  release(): void;
}

/** Who holds a lock, as written in the lock file. */
interface LockOwner {
  pid: number;
  /** Start of the process in ticks since boot (Linux), '' where unknown: pids come back, pid + start do not. */
  start: string;
  /** Host name and boot id: pids of another machine, container or boot mean nothing here. */
  host: string;
  nonce: string;
}

/** How long others are waited for, ms. */
export interface LockPatience {
  /** For a sign of life of one of another host or container. */
  watchMs: number;
  /** For a living process of this host to end: the one before may still be at it. 0: not at all. */
  waitMs: number;
  /** Told when one is waited for, which is said in words. */
  onWait: (holder: string) => void;
}

/** Between two looks at a lock whose holder is waited for, ms. */
const LOOK_INTERVAL_MS = 100;

/**
 * Takes the lock file `path`. A lock of a process that is gone is taken over, also one of another host or container that
 * shows no heartbeat for `watchMs`. Throws JOURNAL_LOCKED when its holder lives, on this host after `waitMs`.
 */
export async function acquireLock(
  path: string,
  { watchMs, waitMs, onWait }: LockPatience,
): Promise<JournalLock> {
  const owner: LockOwner = {
    pid: process.pid,
    start: processStart(process.pid) ?? '',
    host: hostIdentity(),
    nonce: randomBytes(8).toString('hex'),
  };
  const text = JSON.stringify(owner);
  const waitUntil = performance.now() + waitMs;
  for (let attempt = 0; attempt < 10; attempt++) {
    if (createExclusively(path, text, owner.nonce)) return new FileLock(path, text);
    const held = readOrNull(path);
    if (held === null) continue;
    let lives = await isAlive(path, held, owner.host, watchMs);
    if (lives && isOfHost(held, owner.host) && performance.now() < waitUntil) {
      onWait(describe(held));
      while (lives && readOrNull(path) === held && performance.now() < waitUntil) {
        await sleep(LOOK_INTERVAL_MS);
        lives = await isAlive(path, held, owner.host, watchMs);
      }
    }
    if (readOrNull(path) !== held) continue;
    if (lives)
      throw new JournalError(
        'JOURNAL_LOCKED',
        `the meter journal is in use: ${path} names ${describe(held)}`,
      );
    setAside(path, held, owner.nonce);
  }
  throw new JournalError('JOURNAL_LOCKED', `the lock ${path} keeps changing hands`);
}

class FileLock implements JournalLock {
  readonly #path: string;
  readonly #text: string;
  constructor(path: string, text: string) {
    this.#path = path;
    this.#text = text;
  }
  async heartbeat(): Promise<boolean> {
    const text = await readFile(this.#path, 'utf8').catch(() => '');
    if (text !== this.#text) return false;
    const now = new Date();
    // A failed touch is not a lost lock: the next heartbeat tries again.
    await new Promise<void>((done) => utimes(this.#path, now, now, () => done()));
    return true;
  }
  release(): void {
    if (readOrNull(this.#path) === this.#text) unlinkSync(this.#path);
  }
}

/** The lock file appears with its content or not at all: written beside, then linked, which never replaces. */
function createExclusively(path: string, text: string, nonce: string): boolean {
  const draft = `${path}.${nonce}`;
  const fd = openSync(draft, 'w', 0o600);
  try {
    writeSync(fd, text);
  } finally {
    closeSync(fd);
  }
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === 'EEXIST') return false;
    throw error;
  } finally {
    unlinkSync(draft);
  }
}

/**
 * Takes a dead lock out of the way. Two starters may judge the same lock dead: the rename gives it to one of them,
 * and who has renamed a lock that is not the one it judged puts it back.
 */
function setAside(path: string, judged: string, nonce: string): void {
  const aside = `${path}.dead-${nonce}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw error;
  }
  if (readOrNull(aside) !== judged) {
    try {
      linkSync(aside, path);
    } catch (error) {
      // A third starter holds it by now; the one whose lock we moved notices at its next heartbeat and stops.
      if ((error as { code?: string }).code !== 'EEXIST') throw error;
    }
  }
  unlinkSync(aside);
}

async function isAlive(path: string, text: string, ourHost: string, watchMs: number): Promise<boolean> {
  const owner = parseOwner(text);
  if (owner !== null && isOfHost(text, ourHost)) {
    const start = processStart(owner.pid);
    if (start !== null) return start === owner.start;
    if (process.platform === 'linux') return false;
    return pidExists(owner.pid);
  }
  const before = touchedAt(path);
  const end = performance.now() + watchMs;
  while (performance.now() < end) {
    await sleep(Math.min(100, watchMs));
    if (touchedAt(path) !== before || readOrNull(path) !== text) return true;
  }
  return false;
}

/** Whether it names a process of this host. */
function isOfHost(text: string, ourHost: string): boolean {
  return parseOwner(text)?.host === ourHost;
}

function pidExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
}

/** Start time of a living process from /proc (proc(5), field 22); null when there is none or no /proc. */
function processStart(pid: number): string | null {
  const stat = readOrNull(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The name in parentheses may hold blanks and parentheses; fields are counted from behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  if (state === 'Z' || state === 'X') return null; // dead, waiting for its parent to notice
  return fields[19] ?? null;
}

function hostIdentity(): string {
  return `${hostname()}/${readOrNull('/proc/sys/kernel/random/boot_id')?.trim() ?? ''}`;
}

function parseOwner(text: string): LockOwner | null {
  try {
    const value = JSON.parse(text) as Partial<LockOwner> | null;
    return typeof value?.pid === 'number' && typeof value.host === 'string' ? (value as LockOwner) : null;
  } catch {
    return null;
  }
}

function describe(text: string): string {
  const owner = parseOwner(text);
  return owner === null ? 'an unknown process' : `process ${owner.pid} on ${owner.host.split('/')[0]}`;
}

function touchedAt(path: string): number {
  try {
    return statSync(path).mtimeMs;
  } catch {
    return -1;
  }
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
