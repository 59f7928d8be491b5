import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { Verdict } from '../../../agent-protocol/verdict.js';
import { runOf, walletField } from '../../../gateway/live/records.js';
import { bytesWithin, chargeCeil, chargeFloor } from '../../../gateway/metering/charge.js';
import type { MeterBinding } from '../../../gateway/metering/meter.js';
import type { MeterSubject } from '../../../gateway/metering/registry.js';
import type { Wallet } from '../../../gateway/metering/wallet.js';
import { WalletBook } from '../../../gateway/metering/wallet-book.js';
import type { WalletAnswer, WalletAsking, WalletChannel } from '../../../gateway/metering/wallet-channel.js';
import type { WalletSettings } from '../../../gateway/metering/wallet-settings.js';
import type { ManualClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { folder, type Metering, mustOpen, startMetering, subject } from './harness.js';

const KiB = 2 ** 10;
const MiB = 2 ** 20;
const { GO, WAIT, REFUSE } = Verdict;

/** Redis and control plane in one, in memory: answers when the test says so. */
class Bank implements WalletChannel {
  readonly asks = new Map<string, WalletAsking>();
  readonly shown = new Map<string, WalletAnswer>();
  away = false;
  asked = 0;
  rings = 0;
  /** The most that is granted in all, by field. */
  readonly limits = new Map<string, number>();
  /** What is said when there is not enough. */
  short: WalletAnswer['state'] = 'exhausted';
  constructor(public units: number) {}
  async ask(asks: readonly WalletAsking[]): Promise<void> {
    if (this.away) throw new Error('away');
    for (const ask of asks) {
      this.asked++;
      if (ask.ring) this.rings++;
      const old = this.asks.get(ask.field);
      this.asks.set(ask.field, {
        field: ask.field,
        wantGranted: Math.max(ask.wantGranted, old?.wantGranted ?? 0),
        renounced: Math.max(ask.renounced, old?.renounced ?? 0),
        withdrawn: Math.max(ask.withdrawn, old?.withdrawn ?? 0),
        finished: ask.finished || old?.finished === true,
        ring: ask.ring,
      });
    }
  }
  async read(fields: readonly string[]): Promise<Array<WalletAnswer | null>> {
    if (this.away) throw new Error('away');
    return fields.map((field) => this.shown.get(field) ?? null);
  }
  async readAll(): Promise<Map<string, WalletAnswer>> {
    if (this.away) throw new Error('away');
    return new Map(this.shown);
  }
  /** All that is asked while there is some. */
  answer(): void {
    for (const { field, wantGranted, withdrawn } of this.asks.values()) {
      if (withdrawn >= wantGranted) continue;
      const granted = this.shown.get(field)?.granted ?? 0;
      const limit = this.limits.get(field) ?? Number.POSITIVE_INFINITY;
      const given = Math.max(0, Math.min(this.units, limit - granted, wantGranted - granted));
      this.units -= given;
      const state = granted + given >= wantGranted ? 'open' : this.short;
      this.shown.set(field, { granted: granted + given, answered: wantGranted, state });
    }
  }
}

interface World extends Metering {
  bank: Bank;
  book: WalletBook;
  clock: ManualClock;
  /** Tick, answer, tick. */
  round: () => Promise<void>;
  open: (more?: Partial<MeterSubject>) => { binding: MeterBinding; wallet: Wallet };
}

const BUYER = subject().buyerId;

async function world(t: Test, units: number, settings: Partial<WalletSettings> = {}): Promise<World> {
  const metering = await startMetering(t, join(folder(t), 'journal'), {
    limits: { journalSlotsMax: 256 },
  });
  const { registry, clock } = metering;
  const bank = new Bank(units);
  const book = new WalletBook({
    epoch: registry.epoch,
    channel: bank,
    clock,
    log: silentLog,
    unsettledRuns: () => registry.runs(),
    settings,
  });
  return {
    ...metering,
    bank,
    book,
    async round() {
      await book.tick();
      bank.answer();
      await book.tick();
    },
    open(more = {}) {
      const wallet = book.wallet({ kind: 'buyer', ownerId: BUYER });
      const binding = mustOpen(registry, subject({ buyerId: BUYER, wallets: [wallet], ...more }));
      return { binding, wallet };
    },
  };
}

/** Counts pieces until one is not let through; says what was said then. */
function spend(binding: MeterBinding, bytesMax = Number.POSITIVE_INFINITY, piece = 64 * KiB): Verdict {
  for (let bytes = 0; bytes < bytesMax; bytes += piece) {
    const verdict = bytes % (2 * piece) === 0 ? binding.countDown(piece) : binding.countUp(piece);
    if (verdict !== GO) return verdict;
  }
  return GO;
}

class Waiter {
  retries = 0;
  cuts = 0;
  retry(): void {
    this.retries++;
  }
  cut(): void {
    this.cuts++;
  }
}

t.test('what bytes cost is what settlement books', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 45 }),
      fc.bigInt({ min: 0n, max: 20_000_000n }),
      (bytes, price) => {
        const exact = (BigInt(bytes) * price) / 1_000_000_000n;
        const ceil = chargeCeil(bytes, price);
        const affordable = bytesWithin(ceil, price);
        return (
          BigInt(chargeFloor(bytes, price)) === exact &&
          BigInt(ceil) - exact <= 1n &&
          affordable >= bytes &&
          (price === 0n || affordable === Number.MAX_SAFE_INTEGER || chargeCeil(affordable, price) <= ceil) &&
          (price === 0n || affordable === Number.MAX_SAFE_INTEGER || chargeCeil(affordable + 1, price) > ceil)
        );
      },
    ),
  );
  t.equal(chargeFloor(2 ** 53 - 1, 2n ** 62n), Number.POSITIVE_INFINITY);
  t.end();
});

t.test('a wallet is asked for, filled, used to the last piece, and then refused', async (t) => {
  const { bank, round, open } = await world(t, chargeCeil(10 * MiB, 2_000_000n));
  const { binding, wallet } = open();
  t.equal(binding.countUp(1), WAIT, 'nothing is known of it');
  const waiter = new Waiter();
  binding.wait(waiter);
  await round();
  t.same([waiter.retries, waiter.cuts], [1, 0]);
  let verdict: Verdict = GO;
  for (let i = 0; i < 20 && verdict !== REFUSE; i++) {
    verdict = spend(binding);
    await round();
  }
  t.equal(verdict, REFUSE);
  t.equal(binding.refusal, 'NO_BALANCE');
  t.ok(
    binding.countedBytes > 10 * MiB - 64 * KiB && binding.countedBytes <= 10 * MiB,
    `${binding.countedBytes}`,
  );
  t.ok(wallet.used <= wallet.granted);
  t.equal(bank.units, 0);
  t.equal(await wallet.admit(2_000_000n), wallet.left > 0 ? 'admitted' : 'exhausted');
});

t.test('many bindings use the last bytes: leases that lie idle are taken back', async (t) => {
  const { round, open, registry } = await world(t, 4 * MiB, { leaseBytesMax: 4 * MiB });
  const price = { buyerPriceMicrosPerGb: '1000000000' }; // one micro-dollar a byte
  const some = Array.from({ length: 8 }, () => open(price).binding);
  await round();
  for (const binding of some) binding.countUp(1);
  await round();
  const [one] = some as [MeterBinding];
  let verdict = spend(one);
  for (let i = 0; i < 20 && verdict === WAIT; i++) {
    await round();
    verdict = spend(one);
  }
  t.equal(verdict, REFUSE);
  const counted = some.reduce((sum, binding) => sum + binding.countedBytes, 0);
  t.ok(counted > 4 * MiB - 64 * KiB && counted <= 4 * MiB, `${counted}`);
  registry.closeAll({ allocationEnded: true });
});

t.test('three wallets: the shortest decides, and says why', async (t) => {
  const { book, bank, round, open } = await world(t, Number.MAX_SAFE_INTEGER);
  const allocationId = subject().allocationId;
  const pack = book.wallet({ kind: 'package', ownerId: allocationId });
  const buyer = book.wallet({ kind: 'buyer', ownerId: BUYER });
  bank.limits.set(pack.field, MiB);
  const { binding } = open({ allocationId, wallets: [buyer, pack] });
  t.equal(binding.countUp(1), WAIT);
  await round();
  t.equal(spend(binding, 4 * MiB), REFUSE);
  t.equal(binding.refusal, 'QUOTA_REACHED');
  t.equal(binding.countedBytes, MiB);
});

t.test('a waiter goes on when more comes, and is cut when it does not come in time', async (t) => {
  const { bank, book, clock, open, round } = await world(t, 0, { walletWaitMs: 10_000 });
  const { binding, wallet } = open();
  t.equal(binding.countUp(1), WAIT);
  const [first, second] = [new Waiter(), new Waiter()];
  binding.wait(first);
  binding.wait(first);
  binding.wait(second);
  t.equal(book.waiterCount, 2);
  binding.unwait(second);
  clock.advance(9_000);
  await book.tick();
  t.same([first.retries, first.cuts], [0, 0]);
  bank.units = 1_000_000;
  await round();
  t.same([first.retries, first.cuts], [1, 0]);
  t.equal(binding.countUp(1), GO);

  bank.units = 0;
  bank.short = 'wait';
  t.equal(spend(binding), WAIT);
  await round();
  t.equal(wallet.state, 'wait');
  t.equal(binding.countUp(64 * KiB), WAIT);
  const third = new Waiter();
  binding.wait(third);
  clock.advance(9_999);
  await book.tick();
  t.equal(third.cuts, 0);
  clock.advance(1);
  await book.tick();
  t.equal(third.cuts, 1);
  t.equal(binding.refusal, 'NO_BALANCE');
  t.equal(book.cutCount, 1);
  t.same([second.retries, second.cuts], [0, 0]);
});

t.test('a new connection: at once when known, when answered, or not at all', async (t) => {
  const { bank, book, clock, round } = await world(t, 5_000_000);
  const wallet = book.wallet({ kind: 'buyer', ownerId: BUYER });
  const asked = wallet.admit(2_000_000n);
  t.type(asked, Promise);
  await round();
  t.equal(await asked, 'admitted');
  t.equal(wallet.admit(2_000_000n), 'admitted', 'without a promise');

  bank.units = 0;
  const poor = book.wallet({ kind: 'buyer', ownerId: subject().buyerId });
  const refused = poor.admit(2_000_000n);
  await round();
  t.equal(await refused, 'exhausted');
  t.equal(poor.admit(2_000_000n), 'exhausted', 'without a promise');
  bank.units = 1_000_000;
  book.askAgain(poor.owner);
  const again = poor.admit(2_000_000n);
  t.type(again, Promise, 'what was exhausted is not believed any more');
  await round();
  t.equal(await again, 'admitted');

  bank.away = true;
  const nobody = book.wallet({ kind: 'buyer', ownerId: subject().buyerId });
  const unanswered = nobody.admit(2_000_000n);
  await book.tick();
  clock.advance(3_000);
  await book.tick();
  t.equal(await unanswered, 'unavailable');
  t.ok(book.failures > 0);
});

t.test('a wallet that is not confirmed for its term is not used, and is again once it is', async (t) => {
  const { bank, book, clock, round, open } = await world(t, 2 ** 40);
  const { binding } = open();
  binding.countUp(1);
  await round();
  t.equal(binding.countUp(1), GO);
  bank.away = true;
  clock.advance(119_000);
  await book.tick();
  t.equal(spend(binding, 5 * MiB), GO, 'within the term it goes on');
  clock.advance(2_000);
  await book.tick();
  t.equal(binding.countUp(1), WAIT, 'also what was leased already');
  bank.away = false;
  await round();
  t.equal(binding.countUp(1), GO);
});

t.test('what is not used is given back; a closed meter keeps exactly what is booked', async (t) => {
  const { bank, book, clock, round, open, registry } = await world(t, 2 ** 40, { walletIdleMs: 10_000 });
  const { binding, wallet } = open();
  binding.countUp(1);
  await round();
  t.equal(spend(binding, MiB, 1_000), GO);
  registry.close(binding, { allocationEnded: true });
  t.equal(wallet.used, chargeFloor(binding.countedBytes, 2_000_000n));
  for (let i = 0; i < 11; i++) {
    clock.advance(1_000);
    await book.tick();
  }
  t.equal(wallet.left, 0);
  t.equal(bank.asks.get(wallet.field)?.renounced, wallet.granted - wallet.used);
  t.equal(bank.asks.get(wallet.field)?.finished, false);

  const { binding: next } = open();
  t.equal(next.countUp(1), WAIT, 'and asked for again');
  await round();
  t.equal(next.countUp(1), GO);
});

t.test('an emptied or rolled back Redis is told again, and changes nothing', async (t) => {
  const { bank, book, clock, round, open } = await world(t, 2 ** 40);
  const { binding, wallet } = open();
  binding.countUp(1);
  await round();
  spend(binding, 100 * MiB);
  const old = new Map(bank.shown);
  await round();
  spend(binding, 20 * MiB);
  await round();
  const { granted, want } = wallet;
  bank.shown.clear();
  bank.asks.clear();
  clock.advance(2_000);
  await book.tick();
  t.ok((bank.asks.get(wallet.field)?.wantGranted ?? 0) >= want, 'said again by itself');
  t.equal(wallet.granted, granted);
  for (const [field, answer] of old) bank.shown.set(field, answer);
  bank.asks.clear();
  clock.advance(2_000);
  await book.tick();
  await book.tick();
  t.equal(wallet.granted, granted, 'never falls');
  t.ok(bank.asks.has(wallet.field));
  t.equal(spend(binding, MiB), GO);
});

t.test('wallets of earlier runs are finished once nothing of them is left to book', async (t) => {
  const { bank, book, registry, open, clock, round } = await world(t, 2 ** 40);
  const old = walletField('0'.repeat(24), { kind: 'buyer', ownerId: BUYER });
  bank.shown.set(old, { granted: 5, answered: 5, state: 'open' });
  await book.tick();
  t.equal(bank.asks.get(old)?.finished, true);

  const { binding, wallet } = open();
  binding.countUp(1);
  await round();
  binding.countUp(100);
  t.same([...registry.runs()], [runOf(registry.epoch)]);
  registry.closeAll({ allocationEnded: true });
  clock.advance(1_000);
  const later = new WalletBook({
    epoch: 'f'.repeat(32),
    channel: bank,
    clock,
    log: silentLog,
    unsettledRuns: () => registry.runs(),
  });
  await later.tick();
  t.equal(bank.asks.get(wallet.field)?.finished, false, 'a meter of it is not settled');
  for (const meter of [...registry.finalMeters()])
    registry.settle(meter, { bytesUp: meter.bytesUp, bytesDown: meter.bytesDown, final: true });
  clock.advance(1_000);
  await later.tick();
  t.equal(bank.asks.get(wallet.field)?.finished, true);
  t.ok(await book.finish());
  t.equal(binding.countUp(1), REFUSE);
});

t.test('whatever happens, what is booked stays within granted less renounced', async (t) => {
  const step = fc.record({
    what: fc.constantFrom(
      'count',
      'roll',
      'close',
      'tick',
      'answer',
      'pass',
      'wipe',
      'rollback',
      'away',
      'fund',
    ),
    n: fc.nat(3),
    bytes: fc.integer({ min: 0, max: 64 * KiB }),
  });
  const PRICES = ['0', '1', '2000000', '999999999'];
  const holds = fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 1_000_000 }),
      fc.array(step, { maxLength: 60 }),
      async (units, steps) => {
        const w = await world(t, units, { walletFillBytesMin: 256 * KiB, leaseBytesMax: 128 * KiB });
        const rows = Array.from({ length: 4 }, (_, n) =>
          w.open({ buyerPriceMicrosPerGb: PRICES[n] as string }),
        );
        const { wallet } = rows[0] as { wallet: Wallet };
        let saved = new Map(w.bank.shown);
        for (const { what, n, bytes } of steps) {
          const { binding } = rows[n] as { binding: MeterBinding };
          if (what === 'count') binding.countUp(bytes);
          else if (what === 'roll' && !binding.closed)
            w.registry.roll(binding, {
              providerPriceMicrosPerGb: '1',
              buyerPriceMicrosPerGb: PRICES[bytes % 4] as string,
            });
          else if (what === 'close') w.registry.close(binding, { allocationEnded: false });
          else if (what === 'tick') await w.book.tick();
          else if (what === 'answer') w.bank.answer();
          else if (what === 'pass') w.clock.advance(bytes);
          else if (what === 'wipe') w.bank.asks.clear();
          else if (what === 'rollback') {
            const before = saved;
            saved = new Map(w.bank.shown);
            if (bytes % 2 === 0) for (const [field, answer] of before) w.bank.asks.delete(field) && answer;
          } else if (what === 'away') w.bank.away = bytes % 2 === 0;
          else w.bank.units += bytes;
          let booked = 0;
          for (const meter of w.registry.meters())
            booked += chargeFloor(
              meter.bytesUp + meter.bytesDown,
              BigInt(meter.identity.buyerPriceMicrosPerGb),
            );
          const shownGranted = w.bank.shown.get(wallet.field)?.granted ?? 0;
          if (booked > wallet.used || wallet.left < 0 || wallet.granted > shownGranted) return false;
        }
        for (const { binding } of rows) w.registry.close(binding, { allocationEnded: true });
        let booked = 0;
        for (const meter of w.registry.meters())
          booked += chargeFloor(
            meter.bytesUp + meter.bytesDown,
            BigInt(meter.identity.buyerPriceMicrosPerGb),
          );
        return wallet.used === booked;
      },
    ),
    { numRuns: 60 },
  );
  await t.resolves(holds);
});
