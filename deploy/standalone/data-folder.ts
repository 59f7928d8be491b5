import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { signalProcess, startedAt } from './services/server-process.js';

/** Pids of this run's parts. */
const PROCESSES = 'processes';
/** Time that parts of a killed run get to end by themselves. */
const EARLIER_RUN_GRACE_MS = 20_000;

/** What the demo must remember between starts, since the database keeps only hashes. */
export interface DemoSecrets {
  buyer?: { id: string; username: string; password: string; token: string };
  provider?: { userId: string; deviceId: string; deviceKey: string };
  adminUserId?: string;
}

/** Secrets of this installation, drawn once. */
export interface Secrets {
  jwtSecret: string;
  botSecret: string;
  internalSecret: string;
  bootstrapSecret: string;
  demo: DemoSecrets;
}

/** The folder that holds everything the standalone system keeps. */
export class DataFolder {
  readonly path: string;
  readonly #lock: string;

  /** Creates the folder; throws when another standalone system is running in it. */
  constructor(path: string) {
    this.path = resolve(path);
    mkdirSync(this.path, { recursive: true });
    chmodSync(this.path, 0o755); // an embedded Postgres started by root runs as another user and must get in
    this.#lock = join(this.path, 'standalone.pid');
    const holder = existsSync(this.#lock) ? readFileSync(this.#lock, 'utf8') : '';
    const pid = Number(holder.split(' ')[0]);
    // The pid alone may be another process's by now: what began at the same time is the same.
    if (pid > 0 && pid !== process.pid && holder === lockOf(pid))
      throw new Error(
        `already running in ${this.path} (process ${pid}): stop it, or set TS_DATA_DIR to another folder`,
      );
    writeFileSync(this.#lock, lockOf(process.pid));
    this.removeReadyFile();
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** The secrets; those that are new are drawn and kept. */
  secrets(): Secrets {
    const file = this.file('secrets.json');
    const kept = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Partial<Secrets>) : {};
    const draw = () => randomBytes(32).toString('hex');
    const secrets: Secrets = {
      jwtSecret: draw(),
      botSecret: draw(),
      internalSecret: draw(),
      bootstrapSecret: draw(),
      demo: {},
      ...kept, // of an earlier version there may be fewer
    };
    this.saveSecrets(secrets);
    return secrets;
  }

  saveSecrets(secrets: Secrets): void {
    this.#writePrivate('secrets.json', secrets);
  }

  /** `standalone.json`: there while the system serves. */
  writeReadyFile(content: object): void {
    this.#writePrivate('standalone.json', content);
  }

  removeReadyFile(): void {
    rmSync(this.file('standalone.json'), { force: true });
  }

  /** Notes a process of this run, so that the next start can wait for it should this process be killed. */
  noteProcess(pid: number): void {
    appendFileSync(this.file(PROCESSES), `${lockOf(pid)}\n`);
  }

  /**
   * Waits for processes that a killed run left behind: they notice and end by themselves within seconds, and hold
   * ports and the meter journal until then. One that does not is killed. `onWait` is called once when there are any.
   */
  async untilEarlierRunEnded(onWait: () => void): Promise<void> {
    const file = this.file(PROCESSES);
    const noted = existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
    const living = () =>
      noted.map((line) => Number(line.split(' ')[0])).filter((pid) => noted.includes(lockOf(pid)));
    if (living().length > 0) onWait();
    const giveUpMs = performance.now() + EARLIER_RUN_GRACE_MS;
    while (living().length > 0) {
      if (performance.now() > giveUpMs) for (const pid of living()) signalProcess(pid, 'SIGKILL');
      await delay(50);
    }
    rmSync(file, { force: true });
  }

  /** Gives the folder free for the next start. */
  release(): void {
    this.removeReadyFile();
    rmSync(this.file(PROCESSES), { force: true });
    rmSync(this.#lock, { force: true });
  }

  /** Written whole or not at all, readable by the owner only. */
  #writePrivate(name: string, content: object): void {
    const temporary = this.file(`.${name}.new`);
    writeFileSync(temporary, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
    renameSync(temporary, this.file(name));
  }
}

/** Names a running process so that no later one is taken for it. */
export function lockOf(pid: number): string {
  return `${pid} ${startedAt(pid) ?? 'gone'}`;
}
