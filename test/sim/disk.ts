import type { JournalDisk } from '../../gateway/metering/journal-disk.js';
import { JournalError, type JournalFile } from '../../gateway/metering/journal-file.js';
import type { JournalLock } from '../../gateway/metering/journal-lock.js';
import type { Random } from './random.js';

/** What an injected fault throws, so that a history can tell it from a bug. */
export class SimulatedFault extends Error {
  readonly code: string;
  private constructor(code: string) {
    super(`simulated: ${code}`);
    this.code = code;
  }

  static readonly #made = new Map<string, SimulatedFault>();
  /** The same one for a code every time: millions are thrown, and nobody reads where. */
  static of(code: string): SimulatedFault {
    let fault = SimulatedFault.#made.get(code);
    if (fault === undefined) {
      fault = new SimulatedFault(code);
      SimulatedFault.#made.set(code, fault);
    }
    return fault;
  }
}

interface StoredFile {
  /** What any process reads: a kill -9 keeps it. */
  bytes: Buffer;
  sizeBytes: number;
  /** What is known to be on the disk: all that a loss of the host keeps for certain. */
  lasting: Buffer;
  /** Places written since the last sync, as position and length in turn. */
  unsynced: number[];
  /** A write broke off in the middle since then. Together with a loss of the host it would be one fault too many. */
  torn: boolean;
}

/** A process as the disk sees it: what is dead writes nothing and holds no lock. */
export interface DiskUser {
  readonly dead: boolean;
}

/**
 * The disk of one host, in memory. A kill of a process keeps everything written; `loseHost` keeps of what was not
 * synced only what chance had brought to the disk already. A record lies within one sector, which disks write whole.
 */
export class SimulatedDisk {
  /** Writes that need room fail with ENOSPC. */
  full = false;
  /** The next write fails with EIO, whole or after half of its bytes. */
  failNextWrite: 'whole' | 'half' | null = null;
  /** The next sync fails: the journal does not know what is on the disk. */
  failNextSync = false;
  readonly #files = new Map<string, StoredFile>();
  readonly #locks = new Map<string, DiskUser>();

  /** The disk as one process has it. */
  for(user: DiskUser): JournalDisk {
    return {
      makeFolder: () => {},
      lock: async (path) => this.#lock(path, user),
      exists: (path) => this.#files.has(path),
      create: (path, parts) => this.#create(path, parts),
      open: (path) => this.#open(path, user),
      append: () => {
        if (this.full) throw SimulatedFault.of('ENOSPC');
      },
    };
  }

  /** Everything that is not on the disk goes; chance says how much of the unsynced is. */
  loseHost(random: Random): void {
    for (const file of this.#files.values()) {
      for (let i = 0; i < file.unsynced.length; i += 2) {
        if (!file.torn && random.chance(0.5)) continue;
        const from = file.unsynced[i] as number;
        file.bytes.copy(file.lasting, from, from, from + (file.unsynced[i + 1] as number));
      }
      file.lasting.copy(file.bytes);
      file.unsynced = [];
      file.torn = false;
    }
    this.#locks.clear();
  }

  #lock(path: string, user: DiskUser): JournalLock {
    const holder = this.#locks.get(path);
    if (holder !== undefined && !holder.dead)
      throw new JournalError('JOURNAL_LOCKED', 'held by a living process');
    this.#locks.set(path, user);
    return {
      heartbeat: async () => this.#locks.get(path) === user,
      release: () => {
        if (this.#locks.get(path) === user) this.#locks.delete(path);
      },
    };
  }

  #create(path: string, parts: Iterable<Buffer>): void {
    if (this.full) throw new JournalError('JOURNAL_NO_SPACE', 'simulated: ENOSPC');
    const bytes = Buffer.concat([...parts]);
    this.#files.set(path, {
      bytes,
      sizeBytes: bytes.length,
      lasting: Buffer.from(bytes),
      unsynced: [],
      torn: false,
    });
  }

  #open(path: string, user: DiskUser): JournalFile {
    const file = this.#files.get(path);
    if (file === undefined) throw SimulatedFault.of('ENOENT');
    const disk = this;
    return {
      write(buffer, length, position) {
        // A process that is gone: whatever of it still runs here does nothing out there.
        if (user.dead) throw SimulatedFault.of('KILLED');
        disk.#write(file, buffer, length, position);
      },
      read(buffer, length, position) {
        return file.bytes.copy(buffer, 0, position, Math.min(position + length, file.sizeBytes));
      },
      sizeBytes: () => file.sizeBytes,
      truncate(sizeBytes) {
        if (user.dead) return;
        file.sizeBytes = Math.min(file.sizeBytes, sizeBytes);
      },
      sync(done) {
        if (user.dead) return;
        if (disk.failNextSync) {
          disk.failNextSync = false;
          queueMicrotask(() => done(SimulatedFault.of('EIO')));
          return;
        }
        for (let i = 0; i < file.unsynced.length; i += 2) {
          const from = file.unsynced[i] as number;
          file.bytes.copy(file.lasting, from, from, from + (file.unsynced[i + 1] as number));
        }
        file.unsynced = [];
        file.torn = false;
        queueMicrotask(() => done(null));
      },
      close: () => {},
    };
  }

  #write(file: StoredFile, buffer: Buffer, length: number, position: number): void {
    const end = position + length;
    if (this.full && end > file.sizeBytes) throw SimulatedFault.of('ENOSPC');
    const fail = this.failNextWrite;
    this.failNextWrite = null;
    if (fail === 'whole') throw SimulatedFault.of('EIO');
    if (end > file.bytes.length) {
      file.bytes = Buffer.concat([file.bytes, Buffer.alloc(end - file.bytes.length)]);
      file.lasting = Buffer.concat([file.lasting, Buffer.alloc(end - file.lasting.length)]);
    }
    const written = fail === 'half' ? (length * 7) >> 3 : length;
    buffer.copy(file.bytes, position, 0, written);
    file.sizeBytes = Math.max(file.sizeBytes, position + written);
    file.unsynced.push(position, written);
    if (fail !== 'half') return;
    file.torn = true;
    throw SimulatedFault.of('EIO');
  }
}
