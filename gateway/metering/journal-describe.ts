import { type MeterReport, meterKey } from '../live/records.js';
import { openJournalFile } from './journal-file.js';
import { FLAG_ALLOCATION_ENDED, FLAG_FINAL, type JournalHeader, type SlotRecord } from './journal-format.js';
import { type JournalProblem, readHeader, replaySlots } from './journal-replay.js';

/** A journal as an operator looks at it. */
export interface JournalDescription {
  header: JournalHeader;
  slotCount: number;
  freeCount: number;
  /** Slots that hold a meter, as the file says: FINAL only where it was written. */
  meters: Array<{ slot: number; key: string; sequence: number; torn: boolean; report: MeterReport }>;
  /** Damage, `corrupt` without a side file: looking sets nothing aside. */
  problems: JournalProblem[];
}

/**
 * Reads a journal without taking or changing anything, also while a gateway writes it (a slot may then look torn).
 * Throws JournalError or what the file system throws.
 */
export function describeJournal(path: string): JournalDescription {
  const file = openJournalFile(path, 'r');
  try {
    const header = readHeader(file, path);
    const found = replaySlots(file, header);
    return {
      header,
      slotCount: header.extents * header.extentSlots,
      freeCount: found.free.length,
      meters: found.live.map(({ slot, record, torn }) => ({
        slot,
        key: meterKey(record),
        sequence: record.sequence,
        torn,
        report: reportOf(record),
      })),
      problems: [
        ...found.problems,
        ...found.corrupt.map((slot): JournalProblem => ({ kind: 'corrupt', slot, sidePath: null })),
      ],
    };
  } finally {
    file.close();
  }
}

function reportOf(record: SlotRecord): MeterReport {
  const { sequence: _sequence, flags, ...rest } = record;
  return {
    ...rest,
    final: (flags & FLAG_FINAL) !== 0,
    allocationEnded: (flags & FLAG_ALLOCATION_ENDED) !== 0,
  };
}
