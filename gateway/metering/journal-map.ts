import { statfsSync } from 'node:fs';
import { createRequire } from 'node:module';
import type Koffi from 'koffi';

/** Memory that is the file: what is stored there survives a kill -9, as if it had been written. */
export interface FileMap {
  /** The file in words of 32 bits. */
  readonly words: Uint32Array;
  /** Nothing may touch `words` afterwards: the process would be ended by a signal. */
  unmap(): void;
}

/**
 * File systems that keep a page where it is when it is stored to again. On others (btrfs, ZFS, NFS) a store may need
 * room that a full disk does not have, and the process would be ended by SIGBUS instead of being told ENOSPC.
 * statfs(2), f_type.
 */
const OVERWRITING_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // XFS
  0x01021994, // tmpfs
]);

/** mmap(2); the same on every Linux. */
const PROT_READ_WRITE = 1 | 2;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

interface Libc {
  koffi: typeof Koffi;
  mmap(at: null, length: number, prot: number, flags: number, fd: number, offset: number): unknown;
  munmap(at: unknown, length: number): number;
}

let libc: Libc | null | undefined;

/** Asked for once; null: not Linux, or koffi has nothing for this machine. */
function loadLibc(): Libc | null {
  if (process.platform !== 'linux') return null;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    const c = koffi.load(null);
    return {
      koffi,
      mmap: c.func('void *mmap(void *at, size_t length, int prot, int flags, int fd, int64_t offset)'),
      munmap: c.func('int munmap(void *at, size_t length)'),
    };
  } catch {
    return null;
  }
}

/**
 * Maps the first `sizeBytes` of an open file, of which only what the file has may be touched: it may be mapped larger
 * than it is, and grow under the map. null where that cannot be had or would not be sound; then write(2) does the same
 * for some 2 µs a time instead of 0.03.
 */
export function mapFile(fd: number, path: string, sizeBytes: number): FileMap | null {
  libc ??= loadLibc();
  if (libc === null || !OVERWRITING_FILE_SYSTEMS.has(statfsSync(path).type)) return null;
  const { koffi, mmap, munmap } = libc;
  const at = mmap(null, sizeBytes, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  if (at === null || koffi.address(at) === MAP_FAILED) return null;
  return {
    words: new Uint32Array(koffi.view(at, sizeBytes)),
    unmap: () => void munmap(at, sizeBytes),
  };
}
