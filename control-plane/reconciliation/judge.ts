import type { Comparison } from './compare.js';

/** What is let pass between a report and the meters. It says nothing about the books: they agree or they do not. */
export interface Tolerance {
  /** Of the metered bytes. */
  percent: number;
  /** Differences of fewer bytes are let pass whatever they are in percent. */
  bytesMin: number;
}

export type FlagKind = 'device_report' | 'buyer_report' | 'books';

/** One difference. Bytes and money as other side minus meters; of several in the books the largest. */
export interface Finding {
  kind: FlagKind;
  /** Of `buyer_report`. */
  allocationId: string | null;
  meteredBytes: bigint;
  differenceBytes: bigint;
  differenceMicros: bigint;
  /** For people. */
  detail: string;
}

const size = (n: bigint) => (n < 0n ? -n : n);

/** Whether a report of so many bytes is too far from what was metered: above the percentage **and** the floor. */
export function isTooFar(meteredBytes: bigint, reportedBytes: bigint, tolerance: Tolerance): boolean {
  const difference = size(reportedBytes - meteredBytes);
  return (
    difference >= BigInt(tolerance.bytesMin) &&
    difference > 0n &&
    difference * 100n > meteredBytes * BigInt(tolerance.percent)
  );
}

/** The difference in per cent of the metered bytes, two places; null when nothing was metered. */
export function differencePercent(meteredBytes: bigint, differenceBytes: bigint): number | null {
  return meteredBytes === 0n ? null : Number((differenceBytes * 10_000n) / meteredBytes) / 100;
}

const ENDED: readonly string[] = ['completed', 'failed', 'revoked'];

/**
 * What is wrong with a session. Reports are judged once both sides have ended; a device or buyer that never reported
 * is not judged. The books are judged at any time, to the byte and the micro-dollar.
 */
export function judge(c: Comparison, tolerance: Tolerance): Finding[] {
  const found: Finding[] = [];
  const metered = c.meters.bytesUp + c.meters.bytesDown;
  const report = (
    kind: 'device_report' | 'buyer_report',
    allocationId: string | null,
    bytes: bigint,
    reported: bigint,
  ) => {
    if (!isTooFar(bytes, reported, tolerance)) return;
    found.push({
      kind,
      allocationId,
      meteredBytes: bytes,
      differenceBytes: reported - bytes,
      differenceMicros: 0n,
      detail: `${bytes} bytes were metered, ${reported} reported`,
    });
  };
  const deviceBytes = c.device.bytesTx + c.device.bytesRx;
  if (c.status === 'completed' && deviceBytes > 0n) report('device_report', null, metered, deviceBytes);
  for (const b of c.buyers)
    if (b.reportedBytes !== null && ENDED.includes(b.status))
      report('buyer_report', b.allocationId, b.bytes, b.reportedBytes);

  const books = booksOf(c);
  if (books !== null) found.push({ ...books, kind: 'books', allocationId: null, meteredBytes: metered });
  return found;
}

function booksOf(c: Comparison): Pick<Finding, 'differenceBytes' | 'differenceMicros' | 'detail'> | null {
  const { meters, session, ledger } = c;
  const bytes: [string, bigint, bigint][] = [
    ['bytes up: session', session.bytesUp, meters.bytesUp],
    ['bytes down: session', session.bytesDown, meters.bytesDown],
  ];
  const micros: [string, bigint, bigint][] = [
    ['charged: session', session.chargedMicros, meters.chargedMicros],
    ['earned: session', session.earnedMicros, meters.earnedMicros],
    ['charged: ledger', ledger.chargedMicros, meters.chargedMicros],
    ['earned: ledger', ledger.earnedMicros, meters.earnedMicros],
    ['referral: ledger', ledger.referralMicros, meters.referralMicros],
  ];
  const off = (pairs: typeof bytes) => pairs.filter(([, there, here]) => there !== here);
  const wrong = [...off(bytes), ...off(micros)];
  if (wrong.length === 0) return null;
  const largest = (pairs: typeof bytes) =>
    off(pairs)
      .map(([, there, here]) => there - here)
      .reduce((a, b) => (size(b) > size(a) ? b : a), 0n);
  return {
    differenceBytes: largest(bytes),
    differenceMicros: largest(micros),
    detail: wrong.map(([name, there, here]) => `${name} ${there}, meters ${here}`).join('; '),
  };
}
