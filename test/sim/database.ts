import type { MeterState } from '../../control-plane/settlement/booked.js';
import type { WalletKind } from '../../gateway/live/records.js';
import { SimulatedFault } from './disk.js';
import type { Random } from './random.js';
import { Table } from './table.js';
import { BLOCKED, type Thread } from './thread.js';

export interface SessionRow {
  id: string;
  providerId: string;
  inviterId: string | null;
  status: 'active' | 'stopping' | 'completed';
  stoppedAtMs: number;
  bytes: bigint;
}

export interface AllocationRow {
  id: string;
  buyerId: string;
  packageId: string | null;
  subUserId: string | null;
  status: 'allocated' | 'in_progress' | 'completed';
  via: 'pull' | 'connect';
  sessionId: string | null;
  sizeBytes: bigint;
  bytes: bigint;
}

export interface MeterRow extends MeterState {
  key: string;
  gatewayId: string;
  sessionId: string;
  allocationId: string;
  buyerId: string;
  /** Micro-dollars per 10^9 bytes. */
  buyerPrice: bigint;
  run: string;
}

export interface HoldRow {
  /** `holdKey`. */
  key: string;
  kind: WalletKind;
  ownerId: string;
  gatewayId: string;
  run: string;
  granted: bigint;
  renounced: bigint;
  spent: bigint;
  answered: bigint;
  closed: boolean;
}

export interface SubUserRow {
  id: string;
  buyerId: string;
  bytesMax: bigint;
  bytesUsed: bigint;
}

/** Bytes a day and month of a buyer or sub-user. The days of a history end when it says so, its month never does. */
export interface QuotaRow {
  ownerId: string;
  dayMax: bigint | null;
  monthMax: bigint | null;
  dayBytes: bigint;
  monthBytes: bigint;
}

/** What became of a commit whose caller got no answer. */
export interface DatabaseFaults {
  /** A statement fails as if the connection were gone: the transaction rolls back. */
  connectionLost: number;
  /** It is committed, but the caller hears that the connection is gone. */
  answerLost: number;
  /** The process is killed right before the commit, or right after it. */
  killedAtCommit: number;
}

/** A database that never fails. */
export const NO_DATABASE_FAULTS: Readonly<DatabaseFaults> = {
  connectionLost: 0,
  answerLost: 0,
  killedAtCommit: 0,
};

export const holdKey = (h: { kind: WalletKind; ownerId: string; gatewayId: string; run: string }) =>
  `${h.kind}|${h.ownerId}|${h.gatewayId}|${h.run}`;

/** What can be locked. */
export type LockedTable = 'sessions' | 'allocations' | 'accounts' | 'holds' | 'sub_users' | 'byte_quotas';

/** The name of an account's row. */
export const accountKey = (kind: string, ownerId: string | null) => `${kind}|${ownerId ?? ''}`;

/**
 * The tables that money depends on, as committed. Reading sees what is committed; writing is collected in a
 * transaction and becomes visible with its commit, whole or not at all. Locks are by row name and wait for each
 * other as in Postgres; two transactions that wait for each other are a deadlock, which a history reports.
 */
export class SimulatedDatabase {
  faults: DatabaseFaults = NO_DATABASE_FAULTS;
  readonly sessions = new Map<string, SessionRow>();
  readonly allocations = new Map<string, AllocationRow>();
  readonly subUsers = new Map<string, SubUserRow>();
  /** By buyer or sub-user. */
  readonly quotas = new Map<string, QuotaRow>();
  /** By gateway id and meter key. A booking makes rows anew: who has read one keeps what it read. */
  readonly meters = new Table<MeterRow>();
  readonly holds = new Map<string, HoldRow>();
  /** Balances by `accountKey`. */
  readonly accounts = new Map<string, bigint>();
  /** Ledger transactions by kind + source id. */
  readonly ledger = new Set<string>();
  readonly #locks: Readonly<Record<LockedTable, Map<string, Transaction>>> = {
    sessions: new Map(),
    allocations: new Map(),
    accounts: new Map(),
    holds: new Map(),
    sub_users: new Map(),
    byte_quotas: new Map(),
  };
  #meterId = 0n;

  nextMeterId(): bigint {
    this.#meterId += 1n;
    return this.#meterId;
  }

  /** Runs `body` in one transaction: committed when it resolves, rolled back when it throws or its thread dies. */
  async transaction<T>(thread: Thread, random: Random, body: (tx: Transaction) => Promise<T>): Promise<T> {
    const tx = new Transaction(this, thread, random);
    try {
      const result = await body(tx);
      await tx.commit();
      return result;
    } finally {
      tx.end();
    }
  }

  /** @internal */
  tryLock(table: LockedTable, ids: readonly string[], tx: Transaction): boolean {
    const locks = this.#locks[table];
    for (const id of ids) {
      const holder = locks.get(id);
      if (holder !== undefined && holder !== tx && !holder.over) return false;
    }
    for (const id of ids) locks.set(id, tx);
    return true;
  }
  /** @internal */
  unlock(table: LockedTable, ids: readonly string[], tx: Transaction): void {
    const locks = this.#locks[table];
    for (const id of ids) if (locks.get(id) === tx) locks.delete(id);
  }
}

/** One open transaction. Each call is a statement, hence a step of its thread. */
export class Transaction {
  readonly #db: SimulatedDatabase;
  readonly #thread: Thread;
  readonly #random: Random;
  readonly #held: Array<{ table: LockedTable; ids: readonly string[] }> = [];
  readonly #writes: Array<() => void> = [];
  #holds: Map<string, HoldRow> | null = null;
  #holdCommitted: ((before: HoldRow | undefined, after: HoldRow) => void) | null = null;
  #writtenOff: Set<MeterRow> | null = null;
  #over = false;

  constructor(db: SimulatedDatabase, thread: Thread, random: Random) {
    this.#db = db;
    this.#thread = thread;
    this.#random = random;
  }

  /** Ended, or its process is gone: the server has rolled it back. */
  get over(): boolean {
    return this.#over || this.#thread.dead;
  }

  /**
   * SELECT … FOR UPDATE of rows of one table, made rows included: waits while another transaction holds one. All
   * of them or none, so their order is nobody's business.
   */
  lock(table: LockedTable, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return Promise.resolve();
    return this.statement(() => (this.tryLock(table, ids) ? undefined : BLOCKED));
  }

  /** For a statement that locks what it finds: false when another transaction holds one of the rows. */
  tryLock(table: LockedTable, ids: readonly string[]): boolean {
    if (ids.length === 0) return true;
    if (!this.#db.tryLock(table, ids, this)) return false;
    this.#held.push({ table, ids });
    return true;
  }

  /** A hold by `holdKey`, as this transaction sees it: as it has written it, else as committed. */
  hold(key: string): HoldRow | undefined {
    return this.#holds?.get(key) ?? this.#db.holds.get(key);
  }
  /** Those of all holds, as this transaction sees them, that are wanted. */
  holdsWhere(wanted: (hold: HoldRow) => boolean): HoldRow[] {
    const found: HoldRow[] = [];
    for (const committed of this.#db.holds.values()) {
      const row = this.#holds?.get(committed.key) ?? committed;
      if (wanted(row)) found.push(row);
    }
    if (this.#holds !== null)
      for (const row of this.#holds.values())
        if (!this.#db.holds.has(row.key) && wanted(row)) found.push(row);
    return found;
  }
  /** Others see it with the commit; `committed` is told then, when all of the commit is visible. */
  writeHold(row: HoldRow, committed: (before: HoldRow | undefined, after: HoldRow) => void): void {
    this.#holds ??= new Map();
    this.#holds.set(row.key, row);
    this.#holdCommitted = committed;
  }

  /** Whether a meter is written off, as this transaction sees it. */
  isWrittenOff(meter: MeterRow): boolean {
    return meter.writtenOff || (this.#writtenOff?.has(meter) ?? false);
  }
  /** Nobody else may write the meters meanwhile: their sessions are locked. */
  writeOff(meters: readonly MeterRow[]): void {
    this.#writtenOff ??= new Set();
    for (const meter of meters) this.#writtenOff.add(meter);
    this.write(() => {
      for (const meter of meters) meter.writtenOff = true;
    });
  }

  /** To be done at the commit. */
  write(change: () => void): void {
    this.#writes.push(change);
  }

  /** @internal */
  commit(): Promise<void> {
    return this.statement(() => {
      const { faults } = this.#db;
      const killed = faults.killedAtCommit > 0 && this.#random.chance(faults.killedAtCommit);
      if (killed && this.#random.chance(0.5)) return this.#thread.kill();
      for (const change of this.#writes) change();
      this.#commitHolds();
      this.end();
      if (killed) return this.#thread.kill();
      if (faults.answerLost > 0 && this.#random.chance(faults.answerLost)) throw SimulatedFault.of('08006');
    });
  }

  #commitHolds(): void {
    if (this.#holds === null) return;
    const { holds } = this.#db;
    const changed: Array<{ before: HoldRow | undefined; after: HoldRow }> = [];
    for (const [key, after] of this.#holds) {
      changed.push({ before: holds.get(key), after });
      holds.set(key, after);
    }
    for (const { before, after } of changed) this.#holdCommitted?.(before, after);
  }

  /** @internal */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    for (const { table, ids } of this.#held) this.#db.unlock(table, ids, this);
  }

  /** Anything that reads what is committed, or writes with `write`. */
  statement<T>(act: () => T | typeof BLOCKED): Promise<T> {
    return this.#thread.io(() => {
      const { connectionLost } = this.#db.faults;
      if (connectionLost > 0 && this.#random.chance(connectionLost)) throw SimulatedFault.of('08006');
      return act();
    });
  }
}
