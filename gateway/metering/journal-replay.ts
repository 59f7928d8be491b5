import type { JournalDisk } from './journal-disk.js';
import { JournalError, type JournalFile } from './journal-file.js';
import {
  COPY_STRIDE,
  copyOffset,
  decodeCopy,
  decodeHeader,
  extentBytes,
  FORMAT_VERSION,
  HEADER_BYTES,
  type JournalHeader,
  judgeSlot,
  type SlotRecord,
} from './journal-format.js';
import type { JournalSlot } from './journal-slot.js';

/** A meter of an earlier process. `torn`: the newer copy was damaged, the counts may lack one chunk. */
export interface ReplayedSlot {
  slot: JournalSlot;
  record: SlotRecord;
  torn: boolean;
}

/** Damage found at opening. */
export interface JournalProblem {
  /**
   * `torn`: one copy damaged, the other used. `corrupt`: neither copy whole, set aside in `sidePath` (null: the
   * side file could not be written and the slot was left as it is, out of use). `missing`: the file had lost its end.
   */
  kind: 'torn' | 'corrupt' | 'missing';
  slot: number;
  sidePath: string | null;
}

/** What the slots of a journal hold. */
export interface SlotsFound {
  live: Array<{ slot: number; record: SlotRecord; torn: boolean }>;
  free: Array<{ slot: number; sequence: number }>;
  corrupt: number[];
  problems: JournalProblem[];
  /** File offset from which the file has lost its end; null when it is whole. */
  missingFrom: number | null;
}

/** Reads and checks the header. Throws JOURNAL_VERSION or JOURNAL_DAMAGED. */
export function readHeader(file: JournalFile, path: string): JournalHeader {
  const block = Buffer.alloc(HEADER_BYTES);
  file.read(block, HEADER_BYTES, 0);
  const result = decodeHeader(block);
  if (result.ok) return result.header;
  if (result.why === 'newer_version')
    throw new JournalError(
      'JOURNAL_VERSION',
      `the meter journal ${path} has format ${result.version}; this program reads ${FORMAT_VERSION}`,
    );
  throw new JournalError(
    'JOURNAL_DAMAGED',
    result.why === 'damaged'
      ? `no copy of the header of the meter journal ${path} is whole`
      : `${path} is not a meter journal`,
  );
}

/** Judges every slot that the header knows. Reads only. */
export function replaySlots(file: JournalFile, header: JournalHeader): SlotsFound {
  const found: SlotsFound = { live: [], free: [], corrupt: [], problems: [], missingFrom: null };
  const { extentSlots } = header;
  const size = extentBytes(extentSlots);
  const block = Buffer.alloc(size);
  for (let extent = 0; extent < header.extents; extent++) {
    const start = HEADER_BYTES + extent * size;
    const got = file.read(block, size, start);
    if (got < size && found.missingFrom === null) found.missingFrom = start + got;
    const bytes = block.subarray(0, got);
    for (let i = 0; i < extentSlots; i++) {
      const slot = extent * extentSlots + i;
      const at0 = i * COPY_STRIDE;
      const at1 = (extentSlots + i) * COPY_STRIDE;
      const copy0 = decodeCopy(bytes, at0, slot, 0);
      const copy1 = decodeCopy(bytes, at1, slot, 1);
      if (at1 + COPY_STRIDE > got && copy0.kind !== 'record' && copy1.kind !== 'record') {
        // Copy 1 is gone with the end of the file. The first write with counts goes into copy 0, so an empty
        // copy 0 says that nothing was counted here; anything else may have been a meter.
        if (copy0.kind === 'empty') found.free.push({ slot, sequence: 0 });
        else if (at0 + COPY_STRIDE > got) {
          found.free.push({ slot, sequence: 0 });
          found.problems.push({ kind: 'missing', slot, sidePath: null });
        } else found.corrupt.push(slot);
        continue;
      }
      const state = judgeSlot(copy0, copy1);
      if (state.kind === 'corrupt') {
        found.corrupt.push(slot);
        continue;
      }
      if (state.torn) found.problems.push({ kind: 'torn', slot, sidePath: null });
      if (state.kind === 'free') found.free.push({ slot, sequence: state.sequence });
      else found.live.push({ slot, record: state.record, torn: state.torn });
    }
  }
  return found;
}

/**
 * Writes the raw bytes of corrupt slots to the side file (JSON lines: slot, copies in hex), flushes it, then clears
 * the slots. When the side file cannot be written, nothing is cleared and the slots stay out of use.
 */
export function setAsideCorrupt(
  disk: JournalDisk,
  file: JournalFile,
  header: JournalHeader,
  slots: readonly number[],
  sidePath: string,
  nowMs: number,
): { cleared: number[]; problems: JournalProblem[] } {
  const copy = Buffer.alloc(COPY_STRIDE);
  const copyHex = (slot: number, n: number) => {
    const got = file.read(copy, COPY_STRIDE, copyOffset(slot, n, header.extentSlots));
    return copy.toString('hex', 0, got);
  };
  const problem = (slot: number, path: string | null): JournalProblem => ({
    kind: 'corrupt',
    slot,
    sidePath: path,
  });
  try {
    const lines = slots.map((slot) =>
      JSON.stringify({ slot, setAsideAtMs: nowMs, copy0: copyHex(slot, 0), copy1: copyHex(slot, 1) }),
    );
    disk.append(sidePath, lines);
  } catch {
    return { cleared: [], problems: slots.map((slot) => problem(slot, null)) };
  }
  const zeros = Buffer.alloc(COPY_STRIDE);
  for (const slot of slots) {
    file.write(zeros, COPY_STRIDE, copyOffset(slot, 0, header.extentSlots));
    file.write(zeros, COPY_STRIDE, copyOffset(slot, 1, header.extentSlots));
  }
  return { cleared: [...slots], problems: slots.map((slot) => problem(slot, sidePath)) };
}
