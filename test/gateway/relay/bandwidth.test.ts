/** Who may send when, on a clock and timers that the test moves. */
import fc from 'fast-check';
import t from 'tap';
import {
  type AccountBandwidth,
  BandwidthLimits,
  type BandwidthRates,
} from '../../../gateway/relay/bandwidth.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';

const PIECE_BYTES = 60_000;
const rates = (buyer: number | null, account: number | null = null): BandwidthRates => ({
  buyerBytesPerSecond: buyer,
  accountBytesPerSecond: account,
});

function scene(settings: ConstructorParameters<typeof BandwidthLimits>[1] = {}) {
  const clock = new ManualClock();
  const timers = new Set<{ atMs: number; run: () => void }>();
  const limits = new BandwidthLimits(clock, settings, (afterMs, run) => {
    const timer = { atMs: clock.monotonicMs() + afterMs, run };
    timers.add(timer);
    return () => timers.delete(timer);
  });
  /** Moves time on in steps of 1 ms; `lateMs`: how late timers are. */
  const pass = (ms: number, lateMs = 0) => {
    for (let i = 0; i < ms; i++) {
      clock.advance(1);
      for (const timer of [...timers]) {
        if (timer.atMs + lateMs > clock.monotonicMs()) continue;
        timers.delete(timer);
        timer.run();
      }
    }
  };
  return { clock, limits, timers, pass };
}

/** A stream with always more to send: it sends what it may, then waits. */
class Sender {
  bytes = 0;
  readonly order: string[];
  readonly waiter = { retry: () => this.send() };
  constructor(
    readonly name: string,
    readonly bandwidth: AccountBandwidth,
    order: string[] = [],
    readonly pieceBytes = PIECE_BYTES,
  ) {
    this.order = order;
  }
  send(): void {
    for (let pieces = 0; pieces < 10_000; pieces++) {
      if (this.bandwidth.limited && !this.bandwidth.admits(this.waiter)) return;
      if (this.bandwidth.limited) this.bandwidth.spend(this.pieceBytes);
      this.bytes += this.pieceBytes;
      this.order.push(this.name);
    }
  }
}

t.test('no limit: nothing is asked and no timer set', async (t) => {
  const { limits, timers } = scene();
  const bandwidth = limits.acquire('buyer', 'acme', rates(null));
  t.equal(bandwidth.limited, false);
  new Sender('a', bandwidth).send();
  t.equal(timers.size, 0);
});

t.test('the burst, then the rate, and no timer while nobody waits', async (t) => {
  const { limits, pass, timers } = scene();
  const sender = new Sender('a', limits.acquire('buyer', 'acme', rates(1_000_000)));
  t.equal(timers.size, 0);
  sender.send();
  t.equal(sender.bytes, 120_000, 'the burst of 100 000 bytes, in whole pieces');
  pass(10_000);
  t.ok(Math.abs(sender.bytes - 10_100_000) <= PIECE_BYTES, `${sender.bytes}`);
  t.equal(timers.size, 1);
  sender.bandwidth.leave(sender.waiter);
  pass(1_000);
  t.equal(timers.size, 0, 'nobody waits any more');
  t.ok(sender.bytes <= 10_160_000);
});

t.test('late timers cost nothing', async (t) => {
  const { limits, pass } = scene();
  const sender = new Sender('a', limits.acquire('buyer', 'acme', rates(2_000_000)));
  sender.send();
  pass(10_000, 300);
  t.ok(sender.bytes > 19_300_000 && sender.bytes < 20_300_000, `${sender.bytes}`);
});

t.test('one piece in turn: streams, their directions, and who comes later', async (t) => {
  const { limits, pass } = scene();
  const order: string[] = [];
  const senders = ['a', 'b', 'c'].map(
    (name) => new Sender(name, limits.acquire('buyer', 'acme', rates(1_000_000)), order),
  );
  for (const sender of senders) sender.send();
  order.length = 0;
  pass(1_000);
  t.ok(order.length >= 15);
  t.same(
    order,
    order.map((_, i) => ['a', 'b', 'c'][i % 3]),
    'strictly in turn',
  );
  const late = new Sender('late', limits.acquire('buyer', 'acme', rates(1_000_000)), order);
  late.send();
  t.equal(late.bytes, 0, 'it does not overtake');
  pass(300);
  t.ok(late.bytes > 0);
});

t.test('who has nothing to offer when its turn comes may send its next piece, once', async (t) => {
  const { limits, pass } = scene();
  const busy = new Sender('busy', limits.acquire('buyer', 'acme', rates(1_000_000)));
  const datagrams = new Sender('datagrams', limits.acquire('buyer', 'acme', rates(1_000_000)));
  busy.send();
  datagrams.waiter.retry = () => {}; // what was refused is dropped
  datagrams.send();
  t.equal(datagrams.bytes, 0);
  pass(500);
  datagrams.send();
  t.equal(datagrams.bytes, PIECE_BYTES, 'though another stream waits all the time');
  pass(500);
  datagrams.send();
  t.equal(datagrams.bytes, 2 * PIECE_BYTES);
  pass(500);
  datagrams.bandwidth.leave(datagrams.waiter);
  datagrams.send();
  t.equal(datagrams.bytes, 2 * PIECE_BYTES, 'who left has none');
  pass(8_500);
  t.ok(busy.bytes + datagrams.bytes < 10_200_000, 'and it is part of the rate');
});

t.test('a sub-user has its own rate within the buyer’s', async (t) => {
  const { limits, pass } = scene();
  const slow = new Sender('slow', limits.acquire('buyer', 'sub1', rates(1_000_000, 100_000)));
  const fast = new Sender('fast', limits.acquire('buyer', 'sub2', rates(1_000_000)));
  const owner = new Sender('owner', limits.acquire('buyer', 'acme', rates(1_000_000)));
  const other = new Sender('other', limits.acquire('another', 'other', rates(500_000)));
  for (const sender of [slow, fast, owner, other]) sender.send();
  pass(20_000);
  const near = (bytes: number, expected: number) => Math.abs(bytes - expected) < 200_000;
  t.ok(near(slow.bytes, 2_000_000), `${slow.bytes}`);
  t.ok(near(slow.bytes + fast.bytes + owner.bytes, 20_000_000), 'the sum keeps to the buyer’s rate');
  t.ok(near(fast.bytes, owner.bytes), 'accounts of a buyer are served in turn');
  t.ok(near(other.bytes, 10_000_000), 'another buyer has its own');
});

t.test('one account with many streams leaves another account of the buyer its turn', async (t) => {
  const { limits, pass } = scene();
  const many = Array.from(
    { length: 20 },
    (_, i) => new Sender(`m${i}`, limits.acquire('buyer', 'sub1', rates(1_000_000))),
  );
  const one = new Sender('one', limits.acquire('buyer', 'sub2', rates(1_000_000)));
  for (const sender of [...many, one]) sender.send();
  pass(10_000);
  t.ok(one.bytes > 4_500_000, `${one.bytes}`);
});

t.test('a changed rate holds at once, lifted and set', async (t) => {
  const { limits, pass } = scene();
  const bandwidth = limits.acquire('buyer', 'acme', rates(10_000));
  const sender = new Sender('a', bandwidth);
  sender.send();
  pass(5_000);
  const before = sender.bytes;
  limits.setRates('buyer', 'acme', rates(1_000_000));
  pass(5_000);
  t.ok(sender.bytes - before > 4_800_000, 'who waits goes on at the new rate');
  limits.setRates('buyer', 'acme', rates(null));
  pass(2);
  t.equal(bandwidth.limited, false);
  t.ok(sender.bytes > 100_000_000, 'who waited is let go');
  const free = sender.bytes;
  limits.setRates('buyer', 'acme', rates(500_000));
  sender.send();
  pass(2_000);
  t.ok(sender.bytes - free < 1_250_000, `${sender.bytes - free}`);
  limits.setRates('nobody', 'nothing', rates(1));
});

t.test('an account is remembered until its bucket is full again: reconnecting wins no burst', async (t) => {
  const { limits, pass } = scene({ bandwidthSweepAt: 2 });
  const reconnect = (account: string) => {
    const sender = new Sender(account, limits.acquire(account, account, rates(100_000)));
    sender.send();
    sender.bandwidth.leave(sender.waiter);
    sender.bandwidth.release();
    return sender.bytes;
  };
  t.equal(reconnect('a'), 120_000);
  for (let i = 0; i < 50; i++) t.equal(reconnect(i % 2 ? 'a' : `b${i}`) > 0, i % 2 === 0);
  pass(5_000);
  t.ok(reconnect('a') > 0);
});

t.test('for every history: never above rate and burst, and whoever can send does', async (t) => {
  const step = fc.record({ waitMs: fc.nat(300), sender: fc.nat(5), leaves: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 20, maxLength: 60 }),
      fc.integer({ min: 20_000, max: 5_000_000 }),
      (steps, rate) => {
        const { limits, pass, clock } = scene();
        const sent: Array<{ atMs: number; bytes: number }> = [];
        const senders = Array.from({ length: 6 }, (_, i) => {
          const sender = new Sender(`${i}`, limits.acquire('buyer', `acc${i % 3}`, rates(rate)), []);
          sender.send = () => {
            for (;;) {
              if (!sender.bandwidth.admits(sender.waiter)) return;
              sender.bandwidth.spend(PIECE_BYTES);
              sent.push({ atMs: clock.monotonicMs(), bytes: PIECE_BYTES });
            }
          };
          return sender;
        });
        for (const { waitMs, sender: which, leaves } of steps) {
          const sender = senders[which] as Sender;
          if (leaves) sender.bandwidth.leave(sender.waiter);
          else sender.send();
          pass(waitMs);
        }
        // The last one, alone, still gets what is due.
        for (const each of senders) each.bandwidth.leave(each.waiter);
        const before = sent.length;
        senders[0]?.send();
        pass(Math.ceil((2 * PIECE_BYTES * 1_000) / rate) + 2_000);
        const burstBytes = Math.max(65_536, rate / 10) + PIECE_BYTES;
        let bytes = 0;
        const withinRate = sent.every((one) => {
          bytes += one.bytes;
          return bytes <= burstBytes + (one.atMs * rate) / 1_000 + 1;
        });
        return withinRate && sent.length > before;
      },
    ),
    { numRuns: 200 },
  );
  t.pass('held for every history');
});
