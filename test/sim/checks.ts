import { chargeMicros } from '../../control-plane/ledger/money.js';
import type { HoldSpent } from '../../control-plane/settlement/core.js';
import type { WalletKind } from '../../gateway/live/records.js';
import type { MeterRegistry } from '../../gateway/metering/registry.js';
import { accountKey, type HoldRow, holdKey, type MeterRow } from './database.js';
import type { GatewayHost } from './gateway-process.js';
import type { TrueMeter } from './truth.js';
import type { World } from './world.js';

/** Something that must never happen has happened. */
export class InvariantBroken extends Error {
  readonly invariant: string;
  constructor(invariant: string, detail: string) {
    super(`${invariant}: ${detail}`);
    this.invariant = invariant;
  }
}

const stillHeld = (hold: HoldRow) => hold.granted > hold.renounced + hold.spent;

/**
 * The invariants of a world. Each is checked in the moment in which it could break, on what has just changed; what
 * can only be said of a whole history is checked at its end.
 */
export class Checks {
  readonly #world: World;
  /** Units booked of a run whose hold an admin had closed, by kind + owner: so much may be missing. */
  readonly #late = new Map<string, bigint>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Kept, too: the project's code may take the throw for a failure of its own and go on. */
  fail(invariant: string, detail: string): never {
    const broken = new InvariantBroken(invariant, detail);
    this.#world.broken ??= broken;
    throw broken;
  }

  /** Bytes went through a meter: its run never counts beyond what Postgres has set aside for it. */
  counted(meter: TrueMeter, says: { bytesUp: number; bytesDown: number }): void {
    for (const use of meter.uses) {
      if (use.used === 0n) continue;
      const hold = this.#world.db.holds.get(use.holdKey);
      const may = hold === undefined || hold.closed ? 0n : hold.granted - hold.renounced;
      if (use.used > may)
        this.fail('a run counts no more than is held for it', `${use.holdKey}: ${use.used} of ${may}`);
    }
    if (says.bytesUp !== meter.up || says.bytesDown !== meter.down)
      this.fail(
        'a meter says what went through it',
        `${meter.key}: ${says.bytesUp} + ${says.bytesDown}, truly ${meter.up} + ${meter.down}`,
      );
  }

  /** A gateway started: its journal knows everything that it must know. */
  replayed(host: GatewayHost, registry: MeterRegistry): void {
    const found = new Map<string, { bytesUp: number; bytesDown: number }>();
    for (const meter of registry.meters()) found.set(meter.key, meter);
    for (const m of this.#world.truth.meters.of(host.id)) {
      const replayed = found.get(m.key);
      if (replayed === undefined) {
        if (m.leastUp + m.leastDown > 0 && !m.final)
          this.fail(
            'a counted meter is not in the journal',
            `${m.key} with ${m.leastUp} + ${m.leastDown} bytes`,
          );
        continue;
      }
      const { bytesUp, bytesDown } = replayed;
      if (bytesUp < m.leastUp || bytesDown < m.leastDown || bytesUp > m.up || bytesDown > m.down)
        this.fail(
          'the journal says what was counted',
          `${m.key}: ${bytesUp} + ${bytesDown}, counted ${m.leastUp}…${m.up} + ${m.leastDown}…${m.down}`,
        );
      m.leastUp = bytesUp;
      m.leastDown = bytesDown;
    }
  }

  holdWritten(before: HoldRow | undefined, after: HoldRow): void {
    const world = this.#world;
    world.holdWrittenAtMs.set(after, world.databaseClock.monotonicMs());
    if (before !== undefined && (after.granted < before.granted || after.renounced < before.renounced))
      this.fail('holds never fall', after.key);
    if (before?.closed && !after.closed) this.fail('a closed hold stays closed', after.key);
    this.#covered(after.kind, after.ownerId);
  }

  /** A booking has drawn on holds. */
  spent(draws: readonly HoldSpent[]): void {
    for (const draw of draws) this.#drawn(draw);
    // All of the booking first: it has taken from the balance for each of them.
    for (const { kind, ownerId } of draws) this.#covered(kind, ownerId);
  }

  #drawn({ kind, ownerId, gatewayId, run, units }: HoldSpent): void {
    const world = this.#world;
    const hold = world.db.holds.get(holdKey({ kind, ownerId, gatewayId, run }));
    if (hold !== undefined && !hold.closed) return;
    const name = `${kind}|${ownerId}`;
    if (world.runsGivenUp.has(`${gatewayId}|${run}`))
      this.#late.set(name, (this.#late.get(name) ?? 0n) + units);
    else if (!world.truth.lostWithHost(gatewayId, run))
      this.fail('a hold is closed when all of its run is booked', `${name}|${gatewayId}|${run}: ${units}`);
  }

  /** What is held of an owner is there: of money, of a package, of a sub-user's limit, of a quota. */
  #covered(kind: WalletKind, ownerId: string): void {
    const { db } = this.#world;
    let held = 0n;
    for (const h of db.holds.values())
      if (h.kind === kind && h.ownerId === ownerId && !h.closed && stillHeld(h))
        held += h.granted - h.renounced - h.spent;
    const left = this.#left(kind, ownerId) + (this.#late.get(`${kind}|${ownerId}`) ?? 0n);
    if (left < held) this.fail('nobody overdraws', `${kind} ${ownerId}: ${held} held of ${left}`);
  }

  #left(kind: WalletKind, ownerId: string): bigint {
    const { db } = this.#world;
    if (kind === 'buyer') return db.accounts.get(accountKey('buyer_prepaid', ownerId)) ?? 0n;
    if (kind === 'package') {
      const row = db.allocations.get(ownerId);
      return (row?.sizeBytes ?? 0n) - (row?.bytes ?? 0n);
    }
    if (kind === 'day' || kind === 'month') {
      const row = db.quotas.get(ownerId);
      if (row === undefined) return 0n;
      return kind === 'day' ? (row.dayMax ?? 0n) - row.dayBytes : (row.monthMax ?? 0n) - row.monthBytes;
    }
    const row = db.subUsers.get(ownerId);
    return (row?.bytesMax ?? 0n) - (row?.bytesUsed ?? 0n);
  }

  meterBooked(before: MeterRow | undefined, after: MeterRow): void {
    const truth = this.#world.truth.meters.get(after.gatewayId, after.key);
    if (truth === undefined) {
      if (after.bytesUp + after.bytesDown > 0n)
        this.fail('booked ≤ counted', `${after.key} never counted a byte`);
      return;
    }
    if (after.bytesUp > BigInt(truth.up) || after.bytesDown > BigInt(truth.down))
      this.fail(
        'booked ≤ counted',
        `${after.key}: booked ${after.bytesUp} + ${after.bytesDown}, counted ${truth.up} + ${truth.down}`,
      );
    if (after.bytesUp < truth.bookedUp || after.bytesDown < truth.bookedDown || (truth.final && !after.final))
      this.fail(
        'marks never fall',
        `${after.key}: ${truth.bookedUp} + ${truth.bookedDown} → ${after.bytesUp} + ${after.bytesDown}`,
      );
    if (before !== undefined && before.id !== after.id) this.fail('one row for each meter', after.key);
    const charge = chargeMicros(after.bytesUp + after.bytesDown, after.buyerPrice);
    if (after.chargedMicros !== charge)
      this.fail('charged what the bytes cost', `${after.key}: ${after.chargedMicros}, not ${charge}`);
    truth.bookedUp = after.bytesUp;
    truth.bookedDown = after.bytesDown;
    truth.final = after.final;
  }

  /** What an operator would be woken for. */
  reportSetAside(key: string | undefined, reason: string | undefined): void {
    // After a loss of the host its last second may still be in Redis, above a FINAL that does not know it.
    for (const m of this.#world.truth.meters.values()) if (m.key === key && m.hostLost) return;
    this.#world.broken ??= new InvariantBroken('every report can be booked', `${key}: ${reason}`);
  }

  /** Somebody's money or bytes are still set aside. */
  holdsOpen(): boolean {
    for (const hold of this.#world.db.holds.values()) if (!hold.closed && stillHeld(hold)) return true;
    return false;
  }
  /** Nothing is left to do for anybody. */
  isQuiet(): boolean {
    const { hosts, db } = this.#world;
    for (const { process } of hosts) if (process === null || process.registry.meterCount > 0) return false;
    for (const session of db.sessions.values()) if (session.status !== 'completed') return false;
    return !this.holdsOpen();
  }
  whatIsLeft(): string {
    const { hosts, db } = this.#world;
    const slots = hosts.map((h) => `${h.id}: ${h.process?.registry.meterCount ?? 'down'} meters`);
    const sessions = [...db.sessions.values()].filter((s) => s.status !== 'completed');
    const holds = [...db.holds.values()].filter((h) => !h.closed && stillHeld(h));
    return [
      ...slots,
      ...sessions.map((s) => `session ${s.id.slice(-2)} ${s.status}`),
      ...holds.map((h) => `${h.key}: ${h.granted} - ${h.renounced} - ${h.spent} held`),
    ].join(', ');
  }

  /** An admin gives up what no gateway will ever report: only what was lost with a host may need it. */
  writeOffLost(): void {
    const { db, truth, hosts } = this.#world;
    for (const row of db.meters.values()) {
      if (row.final || row.writtenOff) continue;
      const registry = hosts.find((h) => h.id === row.gatewayId)?.process?.registry;
      if (registry?.has(row.key)) continue;
      const known = truth.meters.get(row.gatewayId, row.key);
      if (known !== undefined && !known.hostLost)
        this.fail('every meter becomes FINAL', `${row.key} is in no journal`);
      row.writtenOff = true;
    }
  }

  /** All is quiet: what was counted is what was booked, to the byte and to the micro-dollar. */
  end(): void {
    const { db, truth, buyers, funded } = this.#world;
    for (const m of truth.meters.values()) {
      const row = db.meters.get(m.gatewayId, m.key);
      const up = row?.bytesUp ?? 0n;
      const down = row?.bytesDown ?? 0n;
      if (up < BigInt(m.leastUp) || down < BigInt(m.leastDown))
        this.fail(
          'everything counted is booked',
          `${m.key}: booked ${up} + ${down}, counted ${m.leastUp} + ${m.leastDown}`,
        );
    }
    const charged = new Map<string, bigint>();
    const bytes = new Map<string, bigint>();
    const add = (sums: Map<string, bigint>, name: string, units: bigint) =>
      sums.set(name, (sums.get(name) ?? 0n) + units);
    for (const row of db.meters.values()) {
      const sum = row.bytesUp + row.bytesDown;
      add(charged, row.buyerId, row.chargedMicros);
      add(bytes, row.allocationId, sum);
      add(bytes, row.sessionId, sum);
      if (row.subUserId !== null) add(bytes, row.subUserId, sum);
      add(bytes, row.buyerId, sum);
    }
    for (const buyerId of buyers) {
      const balance = db.accounts.get(accountKey('buyer_prepaid', buyerId)) ?? 0n;
      const owed = (funded.get(buyerId) ?? 0n) - (charged.get(buyerId) ?? 0n);
      if (balance !== owed)
        this.fail('a balance is what was paid in less what was charged', `${balance}, not ${owed}`);
    }
    const same = (what: string, id: string, booked: bigint) => {
      if (booked !== (bytes.get(id) ?? 0n))
        this.fail('sums are what their meters say', `${what} ${id}: ${booked}, meters ${bytes.get(id)}`);
    };
    for (const row of db.sessions.values()) same('session', row.id, row.bytes);
    for (const row of db.allocations.values()) same('allocation', row.id, row.bytes);
    for (const row of db.subUsers.values()) same('sub-user', row.id, row.bytesUsed);
    for (const row of db.quotas.values()) same('quota', row.ownerId, row.monthBytes);
    let sum = 0n;
    for (const balance of db.accounts.values()) sum += balance;
    if (sum !== 0n) this.fail('the ledger sums to zero', String(sum));
  }
}
