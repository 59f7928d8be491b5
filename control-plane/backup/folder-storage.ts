import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BackupFailed, type BackupStorage } from './storage.js';

/** What a file system says that has no room (or no more of it for us). */
const NO_ROOM: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** Of files that are being written. */
const PART = '.part';

/** Backups in a folder of this machine, or of one that is mounted. Only the owner can read them. */
export class FolderStorage implements BackupStorage {
  readonly kind = 'folder';

  constructor(private readonly folder: string) {}

  async put(file: string, source: Readable, signal: AbortSignal): Promise<void> {
    const part = join(this.folder, file + PART);
    const handle = await this.#usable(async () => {
      await mkdir(this.folder, { recursive: true, mode: 0o700 });
      return open(part, 'wx', 0o600);
    }).catch((error: unknown) => {
      source.destroy();
      throw error;
    });
    try {
      const target = handle.createWriteStream({ flush: true });
      let full: Error | null = null;
      target.once('error', (error: NodeJS.ErrnoException) => {
        if (NO_ROOM.has(error.code)) full = error;
      });
      await pipeline(source, target, { signal }).catch((error: unknown) => {
        if (full === null) throw error;
        throw new BackupFailed('backup_no_space', full.message, { cause: error });
      });
      await this.#usable(async () => {
        await rename(part, join(this.folder, file));
        await this.#syncFolder();
      });
    } finally {
      await handle.close().catch(() => {}); // the stream may have closed it
      await rm(part, { force: true });
    }
  }

  async read(file: string): Promise<Readable> {
    const handle = await open(join(this.folder, file), 'r').catch((cause: NodeJS.ErrnoException) => {
      const code = cause.code === 'ENOENT' ? 'backup_not_found' : 'backup_storage_unusable';
      throw new BackupFailed(code, cause.message, { cause });
    });
    return handle.createReadStream();
  }

  async remove(file: string): Promise<void> {
    await this.#usable(() => rm(join(this.folder, file), { force: true }));
  }

  async list(): Promise<string[]> {
    // Made with the first file.
    const nothing = (error: NodeJS.ErrnoException): string[] => {
      if (error.code === 'ENOENT') return [];
      throw error;
    };
    return this.#usable(() => readdir(this.folder).catch(nothing));
  }

  async tidy(): Promise<void> {
    const files = await readdir(this.folder).catch(() => []); // made with the first file
    for (const file of files)
      if (file.startsWith('traffic-share-') && file.endsWith(PART)) await this.remove(file);
  }

  /** The new name survives a loss of power, too. */
  async #syncFolder(): Promise<void> {
    const folder = await open(this.folder, 'r');
    await folder.sync().catch(() => {}); // not every file system can
    await folder.close();
  }

  async #usable<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      const full = NO_ROOM.has((cause as NodeJS.ErrnoException).code);
      const code = full ? 'backup_no_space' : 'backup_storage_unusable';
      throw new BackupFailed(code, (cause as Error).message, { cause });
    }
  }
}
