import { randomUUID } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Journal, type JournalOptions } from '../../../gateway/metering/journal.js';
import { fileDisk, type JournalDisk } from '../../../gateway/metering/journal-disk.js';
import { type JournalFile, openJournalFile } from '../../../gateway/metering/journal-file.js';
import { type MeteringSettings, meteringSettings } from '../../../gateway/metering/limits.js';
import type { MeterBinding } from '../../../gateway/metering/meter.js';
import { drawEpoch, MeterRegistry, type MeterSubject } from '../../../gateway/metering/registry.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';

export const GATEWAY = 'gateway-under-test';

/** Two extents of eight slots, no timer that fires during a test, and what grows is delivered with the next tick. */
export const SMALL: Partial<MeteringSettings> = {
  journalSlots: 16,
  journalExtentSlots: 8,
  journalSlotsMax: 64,
  journalReserveSlots: 0,
  journalSyncIntervalMs: 3_000_000,
  journalLockWatchMs: 3_000_001,
  journalLockWaitMs: 0,
  deliveryGrowthMs: 0,
};

export interface Metering {
  path: string;
  journal: Journal;
  registry: MeterRegistry;
  clock: ManualClock;
  settings: Readonly<MeteringSettings>;
}

/** A folder of the test's own, removed at its end. */
export function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'ts-meter-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A folder in which journals are mapped, removed at the end; null where there is none (another system than Linux). */
export function mappedFolder(t: Test): string | null {
  for (const parent of [tmpdir(), '/dev/shm']) {
    if (!existsSync(parent)) continue;
    const path = mkdtempSync(join(parent, 'ts-meter-'));
    t.teardown(() => rmSync(path, { recursive: true, force: true }));
    const probe = join(path, 'probe');
    writeFileSync(probe, Buffer.alloc(4_096));
    const file = openJournalFile(probe);
    const mapped = file.map?.(4_096) != null;
    file.close();
    if (mapped) return path;
  }
  if (process.platform === 'linux')
    throw new Error('koffi is not installed: nothing is mapped on this machine');
  return null;
}

/** Opens journal and registry as a gateway does at start; closed at the end of the test. */
export async function startMetering(
  t: Test,
  path: string,
  more: Partial<JournalOptions> & { limits?: Partial<MeteringSettings> } = {},
): Promise<Metering> {
  const { limits, ...options } = more;
  const settings = meteringSettings({ ...SMALL, ...limits });
  const clock = new ManualClock();
  const epoch = drawEpoch();
  const journal = await Journal.open({
    path,
    gatewayId: GATEWAY,
    epoch,
    clock,
    log: silentLog,
    settings,
    ...options,
  });
  t.teardown(() => journal.close());
  return {
    path,
    journal,
    registry: new MeterRegistry(journal, epoch, options.clock ?? clock, settings),
    clock,
    settings,
  };
}

let crashes = 0;

/** What a kill -9 at this moment leaves: a copy of the file, without the lock. */
export function crash(metering: Metering): string {
  const copy = `${metering.path}.crash-${crashes++}`;
  copyFileSync(metering.path, copy);
  return copy;
}

export function subject(more: Partial<MeterSubject> = {}): MeterSubject {
  return {
    sessionId: randomUUID(),
    allocationId: randomUUID(),
    buyerId: randomUUID(),
    packageId: null,
    subUserId: null,
    providerPriceMicrosPerGb: '400000',
    buyerPriceMicrosPerGb: '2000000',
    ...more,
  };
}

/** Opens a binding that must open. */
export function mustOpen(registry: MeterRegistry, given: MeterSubject = subject()): MeterBinding {
  const opened = registry.open(given);
  if (!opened.ok) throw new Error(opened.code);
  return opened.binding;
}

/** A file that fails on command. */
export class FaultyFile implements JournalFile {
  writeError: NodeJS.ErrnoException | null = null;
  syncError: Error | null = null;
  /** Fails only writes that would make the file longer. */
  onlyGrowth = false;
  readonly #file: JournalFile;
  #size: number;
  constructor(file: JournalFile) {
    this.#file = file;
    this.#size = file.sizeBytes();
  }
  write(buffer: Buffer, length: number, position: number): void {
    if (this.writeError !== null && !(this.onlyGrowth && position + length <= this.#size))
      throw this.writeError;
    this.#file.write(buffer, length, position);
    this.#size = Math.max(this.#size, position + length);
  }
  read(buffer: Buffer, length: number, position: number): number {
    return this.#file.read(buffer, length, position);
  }
  sizeBytes(): number {
    return this.#file.sizeBytes();
  }
  truncate(sizeBytes: number): void {
    this.#file.truncate(sizeBytes);
    this.#size = sizeBytes;
  }
  sync(done: (error: Error | null) => void): void {
    if (this.syncError !== null) setImmediate(done, this.syncError);
    else this.#file.sync(done);
  }
  close(): void {
    this.#file.close();
  }
}

/** The file system, except that the journal's file fails on command. `file` is there once the journal is open. */
export function faultyDisk(): { disk: JournalDisk; readonly file: FaultyFile } {
  let opened: FaultyFile | undefined;
  return {
    disk: {
      ...fileDisk,
      open(path) {
        opened = new FaultyFile(fileDisk.open(path));
        return opened;
      },
    },
    get file() {
      if (opened === undefined) throw new Error('no journal is open');
      return opened;
    },
  };
}

export function ioError(code: 'EIO' | 'ENOSPC'): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: injected`), { code });
}
