import fc from 'fast-check';
import t from 'tap';
import type { Comparison } from '../../../control-plane/reconciliation/compare.js';
import { differencePercent, isTooFar, judge } from '../../../control-plane/reconciliation/judge.js';

const TOLERANCE = { percent: 2, bytesMin: 1_000 };

function comparison(changes: Partial<Comparison> = {}): Comparison {
  const sums = { bytesUp: 400_000n, bytesDown: 600_000n, chargedMicros: 2_000n, earnedMicros: 500n };
  return {
    sessionId: 's',
    userId: 'u',
    deviceId: 'd',
    status: 'completed',
    startedAt: new Date(0),
    completedAt: new Date(1),
    meters: { ...sums, referralMicros: 50n, count: 1, open: 0 },
    session: { ...sums },
    ledger: { chargedMicros: 2_000n, earnedMicros: 500n, referralMicros: 50n },
    device: { bytesTx: 600_000n, bytesRx: 400_000n },
    buyers: [],
    ...changes,
  };
}
const kinds = (c: Comparison) => judge(c, TOLERANCE).map((f) => f.kind);

t.test('two per cent are let pass, a byte more is not', async (t) => {
  t.same(kinds(comparison()), []);
  for (const [bytes, flagged] of [
    [1_020_000n, false],
    [1_020_001n, true],
    [980_000n, false],
    [979_999n, true],
    [1n, true],
    [0n, false],
  ] as const)
    t.same(
      kinds(comparison({ device: { bytesTx: bytes, bytesRx: 0n } })),
      flagged ? ['device_report'] : [],
      `device says ${bytes}`,
    );
  t.same(
    kinds(comparison({ status: 'active', device: { bytesTx: 1n, bytesRx: 0n } })),
    [],
    'not before its end',
  );
  t.notOk(isTooFar(0n, 999n, TOLERANCE), 'below the floor');
  t.ok(isTooFar(0n, 1_000n, TOLERANCE));
  t.notOk(isTooFar(0n, 0n, { percent: 0, bytesMin: 0 }));
  t.equal(differencePercent(1_000_000n, -25_550n), -2.55);
  t.equal(differencePercent(0n, 5n), null);
});

t.test('a buyer who counted otherwise, for each allocation', async (t) => {
  const buyer = (status: string, reportedBytes: bigint | null, allocationId = status) => ({
    allocationId,
    buyerId: 'b',
    status,
    bytes: 1_000_000n,
    reportedBytes,
  });
  const found = judge(
    comparison({
      buyers: [
        buyer('completed', 900_000n),
        buyer('failed', 1_100_000n),
        buyer('completed', 1_019_000n, 'near'),
        buyer('revoked', null),
        buyer('in_progress', 0n),
      ],
    }),
    TOLERANCE,
  );
  t.match(found, [
    { kind: 'buyer_report', allocationId: 'completed', differenceBytes: -100_000n },
    { kind: 'buyer_report', allocationId: 'failed', differenceBytes: 100_000n },
  ]);
  t.equal(found.length, 2);
});

t.test('books are off by any byte or micro-dollar, whatever the tolerance', async (t) => {
  const lax = { percent: 100, bytesMin: 1_000_000_000 };
  const sides: [keyof Comparison, string][] = [
    ['session', 'bytesUp'],
    ['session', 'bytesDown'],
    ['session', 'chargedMicros'],
    ['session', 'earnedMicros'],
    ['ledger', 'chargedMicros'],
    ['ledger', 'earnedMicros'],
    ['ledger', 'referralMicros'],
    ['meters', 'bytesUp'],
    ['meters', 'bytesDown'],
    ['meters', 'chargedMicros'],
    ['meters', 'earnedMicros'],
    ['meters', 'referralMicros'],
  ];
  for (const [side, field] of sides)
    for (const by of [1n, -1n])
      for (const status of ['active', 'completed'] as const) {
        const c = comparison({ status });
        const there = c[side] as unknown as Record<string, bigint>;
        there[field] = (there[field] as bigint) + by;
        const found = judge(c, lax);
        t.equal(found.length, 1, `${side}.${field} by ${by}`);
        t.equal(found[0]?.kind, 'books');
        const money = field.endsWith('Micros');
        const size = (n: bigint | undefined) => (n !== undefined && n < 0n ? -n : n);
        t.equal(size(money ? found[0]?.differenceMicros : found[0]?.differenceBytes), 1n);
      }
});

t.test('nothing else is ever said of books that agree', (t) => {
  const count = fc.bigInt({ min: 0n, max: 2n ** 52n });
  fc.assert(
    fc.property(count, count, count, count, (up, down, tx, rx) => {
      const c = comparison();
      const sums = { ...c.session, bytesUp: up, bytesDown: down };
      const found = judge(
        { ...c, session: sums, meters: { ...c.meters, ...sums }, device: { bytesTx: tx, bytesRx: rx } },
        TOLERANCE,
      );
      const off = tx + rx > up + down ? tx + rx - up - down : up + down - tx - rx;
      const expected = tx + rx > 0n && off >= 1_000n && off * 50n > up + down;
      return found.length === (expected ? 1 : 0) && found.every((f) => f.kind === 'device_report');
    }),
  );
  t.pass('for every count');
  t.end();
});
