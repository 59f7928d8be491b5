/** The Duplex of plain HTTP forwarding: what it counts when, and what it does with bytes that must wait. */
import { createHash, randomBytes } from 'node:crypto';
import { type Duplex, pipeline, Writable } from 'node:stream';
import t from 'tap';
import { COUNT_BYTES_KEPT, COUNT_BYTES_MAX, HELD_DATA_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { MeterBinding, MeterWaiter } from '../../gateway/metering/meter.js';
import { BandwidthLimits } from '../../gateway/relay/bandwidth.js';
import { Splice, type SpliceSubject } from '../../gateway/relay/splice.js';
import { StreamDuplex } from '../../gateway/relay/stream-duplex.js';
import { systemClock } from '../../gateway/runtime/clock.js';

const PIECE_BYTES = COUNT_BYTES_MAX - COUNT_BYTES_KEPT;
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Also when it ends with an error. */
const closed = (stream: Duplex): Promise<void> => new Promise((resolve) => stream.once('close', resolve));

/** A binding that says what it is told to, and remembers who waits. */
class FakeBinding {
  verdict: (bytes: number) => Verdict = () => Verdict.GO;
  up = 0;
  down = 0;
  readonly waiters = new Set<MeterWaiter>();
  countUp(bytes: number): Verdict {
    const verdict = this.verdict(bytes);
    if (verdict === Verdict.GO) this.up += bytes;
    return verdict;
  }
  countDown(bytes: number): Verdict {
    const verdict = this.verdict(bytes);
    if (verdict === Verdict.GO) this.down += bytes;
    return verdict;
  }
  wait(waiter: MeterWaiter): void {
    this.waiters.add(waiter);
  }
  unwait(waiter: MeterWaiter): void {
    this.waiters.delete(waiter);
  }
  goOn(): void {
    const waiters = [...this.waiters];
    this.waiters.clear();
    for (const waiter of waiters) waiter.retry();
  }
}

/** Stands for the buyer's connection: takes what it is given when it is let. */
class FakeBuyer extends Writable {
  readonly got: Buffer[] = [];
  gotBytes = 0;
  held = false;
  onSent: ((chunk: Buffer) => void) | null = null;
  #release: (() => void) | null = null;
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const take = (): void => {
      this.got.push(Buffer.from(chunk));
      this.gotBytes += chunk.length;
      this.onSent?.(chunk);
      done();
    };
    if (this.held) this.#release = take;
    else take();
  }
  letGo(): void {
    const release = this.#release;
    this.#release = null;
    release?.();
  }
}

function scene() {
  const binding = new FakeBinding();
  const buyer = new FakeBuyer();
  const sent: Buffer[] = [];
  const ends: string[] = [];
  const stream = {
    state: 'open',
    session: { heldDataBytes: 0, backlogBytes: 0 },
    sendWindowBytes: 10_000_000,
    handler: null as unknown as MuxStream['handler'],
    stops: false,
    consumedBytes: 0,
    fins: 0,
    send(bytes: Buffer, start: number, end: number) {
      sent.push(Buffer.from(bytes.subarray(start, end)));
      this.sendWindowBytes -= end - start;
      return !this.stops && this.sendWindowBytes > 0;
    },
    consumed(bytes: number) {
      this.consumedBytes += bytes;
    },
    fin() {
      this.fins++;
    },
    reset() {},
  };
  const mux = stream as unknown as MuxStream;
  const allowance = { allocationId: 'a', sizeBytes: 1e12, bytesUsed: 0 };
  const bandwidth = new BandwidthLimits(systemClock).acquire('b', 'acme', {
    buyerBytesPerSecond: null,
    accountBytesPerSecond: null,
  });
  const subject = {
    allowance,
    binding: binding as unknown as MeterBinding,
    bandwidth,
  } as unknown as SpliceSubject;
  const owner = {
    totals: { bytesUp: 0, bytesDown: 0 },
    ended: (_splice: Splice, how: string) => ends.push(how),
  };
  const splice = new Splice(mux, subject, owner, () => {});
  const duplex = new StreamDuplex(mux, splice, buyer);
  const arrive = (bytes: Buffer) => stream.handler.onData(mux, bytes, 0, bytes.length);
  const fin = () => stream.handler.onFin(mux);
  const writable = () => stream.handler.onWritable(mux);
  return { binding, buyer, sent, ends, stream, mux, duplex, splice, arrive, fin, writable };
}

t.test('out: pieces, one at a time while the tunnel holds the one before, and WAIT', async (t) => {
  const { binding, sent, stream, duplex, writable, ends } = scene();
  const bytes = randomBytes(200_000);
  stream.stops = true;
  let finished = false;
  duplex.end(bytes, () => {
    finished = true;
  });
  t.equal(binding.up, PIECE_BYTES);
  binding.verdict = () => Verdict.WAIT;
  binding.goOn();
  t.equal(binding.waiters.size, 0, 'nothing is offered while the tunnel says stop');
  writable();
  t.equal(binding.up, PIECE_BYTES);
  t.equal(binding.waiters.size, 1);
  binding.goOn();
  t.equal(binding.waiters.size, 1, 'told to wait again');
  binding.verdict = () => Verdict.GO;
  binding.goOn();
  t.equal(binding.up, 2 * PIECE_BYTES);
  stream.stops = false;
  t.equal(stream.fins, 0, 'the end waits behind the bytes');
  writable();
  await soon();
  t.ok(finished);
  t.equal(stream.fins, 1);
  t.ok(Buffer.concat(sent).equals(bytes));
  t.equal(binding.up, bytes.length);
  t.same(ends, []);
});

t.test('what the tunnel holds for the end of the turn counts against both directions', async (t) => {
  const { binding, stream, duplex, arrive } = scene();
  stream.session.heldDataBytes = HELD_DATA_BYTES_MAX;
  stream.stops = true;
  duplex.write(Buffer.alloc(PIECE_BYTES));
  t.equal(binding.up, PIECE_BYTES);
  duplex.resume();
  arrive(Buffer.alloc(10_000));
  await soon();
  t.equal(binding.up + binding.down + HELD_DATA_BYTES_MAX, COUNT_BYTES_MAX);
});

t.test('in: counted − handed over is one piece at most, and the bytes come whole', async (t) => {
  const { binding, buyer, stream, duplex, arrive, fin } = scene();
  const bytes = randomBytes(1_500_000);
  let seed = 7;
  const random = (): number => {
    seed = (seed * 48_271) % 0x7fffffff;
    return seed / 0x7fffffff;
  };
  let waits = 0;
  let worst = 0;
  binding.verdict = (piece) => {
    if (random() < 0.3) {
      waits++;
      setTimeout(() => binding.goOn(), 1);
      return Verdict.WAIT;
    }
    worst = Math.max(worst, binding.down + piece - buyer.gotBytes);
    return Verdict.GO;
  };
  const taking = setInterval(() => {
    buyer.held = random() < 0.7;
    buyer.letGo();
  }, 1);
  t.teardown(() => clearInterval(taking));
  const done = new Promise((resolve) => pipeline(duplex, buyer, resolve));
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + 1 + Math.floor(random() * 300_000));
    arrive(bytes.subarray(at, end));
    at = end;
    if (random() < 0.5) await soon();
  }
  fin();
  t.ok(stream.consumedBytes < bytes.length, 'credit goes back when the buyer has taken the bytes');
  await done;
  t.equal(sha256(Buffer.concat(buyer.got)), sha256(bytes));
  t.equal(binding.down, bytes.length);
  t.ok(waits > 5, `${waits} times WAIT`);
  t.ok(worst <= COUNT_BYTES_MAX, `${worst} bytes`);
});

t.test('in: what the buyer has taken is used again, what somebody may keep is not', async (t) => {
  for (const kept of [false, true]) {
    const { buyer, stream, duplex, arrive } = scene();
    const pieces: Buffer[] = [];
    const copies: Buffer[] = [];
    duplex.on('data', (piece: Buffer) => {
      pieces.push(piece);
      copies.push(Buffer.from(piece));
      buyer.write(kept ? Buffer.from(piece) : piece);
    });
    for (let i = 1; i <= 20; i++) {
      arrive(Buffer.alloc(PIECE_BYTES, i));
      while (stream.consumedBytes < i * PIECE_BYTES) await soon();
    }
    const memories = new Set(pieces.map((piece) => piece.buffer)).size;
    if (kept) {
      t.equal(memories, 20);
      t.ok(
        pieces.every((piece, i) => piece.equals(copies[i] as Buffer)),
        'it stays as it is',
      );
    } else t.equal(memories, 1);
    t.ok(Buffer.concat(buyer.got).equals(Buffer.concat(copies)));
  }
});

t.test('a stalled reader is owed no credit for what the connection still holds', async (t) => {
  const { buyer, stream, duplex, arrive } = scene();
  buyer.held = true;
  duplex.pipe(buyer);
  arrive(Buffer.alloc(PIECE_BYTES));
  arrive(Buffer.alloc(PIECE_BYTES));
  for (let turns = 0; turns < 5; turns++) await soon();
  t.equal(stream.consumedBytes, 0);
  buyer.held = false;
  buyer.letGo();
  while (stream.consumedBytes < 2 * PIECE_BYTES) await soon();
  t.equal(buyer.gotBytes, 2 * PIECE_BYTES);
});

t.test(
  'in: WAIT holds what comes and the end; a reset meanwhile ends it; nothing is counted then',
  async (t) => {
    const { binding, ends, duplex, mux, stream, arrive, fin, splice } = scene();
    binding.verdict = () => Verdict.WAIT;
    const got: Buffer[] = [];
    duplex.on('data', (piece: Buffer) => got.push(piece));
    await soon();
    arrive(Buffer.from('one'));
    arrive(Buffer.from('two'));
    fin();
    await soon();
    t.equal(got.length, 0);
    t.notOk(duplex.readableEnded);
    t.equal(binding.waiters.size, 1);
    duplex.once('error', () => {});
    stream.handler.onReset(mux, 1);
    await closed(duplex);
    t.same(ends, ['reset']);
    t.equal(binding.waiters.size, 0, 'it waits no more');
    binding.verdict = () => Verdict.GO;
    splice.retry();
    t.equal(binding.down, 0);
  },
);

t.test('who waits is cut when it never may go on, and refused when it may not', async (t) => {
  for (const how of ['cut', 'refuse'] as const) {
    const { binding, ends, duplex } = scene();
    binding.verdict = () => Verdict.WAIT;
    duplex.on('error', () => {});
    duplex.write('held');
    const [waiter] = binding.waiters;
    binding.verdict = () => Verdict.REFUSE;
    if (how === 'cut') waiter?.cut();
    else binding.goOn();
    await closed(duplex);
    t.same(ends, [how === 'cut' ? 'reset' : 'refused']);
    t.equal(binding.waiters.size, 0);
  }
});
