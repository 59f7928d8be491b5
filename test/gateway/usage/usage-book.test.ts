import { randomUUID } from 'node:crypto';
import t from 'tap';
import type { DestinationUsage } from '../../../gateway/live/usage.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { OTHER, UsageBook, type UsageSubject } from '../../../gateway/usage/usage-book.js';

const DAY_MS = 86_400_000;
const MIDNIGHT = 20_000 * DAY_MS;

const subject = (fields: Partial<UsageSubject> = {}): UsageSubject => ({
  sessionId: 'session',
  allocationId: 'allocation',
  buyerId: 'buyer',
  subUserId: null,
  host: 'example.org',
  port: 443,
  tag: null,
  sessionName: null,
  ...fields,
});

/** What counts a stream's bytes. */
const counter = () => ({ bytesUp: 0, bytesDown: 0 });

function start(
  limits: { usageEntriesMax?: number; usageEntriesPerBuyerMax?: number } = {},
  startMs = MIDNIGHT,
) {
  const clock = new ManualClock(startMs);
  return {
    clock,
    book: new UsageBook(clock, { usageEntriesMax: 1_000, usageEntriesPerBuyerMax: 1_000, ...limits }),
  };
}

const sum = (usages: readonly DestinationUsage[]) => ({
  up: usages.reduce((n, u) => n + u.bytesUp, 0),
  down: usages.reduce((n, u) => n + u.bytesDown, 0),
  streams: usages.reduce((n, u) => n + u.streams, 0),
});

t.test('streams of one subject are added up, others told apart', async (t) => {
  const { book, clock } = start();
  const [a, b] = [counter(), counter()];
  const one = book.open(subject({ tag: 'x' }), a);
  clock.advance(1_000);
  const two = book.open(subject({ tag: 'x' }), b);
  a.bytesUp = 5;
  b.bytesUp = 7;
  b.bytesDown = 11;
  clock.advance(1_000);
  one.end();
  two.end();
  one.end();
  t.same(book.take(10), [
    {
      ...subject({ tag: 'x' }),
      bytesUp: 12,
      bytesDown: 11,
      streams: 2,
      firstAtMs: MIDNIGHT,
      lastAtMs: MIDNIGHT + 2_000,
    },
  ]);
  t.equal(book.size, 0);

  const differing: Array<Partial<UsageSubject>> = [
    {},
    { sessionId: 's2' },
    { allocationId: 'a2' },
    { subUserId: 'u' },
    { host: 'other.example' },
    { port: 80 },
    { tag: 'y' },
    { sessionName: 'y' },
  ];
  for (const fields of differing) book.open(subject(fields), counter()).end();
  t.equal(book.take(100).length, differing.length, 'a stream without bytes is told as well');
});

t.test('a long stream is told while it lives, each byte once', async (t) => {
  const { book, clock } = start();
  const counts = counter();
  const flow = book.open(subject(), counts);
  t.same(sum(book.take(10)), { up: 0, down: 0, streams: 1 });
  book.sweep();
  t.equal(book.size, 0, 'nothing new, nothing told');
  counts.bytesDown = 100;
  clock.advance(10_000);
  book.sweep();
  t.match(book.take(10), [
    { bytesDown: 100, streams: 0, firstAtMs: MIDNIGHT + 10_000, lastAtMs: MIDNIGHT + 10_000 },
  ]);
  counts.bytesDown = 130;
  counts.bytesUp = 3;
  book.sweep();
  counts.bytesDown = 200;
  flow.end();
  t.match(book.take(10), [{ bytesUp: 3, bytesDown: 100, streams: 0 }]);
  counts.bytesDown = 300;
  book.sweep();
  flow.end();
  t.equal(book.size, 0, 'an ended stream is not asked any more');
});

t.test(
  'a sweep in turns: each live stream once, whoever comes and goes meanwhile; who came has the next',
  async (t) => {
    const { book } = start();
    const streams = Array.from({ length: 10 }, (_, i) => {
      const counts = counter();
      return { counts, flow: book.open(subject({ port: i + 1 }), counts) };
    });
    book.take(100);
    for (const { counts } of streams) counts.bytesUp = 1;
    const told: DestinationUsage[] = [];
    let turns = 0;
    for (const _turn of book.sweepInTurns(3)) {
      turns++;
      told.push(...book.take(100));
      if (turns === 1) {
        streams[8]?.flow.end();
        const counts = counter();
        book.open(subject({ port: 99 }), counts);
        counts.bytesUp = 1;
      }
    }
    book.sweep();
    told.push(...book.take(100));
    t.equal(turns, 3);
    t.same(sum(told), { up: 11, down: 0, streams: 1 });
    t.equal(Math.max(...told.map((u) => u.bytesUp)), 1);
  },
);

t.test('each entry lies on one UTC day', async (t) => {
  const { book, clock } = start({}, MIDNIGHT - 1_000);
  const counts = counter();
  const flow = book.open(subject(), counts);
  counts.bytesUp = 1;
  book.sweep();
  clock.advance(2_000);
  counts.bytesUp = 10;
  book.sweep();
  t.equal(book.size, 2);
  flow.end();
  const told = book.take(10);
  t.match(told, [
    { bytesUp: 1, streams: 1, firstAtMs: MIDNIGHT - 1_000, lastAtMs: MIDNIGHT - 1_000 },
    { bytesUp: 9, streams: 0, firstAtMs: MIDNIGHT + 1_000 },
  ]);
  clock.jumpWall(-10_000);
  book.open(subject(), counter()).end();
  t.match(book.take(10), [{ firstAtMs: MIDNIGHT - 9_000 }], 'a clock that is set back does no harm');
});

t.test('memory is bounded by folding, and no byte is left out', async (t) => {
  const { book } = start({ usageEntriesMax: 80, usageEntriesPerBuyerMax: 40 });
  const stream = (fields: Partial<UsageSubject>, bytes: number) => {
    const counts = counter();
    const flow = book.open(subject(fields), counts);
    counts.bytesUp = bytes;
    flow.end();
  };
  for (let i = 0; i < 10_000; i++) stream({ host: `h${i}.example`, tag: 'crawl' }, 1);
  t.equal(book.size, 36, '35 hosts, the others in one');
  t.equal(book.folded, 10_000 - 35);
  stream({ host: 'h3.example', tag: 'crawl' }, 1);
  t.equal(book.folded, 10_000 - 35, 'what has its place keeps it');

  for (let i = 0; i < 1_000; i++) stream({ host: `n${i}.example`, sessionName: `s${i}` }, 1);
  t.equal(book.size, 36 + 4 + 1, '4 session names with their hosts folded, the others in one');

  stream({ buyerId: 'another', host: 'quiet.example' }, 1);
  const told = book.take(1_000);
  t.match(
    told.find((u) => u.buyerId === 'another'),
    { host: 'quiet.example' },
    'others keep their room',
  );
  t.same(sum(told), { up: 11_002, down: 0, streams: 11_002 });
  t.match(
    told.find((u) => u.host === OTHER && u.tag === 'crawl'),
    { port: 0, bytesUp: 10_000 - 35 },
  );
  t.match(
    told.find((u) => u.sessionName === OTHER),
    { host: OTHER, bytesUp: 1_000 - 4, tag: null },
  );

  t.equal(book.size, 0);
  stream({ host: 'h9999.example' }, 1);
  t.match(book.take(10), [{ host: 'h9999.example' }], 'with the delivery there is room again');

  for (let b = 0; b < 50; b++)
    for (let i = 0; i < 5; i++) stream({ buyerId: `b${b}`, host: `h${i}.example` }, 1);
  t.ok(book.size <= 80 + 50, 'the limit over all buyers, and at most one more for each allocation');
});

t.test('taken in parts', async (t) => {
  const { book, clock } = start({}, MIDNIGHT - 1);
  const flows = Array.from({ length: 5 }, (_, i) => book.open(subject({ port: i + 1 }), counter()));
  clock.advance(1);
  for (const flow of flows) flow.end();
  book.open(subject({ port: 9 }), counter());
  t.same([book.take(3).length, book.take(3).length, book.take(3).length], [3, 3, 0]);
});

t.test('a random history: the sums are what was counted', async (t) => {
  const { book, clock } = start({ usageEntriesMax: 64, usageEntriesPerBuyerMax: 32 });
  let seed = 42;
  const random = (n: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed % n;
  };
  const live: Array<{ flow: ReturnType<UsageBook['open']>; counts: ReturnType<typeof counter> }> = [];
  const told: DestinationUsage[] = [];
  const expected = { up: 0, down: 0, streams: 0 };
  for (let step = 0; step < 50_000; step++) {
    const pick = live[random(live.length || 1)];
    const what = random(10);
    if (what < 3) {
      const counts = counter();
      const fields = {
        buyerId: `b${random(4)}`,
        host: `h${random(200)}.example`,
        sessionName: `s${random(20)}`,
      };
      live.push({ flow: book.open(subject({ ...fields, allocationId: randomUUID() }), counts), counts });
      expected.streams++;
    } else if (what < 7 && pick) {
      const [up, down] = [random(1_000), random(1_000)];
      pick.counts.bytesUp += up;
      pick.counts.bytesDown += down;
      expected.up += up;
      expected.down += down;
    } else if (what === 7 && pick) {
      pick.flow.end();
      live.splice(live.indexOf(pick), 1);
    } else if (what === 8) book.sweep();
    else told.push(...book.take(random(20)));
    if (random(500) === 0) clock.advance(random(DAY_MS));
  }
  for (const { flow } of live) flow.end();
  while (book.size > 0) told.push(...book.take(7));
  t.same(sum(told), expected);
});
