import { appendFileSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { createJournalFile, type JournalFile, openJournalFile, syncFolder } from './journal-file.js';
import { acquireLock, type JournalLock, type LockPatience } from './journal-lock.js';

/**
 * The disk under a journal, as narrow as the journal needs it, so that it runs unchanged on a disk that fails on
 * command or is none at all. Every call throws what the disk throws.
 */
export interface JournalDisk {
  /** Makes the folder of `path` unless it is there. */
  makeFolder(path: string): void;
  /** Takes the lock file `path`, as `acquireLock`. Rejects with JOURNAL_LOCKED when its holder lives. */
  lock(path: string, patience: LockPatience): Promise<JournalLock>;
  exists(path: string): boolean;
  /** The file exists whole and lasting afterwards, or not at all. Throws JOURNAL_NO_SPACE when the disk is full. */
  create(path: string, parts: Iterable<Buffer>): void;
  /** Opens an existing file for reading and writing. */
  open(path: string): JournalFile;
  /** Adds lines to a text file, made when there is none; they are lasting when it returns. */
  append(path: string, lines: Iterable<string>): void;
}

/** The file system. */
export const fileDisk: JournalDisk = {
  makeFolder: (path) => void mkdirSync(dirname(path), { recursive: true, mode: 0o700 }),
  lock: acquireLock,
  exists: existsSync,
  create: createJournalFile,
  open: (path) => openJournalFile(path),
  append(path, lines) {
    const fd = openSync(path, 'a', 0o600);
    try {
      for (const line of lines) appendFileSync(fd, `${line}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    syncFolder(path);
  },
};
