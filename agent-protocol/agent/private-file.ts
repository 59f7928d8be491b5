import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Files of the agent are for its owner only. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** A lock of a process that lives, but is older than this, was left behind by another one with the same id. */
const LOCK_AGE_MS_MAX = 120_000;
const LOCK_POLL_MS = 50;

/** A file whose content is not what was written: its path, and nothing of the content. */
export class DamagedFile extends Error {}

/** The JSON in a file; null when there is none. Throws DamagedFile when it is not JSON. */
export async function readPrivate(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new DamagedFile(`${path} is damaged: it is not JSON`);
  }
}

/** Replaces a file (mode 0600, folder 0700) so that a crash at any moment leaves the old content or the new one. */
export async function writePrivate(path: string, value: unknown): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: FOLDER_MODE });
  const fresh = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    const file = await open(fresh, 'wx', FILE_MODE);
    try {
      await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { force: true });
    throw error;
  }
  // The rename is kept when the folder is; a file system that can not do that keeps it all the same, mostly
  const folder = await open(dirname(path), 'r').catch(() => null);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

/**
 * Runs `work` while no other process runs one with the same folder and name. A lock that its process left behind is
 * taken over. `work` must be done well within two minutes.
 */
export async function withLock<T>(folder: string, name: string, work: () => Promise<T>): Promise<T> {
  await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
  const path = join(folder, `${name}.lock`);
  const mark = `${process.pid} ${randomBytes(8).toString('hex')}`;
  while (!(await take(path, mark))) await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  try {
    return await work();
  } finally {
    if ((await content(path))?.mark === mark) await rm(path, { force: true });
  }
}

async function take(path: string, mark: string): Promise<boolean> {
  let file: FileHandle;
  try {
    file = await open(path, 'wx', FILE_MODE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    await removeLeftBehind(path);
    return false;
  }
  await file.writeFile(mark);
  await file.close();
  return true;
}

async function removeLeftBehind(path: string): Promise<void> {
  const found = await content(path);
  if (found === null) return;
  const pid = Number(found.mark.split(' ')[0]);
  // Empty: somebody is just about to write into it, or died before
  const old = Date.now() - found.writtenAtMs > LOCK_AGE_MS_MAX;
  if (!old && (found.mark === '' || isAlive(pid))) return;
  // Only one of those who see it gets it, and only if it still is the one that was seen
  const aside = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const taken = await content(aside);
  if (taken !== null && taken.mark !== found.mark) await rename(aside, path);
  else await rm(aside, { force: true });
}

async function content(path: string): Promise<{ mark: string; writtenAtMs: number } | null> {
  try {
    const file = await open(path, 'r');
    try {
      const { mtimeMs } = await file.stat();
      return { mark: (await file.readFile('utf8')).trim(), writtenAtMs: mtimeMs };
    } finally {
      await file.close();
    }
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
