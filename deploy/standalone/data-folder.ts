import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { startedAt } from './services/server-process.js';

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

  /** The secrets, drawn at the first start. */
  secrets(): Secrets {
    const file = this.file('secrets.json');
    if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Secrets;
    const secrets: Secrets = {
      jwtSecret: randomBytes(32).toString('hex'),
      botSecret: randomBytes(32).toString('hex'),
      bootstrapSecret: randomBytes(32).toString('hex'),
      demo: {},
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

  /** Gives the folder free for the next start. */
  release(): void {
    this.removeReadyFile();
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
