import t from 'tap';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { Sketch } from '../../../gateway/runtime/sketch.js';
import { RefusalBook } from '../../../gateway/usage/refusal-book.js';

const HOUR_MS = 3_600_000;

t.test('adds up by buyer, code and hour', async (t) => {
  const clock = new ManualClock();
  const book = new RefusalBook(clock, { usageRefusalEntriesMax: 100 });
  book.refused('a', { ok: false, code: 'NO_PEER' });
  clock.advance(1_000);
  const atMs = clock.nowMs();
  book.refused('a', { ok: false, code: 'NO_PEER', detail: `x"\n${'y'.repeat(100)}` });
  book.refused('a', { ok: false, code: 'AUTH_FAILED' });
  book.refused('b', { ok: false, code: 'NO_PEER' });
  clock.advance(HOUR_MS);
  book.refused('a', { ok: false, code: 'NO_PEER' });
  t.equal(book.size, 4);
  t.same(book.take(1), [
    { buyerId: 'a', code: 'NO_PEER', refusals: 2, lastAtMs: atMs, lastDetail: `x??${'y'.repeat(61)}` },
  ]);
  t.same(
    book.take(10).map(({ buyerId, code, refusals }) => [buyerId, code, refusals]),
    [
      ['a', 'AUTH_FAILED', 1],
      ['b', 'NO_PEER', 1],
      ['a', 'NO_PEER', 1],
    ],
    'the next hour is told apart',
  );
  t.equal(book.size, 0);
});

t.test('without room a refusal is counted as untold, and those that are known go on', async (t) => {
  const book = new RefusalBook(new ManualClock(), { usageRefusalEntriesMax: 2 });
  for (const buyer of ['a', 'b', 'c', 'd', 'a']) book.refused(buyer, { ok: false, code: 'NO_PEER' });
  t.equal(book.untold, 2);
  t.same(
    book.take(10).map(({ buyerId, refusals }) => [buyerId, refusals]),
    [
      ['a', 2],
      ['b', 1],
    ],
  );
});

t.test('of refusals about destinations: about how many there were, and the first few', async (t) => {
  const book = new RefusalBook(new ManualClock(), { usageRefusalEntriesMax: 100 });
  for (let n = 0; n < 300; n++)
    book.refused('a', { ok: false, code: 'REFUSED' }, { host: `h${n % 100}.example`, port: 443 });
  book.refused('a', { ok: false, code: 'PORT_BLOCKED' }, { host: `x y\n"é${'z'.repeat(300)}`, port: 25 });
  book.refused('a', { ok: false, code: 'NO_PEER' }, { host: 'h.example', port: 443 });
  book.refused('a', { ok: false, code: 'AUTH_FAILED' });
  const [refused, blocked, ...others] = book.take(10);
  const estimate = Sketch.fromText(refused?.targets ?? '')?.estimate() ?? 0;
  t.ok(Math.abs(estimate - 100) <= 26, `100 hosts: estimated ${estimate}`);
  t.same(
    refused?.samples,
    [0, 1, 2, 3, 4].map((n) => `h${n}.example:443`),
  );
  t.match(blocked?.samples, [/^x\?y\?"\?z{247}:25$/]);
  t.ok(
    blocked?.samples?.every((one) => /^[\x21-\x7e]{1,260}$/.test(one)),
    'as the control plane takes them',
  );
  t.same(
    others.map(({ code, targets, samples }) => [code, targets, samples]),
    [
      ['NO_PEER', undefined, undefined],
      ['AUTH_FAILED', undefined, undefined],
    ],
    'others say nothing of destinations',
  );
});
