import { chargeMicros } from '../../control-plane/ledger/money.js';
import type { BookResult } from '../../control-plane/settlement/book.js';
import type { BookedAllocation, BookedSession, MeterState } from '../../control-plane/settlement/booked.js';
import {
  type BookingPlan,
  type BookingState,
  type HoldSpent,
  planBooking,
} from '../../control-plane/settlement/core.js';
import type { MeterClaim } from '../../control-plane/settlement/reports.js';
import type { SettlementSettings } from '../../control-plane/settlement/settings.js';
import { runOf, type WalletKind } from '../../gateway/live/records.js';
import { accountKey, holdKey, type MeterRow, type SimulatedDatabase, type Transaction } from './database.js';
import type { Random } from './random.js';
import type { Thread } from './thread.js';

/** Told of everything that a commit changed, in the moment it becomes visible. */
export interface BooksObserver {
  meterBooked(before: MeterRow | undefined, after: MeterRow): void;
  /** A booking has drawn on holds; all of it is visible. */
  spent(draws: readonly HoldSpent[]): void;
  fail(invariant: string, detail: string): never;
}

/** Where the books of a variant differ from the project's. */
export interface BooksVariant {
  /** One mark for each session instead of one for each meter. */
  markPerSession: boolean;
  /** A mark becomes what the report says, also when that is less. */
  setInsteadOfMax: boolean;
}

class SerializationFailure extends Error {
  readonly code = '40001';
}

/**
 * `bookMeters` on simulated tables: the locks, reads and writes of `settlement/book.ts` in its order, around the
 * project's own plan. One transaction; begun anew after a serialization failure, as `withTransaction` does.
 */
export class Books {
  readonly #db: SimulatedDatabase;
  readonly #settings: SettlementSettings;
  readonly #observer: BooksObserver;
  readonly #variant: BooksVariant;
  readonly #buyers: ReadonlySet<string>;

  constructor(
    db: SimulatedDatabase,
    buyers: ReadonlySet<string>,
    settings: SettlementSettings,
    observer: BooksObserver,
    variant: BooksVariant,
  ) {
    this.#db = db;
    this.#buyers = buyers;
    this.#settings = settings;
    this.#observer = observer;
    this.#variant = variant;
  }

  async book(
    thread: Thread,
    random: Random,
    gatewayId: string,
    claims: readonly MeterClaim[],
  ): Promise<BookResult> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#db.transaction(thread, random, (tx) => this.#book(tx, gatewayId, claims));
      } catch (error) {
        if (!(error instanceof SerializationFailure) || attempt > 5) throw error;
      }
    }
  }

  async #book(tx: Transaction, gatewayId: string, claims: readonly MeterClaim[]): Promise<BookResult> {
    const db = this.#db;
    const sessionIds = distinct(claims.map((c) => c.sessionId));
    await tx.lock('sessions', sessionIds);
    const known = distinct(claims.map((c) => c.allocationId)).filter((id) => db.allocations.has(id));
    await tx.lock('allocations', known);
    const state = await tx.statement(() => this.#read(gatewayId, claims, sessionIds));
    const plan = planBooking(gatewayId, claims, state, this.#settings);

    const made = plan.newAllocations.map((a) => a.id);
    await tx.lock('allocations', made);
    // ON CONFLICT DO NOTHING after waiting for who made it.
    if (made.some((id) => db.allocations.has(id)))
      throw new SerializationFailure('an allocation was made meanwhile');
    const accounts = new Set<string>();
    for (const { kind, sourceId, entries } of plan.transactions) {
      if (db.ledger.has(`${kind}|${sourceId}`)) this.#observer.fail('no range is booked twice', sourceId);
      let sum = 0n;
      for (const e of entries) {
        sum += e.amountMicros;
        accounts.add(accountKey(e.account.kind, e.account.ownerId));
      }
      if (sum !== 0n) throw new Error(`ledger transaction ${sourceId} sums to ${sum}`);
    }
    await tx.lock('accounts', [...accounts]);
    const holds = plan.holdsSpent.map(holdKey).filter((key) => db.holds.has(key));
    await tx.lock('holds', holds);
    await tx.lock('sub_users', [...plan.subUserBytes.keys()]);
    await tx.lock(
      'byte_quotas',
      [...plan.quotaBytes.keys()].filter((id) => db.quotas.has(id)),
    );
    tx.write(() => this.#apply(gatewayId, plan));
    return plan;
  }

  #read(gatewayId: string, claims: readonly MeterClaim[], sessionIds: readonly string[]): BookingState {
    const db = this.#db;
    const sessions = new Map<string, BookedSession>();
    for (const id of sessionIds) {
      const row = db.sessions.get(id);
      if (row !== undefined)
        sessions.set(id, {
          id,
          userId: row.providerId,
          status: row.status,
          country: 'DE',
          city: null,
          asn: null,
          exitIp: '192.0.2.1',
          inviterId: row.inviterId,
        });
    }
    const allocations = new Map<string, BookedAllocation>();
    const meters = new Map<string, MeterState>();
    const subUsers = new Map<string, string>();
    const packages = new Set<string>();
    for (const claim of claims) {
      const allocation = db.allocations.get(claim.allocationId);
      if (allocation !== undefined) allocations.set(allocation.id, { ...allocation, fresh: false });
      const meter = this.#meterOf(gatewayId, claim);
      if (meter !== undefined) meters.set(claim.key, meter);
      const subUser = claim.subUserId === null ? undefined : db.subUsers.get(claim.subUserId);
      if (subUser !== undefined) subUsers.set(subUser.id, subUser.buyerId);
      if (claim.packageId !== null) packages.add(claim.packageId);
    }
    return {
      sessions,
      buyers: this.#buyers,
      subUsers,
      packages,
      allocations,
      meters,
      nextMeterId: () => db.nextMeterId(),
    };
  }

  #meterOf(gatewayId: string, claim: MeterClaim): MeterState | undefined {
    const row = this.#db.meters.get(gatewayId, claim.key);
    if (this.#variant.markPerSession) {
      let mark: MeterState | undefined = row;
      for (const other of this.#db.meters.values())
        if (other.sessionId === claim.sessionId && (mark === undefined || other.bytesDown > mark.bytesDown))
          mark = { ...other, id: row?.id ?? this.#db.nextMeterId(), final: row?.final ?? false };
      return mark;
    }
    if (
      this.#variant.setInsteadOfMax &&
      row !== undefined &&
      claim.bytesUp + claim.bytesDown < row.bytesUp + row.bytesDown
    ) {
      // The mark becomes what the report says: what is between them is booked once more by the next report.
      const { bytesUp, bytesDown } = claim;
      const chargedMicros = chargeMicros(bytesUp + bytesDown, claim.buyerPrice);
      const earnedMicros = chargeMicros(bytesUp + bytesDown, claim.providerPrice);
      const fallen = { ...row, bytesUp, bytesDown, chargedMicros, earnedMicros };
      this.#db.meters.set(gatewayId, claim.key, fallen);
      this.#observer.meterBooked(row, fallen);
      return fallen;
    }
    return row;
  }

  /** At the commit. */
  #apply(gatewayId: string, plan: BookingPlan): void {
    const db = this.#db;
    for (const a of plan.newAllocations)
      db.allocations.set(a.id, {
        id: a.id,
        buyerId: a.buyerId,
        packageId: a.packageId,
        subUserId: a.subUserId,
        status: 'in_progress',
        via: a.via,
        sessionId: a.sessionId,
        sizeBytes: 0n,
        bytes: 0n,
      });
    for (const { claim, meter } of plan.meters) {
      const before = db.meters.get(gatewayId, claim.key);
      const after: MeterRow = {
        id: meter.id,
        bytesUp: meter.bytesUp,
        bytesDown: meter.bytesDown,
        chargedMicros: meter.chargedMicros,
        earnedMicros: meter.earnedMicros,
        referralMicros: meter.referralMicros,
        final: meter.final,
        writtenOff: meter.writtenOff,
        subUserId: meter.subUserId,
        key: claim.key,
        gatewayId,
        sessionId: claim.sessionId,
        allocationId: claim.allocationId,
        buyerId: claim.buyerId,
        run: runOf(claim.epoch),
        buyerPrice: claim.buyerPrice,
      };
      db.meters.set(gatewayId, claim.key, after);
      this.#observer.meterBooked(before, after);
    }
    for (const claim of plan.follow) {
      const allocation = db.allocations.get(claim.allocationId);
      if (allocation !== undefined && claim.final && claim.allocationEnded) allocation.status = 'completed';
    }
    for (const gain of plan.gains) {
      const bytes = gain.bytesUp + gain.bytesDown;
      const session = db.sessions.get(gain.claim.sessionId);
      if (session !== undefined) session.bytes += bytes;
      const allocation = db.allocations.get(gain.claim.allocationId);
      if (allocation !== undefined) allocation.bytes += bytes;
    }
    for (const { kind, sourceId, entries } of plan.transactions) {
      db.ledger.add(`${kind}|${sourceId}`);
      for (const e of entries) {
        const account = accountKey(e.account.kind, e.account.ownerId);
        db.accounts.set(account, (db.accounts.get(account) ?? 0n) + e.amountMicros);
      }
    }
    for (const spent of plan.holdsSpent) {
      const hold = db.holds.get(holdKey(spent));
      if (hold !== undefined) hold.spent += spent.units;
    }
    for (const [id, bytes] of plan.subUserBytes) {
      const subUser = db.subUsers.get(id);
      if (subUser !== undefined) subUser.bytesUsed += bytes;
    }
    for (const [id, bytes] of plan.quotaBytes) {
      const quota = db.quotas.get(id);
      if (quota === undefined) continue;
      quota.dayBytes += bytes;
      quota.monthBytes += bytes;
    }
    // Postgres adds what owners without a quota have used to nothing, too.
    this.#observer.spent(plan.holdsSpent.filter(({ kind, ownerId }) => isBounded(db, kind, ownerId)));
  }
}

const distinct = (values: readonly string[]) => [...new Set(values)];

function isBounded(db: SimulatedDatabase, kind: WalletKind, ownerId: string): boolean {
  if (kind !== 'day' && kind !== 'month') return true;
  const quota = db.quotas.get(ownerId);
  return (kind === 'day' ? quota?.dayMax : quota?.monthMax) != null;
}
