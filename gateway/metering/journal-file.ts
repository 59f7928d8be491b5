import {
  closeSync,
  existsSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { type FileMap, mapFile } from './journal-map.js';

/** The file under the journal, as narrow as the journal needs it, so that tests can make it fail. */
export interface JournalFile {
  /** Writes `length` bytes of `buffer` from 0 at `position`. Throws on any error, a short write included. */
  write(buffer: Buffer, length: number, position: number): void;
  /** Reads up to `length` bytes at `position` into `buffer`; returns how many there were. */
  read(buffer: Buffer, length: number, position: number): number;
  sizeBytes(): number;
  truncate(sizeBytes: number): void;
  /** fdatasync: what was written before is on the disk when `done` is called without an error. Never before it returns. */
  sync(done: (error: Error | null) => void): void;
  /**
   * The first `sizeBytes` as memory that is the file, of which only what the file has may be touched; null where that
   * cannot be had. Whoever has it must not use it after `close`.
   */
  map?(sizeBytes: number): Uint32Array | null;
  close(): void;
}

/** Failures of the journal as a whole. Programs tell them apart by `code`. */
export class JournalError extends Error {
  constructor(
    /**
     * `JOURNAL_LOCKED`: a living process holds it. `JOURNAL_FOREIGN`: it belongs to another gateway id.
     * `JOURNAL_VERSION`: written by another version. `JOURNAL_DAMAGED`: not a journal, or no header copy is whole.
     * `JOURNAL_NO_SPACE`: the disk has no room for a new journal. `JOURNAL_SHORT_WRITE`: a write did not take all
     * bytes. `JOURNAL_SYNC`: the disk refused to keep what was written.
     */
    readonly code:
      | 'JOURNAL_LOCKED'
      | 'JOURNAL_FOREIGN'
      | 'JOURNAL_VERSION'
      | 'JOURNAL_DAMAGED'
      | 'JOURNAL_NO_SPACE'
      | 'JOURNAL_SHORT_WRITE'
      | 'JOURNAL_SYNC',
    message: string,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'JournalError';
  }
}

/** Whether an I/O error means "no room", as opposed to a disk that fails. */
export function isNoSpace(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG';
}

/** Opens an existing file for the journal; `mode` 'r' for inspection only. Throws what node:fs throws. */
export function openJournalFile(path: string, mode: 'r' | 'r+' = 'r+'): JournalFile {
  const fd = openSync(path, mode);
  let mapped: FileMap | null = null;
  return {
    write(buffer, length, position) {
      const written = writeSync(fd, buffer, 0, length, position);
      if (written !== length)
        throw new JournalError('JOURNAL_SHORT_WRITE', `wrote ${written} of ${length} bytes`);
    },
    read: (buffer, length, position) => readFully(fd, buffer, length, position),
    sizeBytes: () => fstatSync(fd).size,
    truncate: (sizeBytes) => ftruncateSync(fd, sizeBytes),
    sync: (done) => fdatasync(fd, done),
    map(sizeBytes) {
      mapped = mapFile(fd, path, sizeBytes);
      return mapped?.words ?? null;
    },
    close() {
      mapped?.unmap();
      closeSync(fd);
    },
  };
}

function readFully(fd: number, buffer: Buffer, length: number, position: number): number {
  let got = 0;
  while (got < length) {
    const n = readSync(fd, buffer, got, length - got, position + got);
    if (n === 0) break;
    got += n;
  }
  return got;
}

/**
 * Creates a journal file that either exists whole or not at all: written beside, flushed, then renamed. `parts` are
 * written one after the other; the zeros in them are really written, so that the room is taken now.
 * Throws JOURNAL_NO_SPACE when the disk is full.
 */
export function createJournalFile(path: string, parts: Iterable<Buffer>): void {
  const draft = `${path}.new`;
  let fd = -1;
  try {
    fd = openSync(draft, 'w', 0o600);
    for (const part of parts) {
      let at = 0;
      while (at < part.length) at += writeSync(fd, part, at, part.length - at);
    }
    fsyncSync(fd);
    closeSync(fd);
    fd = -1;
    renameSync(draft, path);
    syncFolder(path);
  } catch (error) {
    if (fd >= 0) closeSync(fd);
    if (existsSync(draft)) unlinkSync(draft);
    if (isNoSpace(error))
      throw new JournalError('JOURNAL_NO_SPACE', `no room on the disk for the meter journal ${path}`, error);
    throw error;
  }
}

/** Makes a rename or a new file in the folder of `path` last over a loss of the host. */
export function syncFolder(path: string): void {
  const fd = openSync(dirname(path), 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
