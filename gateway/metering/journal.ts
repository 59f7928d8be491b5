import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import { fileDisk, type JournalDisk } from './journal-disk.js';
import { isNoSpace, JournalError, type JournalFile } from './journal-file.js';
import {
  encodeHeader,
  extentBytes,
  FLAG_FREE,
  FORMAT_VERSION,
  HEADER_BYTES,
  HEADER_COPY_BYTES,
  HEADER_COPY_STRIDE,
  type JournalHeader,
  RECORD_BYTES,
  type SlotIdentity,
} from './journal-format.js';
import type { JournalLock } from './journal-lock.js';
import {
  type JournalProblem,
  type ReplayedSlot,
  readHeader,
  replaySlots,
  setAsideCorrupt,
} from './journal-replay.js';
import { JournalSlot } from './journal-slot.js';
import type { MeteringSettings } from './limits.js';

/** What a journal needs from outside. */
export interface JournalOptions {
  /** The journal file; its lock is `<path>.lock`, set-aside slots go to `<path>.corrupt-<epoch>`. */
  path: string;
  gatewayId: string;
  /** Epoch of this process, 32 hex digits; names the side file. */
  epoch: string;
  clock: Clock;
  log: Log;
  settings: Readonly<MeteringSettings>;
  /**
   * Called once, outside any count, when the journal can no longer be written: every stream must be stopped now.
   * Counts are refused from the failed write on.
   */
  onFailed?: (error: Error) => void;
  /** false: counts are always written with calls to the system, as where the file cannot be mapped. */
  mapped?: boolean;
  /** Where the files are; default: the file system. For fault injection and simulation. */
  disk?: JournalDisk;
  /** Runs something once, later; default: a timer that keeps no process alive. */
  later?: (run: () => void, delayMs: number) => { cancel(): void };
}

function laterByTimer(run: () => void, delayMs: number): { cancel(): void } {
  const timer = setTimeout(run, delayMs).unref();
  return { cancel: () => clearTimeout(timer) };
}

/**
 * The meter journal: the truth about bytes until Postgres has committed them. One slot a live meter; a write goes to
 * one of the slot's two copies, in turn: a store into the mapped file, or a positional write where there is no map.
 * Both are with the operating system when they return, and a kill -9 in the middle leaves the other copy whole.
 *
 * | state | holds | left by |
 * |---|---|---|
 * | `open` | counts are written; `canAdmit` says whether there is room for new meters | a failed write or sync → `failed`; `close()` → `closed` |
 * | `failed` | nothing is written any more; every count is refused. A restart replays what is on the disk | `close()` → `closed` |
 * | `closed` | the file is closed, the lock released | – |
 */
export class Journal {
  readonly path: string;
  readonly gatewayId: string;
  /** Meters of earlier processes found at opening; each must be delivered as FINAL. */
  readonly replayed: readonly ReplayedSlot[];
  /** What was found damaged at opening, for the operator. */
  readonly problems: readonly JournalProblem[];

  readonly #file: JournalFile;
  /** The file as memory; null: it is written with calls to the system. */
  #map: Uint32Array | null = null;
  readonly #lock: JournalLock;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #settings: Readonly<MeteringSettings>;
  readonly #onFailed: (error: Error) => void;
  readonly #later: NonNullable<JournalOptions['later']>;
  #header: JournalHeader;
  /** Free slot numbers; `#sequences[slot]` is the last sequence written there. */
  readonly #free: number[] = [];
  #sequences: Float64Array;
  #used = 0;
  #state: 'open' | 'failed' | 'closed' = 'open';
  #failure: Error | null = null;
  #fullUntilMs = -1;

  #dirty = false;
  #dirtySinceMs = 0;
  #syncing: Promise<void> | null = null;
  #timer: { cancel(): void } | null = null;
  #writes = 0;
  #syncs = 0;
  #syncMsMax = 0;

  /**
   * Opens the journal, creating it (and its folder) when there is none. Everything found in it belongs to processes that are gone:
   * it comes back in `replayed`, and slots of which neither copy is whole are set aside in a side file, never
   * guessed. Throws JournalError (see its codes) or what the file system throws.
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const disk = options.disk ?? fileDisk;
    disk.makeFolder(options.path);
    const { journalLockWatchMs, journalLockWaitMs } = options.settings;
    const lock = await disk.lock(`${options.path}.lock`, {
      watchMs: journalLockWatchMs,
      waitMs: journalLockWaitMs,
      onWait: (holder) => options.log.warn({ holder, waitMs: journalLockWaitMs }, 'journal_in_use'),
    });
    let file: JournalFile | null = null;
    try {
      if (!disk.exists(options.path)) disk.create(options.path, newJournal(options));
      file = disk.open(options.path);
      return new Journal(options, disk, file, lock);
    } catch (error) {
      file?.close();
      lock.release();
      throw error;
    }
  }

  private constructor(options: JournalOptions, disk: JournalDisk, file: JournalFile, lock: JournalLock) {
    this.path = options.path;
    this.gatewayId = options.gatewayId;
    this.#file = file;
    this.#lock = lock;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#settings = options.settings;
    this.#onFailed = options.onFailed ?? (() => {});
    this.#later = options.later ?? laterByTimer;
    this.#header = readHeader(file, options.path);
    if (this.#header.gatewayId !== options.gatewayId)
      throw new JournalError(
        'JOURNAL_FOREIGN',
        `the meter journal ${options.path} belongs to gateway ${JSON.stringify(this.#header.gatewayId)}, ` +
          `not to ${JSON.stringify(options.gatewayId)}`,
      );

    const { extents, extentSlots } = this.#header;
    this.#sequences = new Float64Array(extents * extentSlots);
    const found = replaySlots(file, this.#header);
    const free = found.free;
    const problems: JournalProblem[] = [...found.problems];
    if (found.corrupt.length > 0) {
      const sidePath = `${options.path}.corrupt-${options.epoch}`;
      const nowMs = options.clock.nowMs();
      const aside = setAsideCorrupt(disk, file, this.#header, found.corrupt, sidePath, nowMs);
      problems.push(...aside.problems);
      free.push(...aside.cleared.map((slot) => ({ slot, sequence: 0 })));
    }
    if (found.missingFrom !== null) {
      // The file lost its end: give the lost slots their room back before anything is written there.
      this.#zero(found.missingFrom, HEADER_BYTES + extents * extentBytes(extentSlots));
    }
    this.problems = problems;
    for (const problem of problems)
      options.log.error({ ...problem, path: options.path }, 'meter journal damaged');

    // The lowest slots are used first, so that a small gateway touches few pages.
    for (const { slot, sequence } of free.sort((x, y) => y.slot - x.slot)) {
      this.#sequences[slot] = sequence;
      this.#free.push(slot);
    }
    this.replayed = found.live.map(({ slot, record, torn }) => {
      this.#sequences[slot] = record.sequence;
      const handle = new JournalSlot(slot, record.sequence, extentSlots);
      handle.identify(record);
      this.#used++;
      return { slot: handle, record, torn };
    });

    const wanted = Math.ceil(options.settings.journalSlots / extentSlots);
    while (this.#header.extents < wanted && this.#grow());
    if (this.#failure !== null) throw this.#failure;
    if (options.mapped !== false) this.#map = file.map?.(this.#mostBytes) ?? null;
    this.#schedule();
  }

  /** Size of the file with all the slots it may ever have. */
  get #mostBytes(): number {
    const { extents, extentSlots } = this.#header;
    const most = Math.max(extents, Math.floor(this.#settings.journalSlotsMax / extentSlots), 1);
    return HEADER_BYTES + most * extentBytes(extentSlots);
  }

  get state(): 'open' | 'failed' | 'closed' {
    return this.#state;
  }
  /** Whether counts are stored into the mapped file, without a call to the system. */
  get mapped(): boolean {
    return this.#map !== null;
  }
  /** Why the journal failed; null while it has not. */
  get failure(): Error | null {
    return this.#failure;
  }
  /** Slots in the file. */
  get slotCount(): number {
    return this.#header.extents * this.#header.extentSlots;
  }
  /** Slots that hold a meter. */
  get slotsUsed(): number {
    return this.#used;
  }
  /** Copies written since opening. */
  get writeCount(): number {
    return this.#writes;
  }
  get syncCount(): number {
    return this.#syncs;
  }
  /** Longest fdatasync since opening, ms. */
  get syncMsMax(): number {
    return this.#syncMsMax;
  }
  /** Age of the oldest write that is not known to be on the disk, ms. */
  get syncLagMs(): number {
    return this.#dirty ? this.#clock.monotonicMs() - this.#dirtySinceMs : 0;
  }
  /**
   * Whether new streams may be taken: the journal can be written, is not waiting too long for the disk, and has
   * slots beyond the reserve (it tries to grow first, at most once in `journalGrowRetryMs` while the disk is full).
   */
  get canAdmit(): boolean {
    if (this.#state !== 'open' || this.syncLagMs > this.#settings.journalSyncLagMsMax) return false;
    if (this.#free.length > this.#settings.journalReserveSlots) return true;
    return this.#grow() && this.#state === 'open';
  }

  /**
   * Takes a slot for a meter and writes its first record, with zero counts. null: no slot and no room to grow, or
   * the journal failed (`state` tells which). Throws RangeError when the identity cannot be written down.
   */
  allocate(identity: SlotIdentity): JournalSlot | null {
    if (this.#state !== 'open') return null;
    if (this.#free.length <= this.#settings.journalReserveSlots) this.#grow();
    const index = this.#free.at(-1);
    if (index === undefined || this.#state !== 'open') return null;
    const slot = new JournalSlot(index, this.#sequences[index] ?? 0, this.#header.extentSlots);
    slot.identify(identity);
    this.#free.pop();
    this.#used++;
    return this.write(slot, 0, 0, identity.openedAtMs, 0) ? slot : null;
  }

  /**
   * Writes the slot's next copy. true: it is with the operating system, and a kill -9 does not lose it. false: the
   * journal has failed, now or before; the bytes must not go on. Allocates nothing.
   */
  write(slot: JournalSlot, bytesUp: number, bytesDown: number, activeAtMs: number, flags: number): boolean {
    if (this.#state !== 'open') return false;
    const sequence = slot.sequence + 1;
    const offset = slot.seal(sequence, bytesUp, bytesDown, activeAtMs, flags);
    if (this.#map !== null) slot.store(this.#map, offset);
    else {
      try {
        this.#file.write(slot.record, RECORD_BYTES, offset);
      } catch (error) {
        this.#fail(error as Error);
        return false;
      }
    }
    slot.sequence = sequence;
    this.#writes++;
    if (!this.#dirty) {
      this.#dirty = true;
      this.#dirtySinceMs = this.#clock.monotonicMs();
    }
    return true;
  }

  /**
   * Gives a slot back: only when Postgres has committed the FINAL counts in it. false: the journal failed, and the
   * meter comes back at the next start, which is harmless.
   */
  release(slot: JournalSlot): boolean {
    if (!this.write(slot, 0, 0, 0, FLAG_FREE)) return false;
    this.#sequences[slot.index] = slot.sequence;
    this.#free.push(slot.index);
    this.#used--;
    return true;
  }

  /** Resolves when everything written before is on the disk. A failure fails the journal, it does not reject. */
  async sync(): Promise<void> {
    // A sync under way may have begun before the last write: it does not cover it.
    await this.#syncing;
    await this.#syncOnce();
  }

  /** Flushes, closes the file and releases the lock. Slots in use stay in the file for the next start. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#timer?.cancel();
    await this.sync();
    this.#timer?.cancel();
    this.#state = 'closed';
    this.#map = null;
    this.#file.close();
    this.#lock.release();
  }

  #schedule(): void {
    this.#timer = this.#later(() => {
      Promise.all([this.#syncOnce(), this.#lock.heartbeat()]).then(
        ([, ours]) => {
          if (this.#state === 'closed') return;
          if (!ours)
            this.#fail(new JournalError('JOURNAL_LOCKED', `the lock of ${this.path} was taken by another`));
          this.#schedule();
        },
        (error: Error) => this.#fail(error),
      );
    }, this.#settings.journalSyncIntervalMs);
  }

  #syncOnce(): Promise<void> {
    if (this.#syncing !== null) return this.#syncing;
    if (!this.#dirty || this.#state !== 'open') return Promise.resolve();
    const startedMs = this.#clock.monotonicMs();
    const dirtySinceMs = this.#dirtySinceMs;
    this.#dirty = false;
    this.#syncing = new Promise((done) => {
      this.#file.sync((error) => {
        this.#syncing = null;
        if (error !== null) {
          this.#dirty = true;
          this.#dirtySinceMs = dirtySinceMs;
          this.#fail(new JournalError('JOURNAL_SYNC', 'the disk did not take the meter journal', error));
        } else {
          this.#syncs++;
          this.#syncMsMax = Math.max(this.#syncMsMax, this.#clock.monotonicMs() - startedMs);
        }
        done();
      });
    });
    return this.#syncing;
  }

  /**
   * Adds one extent. false: no room (disk full or the limit), or the journal failed. The zeros are written, not
   * skipped, so the room is taken before a meter needs it.
   */
  #grow(): boolean {
    if (this.#state !== 'open') return false;
    const { extents, extentSlots } = this.#header;
    if ((extents + 1) * extentSlots > Math.max(this.#settings.journalSlotsMax, extentSlots)) return false;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs < this.#fullUntilMs) return false;
    const start = HEADER_BYTES + extents * extentBytes(extentSlots);
    const header = { ...this.#header, extents: extents + 1, sequence: this.#header.sequence + 1 };
    try {
      this.#zero(start, start + extentBytes(extentSlots));
      // The header last: a crash before it leaves an extent that nobody knows and the next growth overwrites.
      this.#file.write(encodeHeader(header), HEADER_COPY_BYTES, (header.sequence % 2) * HEADER_COPY_STRIDE);
    } catch (error) {
      if (!isNoSpace(error) && (error as { code?: string }).code !== 'JOURNAL_SHORT_WRITE') {
        this.#fail(error as Error);
        return false;
      }
      this.#fullUntilMs = nowMs + this.#settings.journalGrowRetryMs;
      this.#log.error({ path: this.path, slots: this.slotCount }, 'meter journal cannot grow: disk full');
      try {
        this.#file.truncate(start);
      } catch {
        // Only tidies up; the surplus is overwritten by the next growth.
      }
      return false;
    }
    this.#fullUntilMs = -1;
    this.#header = header;
    const sequences = new Float64Array(header.extents * extentSlots);
    sequences.set(this.#sequences);
    this.#sequences = sequences;
    const first = extents * extentSlots;
    // New slots go under the old free ones: the free list is taken from its end.
    this.#free.unshift(...Array.from({ length: extentSlots }, (_, i) => first + extentSlots - 1 - i));
    if (!this.#dirty) {
      this.#dirty = true;
      this.#dirtySinceMs = nowMs;
    }
    return true;
  }

  #zero(from: number, to: number): void {
    const zeros = Buffer.alloc(Math.min(1 << 20, to - from));
    for (let at = from; at < to; at += zeros.length)
      this.#file.write(zeros, Math.min(zeros.length, to - at), at);
  }

  #fail(error: Error): void {
    if (this.#state !== 'open') return;
    this.#state = 'failed';
    this.#failure = error;
    this.#log.error({ path: this.path, err: error }, 'meter journal failed: no byte may be relayed');
    // Not from inside a count: stopping streams there would re-enter the relay.
    queueMicrotask(() => this.#onFailed(error));
  }
}

function* newJournal(options: JournalOptions): Generator<Buffer> {
  const { journalExtentSlots: extentSlots, journalSlots } = options.settings;
  const extents = Math.ceil(journalSlots / extentSlots);
  const block = Buffer.alloc(HEADER_BYTES);
  const createdAtMs = options.clock.nowMs();
  for (const sequence of [0, 1])
    encodeHeader({
      version: FORMAT_VERSION,
      extentSlots,
      extents,
      sequence,
      createdAtMs,
      gatewayId: options.gatewayId,
    }).copy(block, sequence * HEADER_COPY_STRIDE);
  yield block;
  const zeros = Buffer.alloc(extentBytes(extentSlots));
  for (let i = 0; i < extents; i++) yield zeros;
}
