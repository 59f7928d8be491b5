import type { MeterState } from '../../control-plane/settlement/booked.js';
import type { WalletKind } from '../../gateway/live/records.js';
import { SimulatedFault } from './disk.js';
import type { Random } from './random.js';
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
  /** By gateway id + meter key. */
  readonly meters = new Map<string, MeterRow>();
  readonly holds = new Map<string, HoldRow>();
  /** Balances by account kind + owner. */
  readonly accounts = new Map<string, bigint>();
  /** Ledger transactions by kind + source id. */
  readonly ledger = new Set<string>();
  readonly #locks = new Map<string, Transaction>();
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
  tryLock(names: readonly string[], tx: Transaction): boolean {
    for (const name of names) {
      const holder = this.#locks.get(name);
      if (holder !== undefined && holder !== tx && !holder.over) return false;
    }
    for (const name of names) this.#locks.set(name, tx);
    return true;
  }
  /** @internal */
  unlock(names: readonly string[], tx: Transaction): void {
    for (const name of names) if (this.#locks.get(name) === tx) this.#locks.delete(name);
  }
}

/** One open transaction. Each call is a statement, hence a step of its thread. */
export class Transaction {
  readonly #db: SimulatedDatabase;
  readonly #thread: Thread;
  readonly #random: Random;
  readonly #held: string[] = [];
  readonly #writes: Array<() => void> = [];
  /** Holds as this transaction has written them. */
  readonly holds = new Map<string, HoldRow>();
  /** Meters that this transaction has written off, by gateway id + key. */
  readonly writtenOff = new Set<string>();
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

  /** SELECT … FOR UPDATE of rows of one table, made rows included: waits while another transaction holds one. */
  lock(table: string, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return Promise.resolve();
    const names = ids.map((id) => `${table}|${id}`);
    return this.#statement(() => (this.tryLock(names) ? undefined : BLOCKED));
  }

  /** For a statement that locks what it finds: false when another transaction holds one of the rows. */
  tryLock(names: readonly string[]): boolean {
    if (!this.#db.tryLock(names, this)) return false;
    this.#held.push(...names);
    return true;
  }

  /** Reads what is committed. */
  read<T>(look: () => T | typeof BLOCKED): Promise<T> {
    return this.#statement(look);
  }

  /** To be done at the commit. */
  write(change: () => void): void {
    this.#writes.push(change);
  }

  /** @internal */
  commit(): Promise<void> {
    return this.#statement(() => {
      const { faults } = this.#db;
      const killed = faults.killedAtCommit > 0 && this.#random.chance(faults.killedAtCommit);
      if (killed && this.#random.chance(0.5)) return this.#thread.kill();
      for (const change of this.#writes) change();
      this.end();
      if (killed) return this.#thread.kill();
      if (faults.answerLost > 0 && this.#random.chance(faults.answerLost)) throw SimulatedFault.of('08006');
    });
  }

  /** @internal */
  end(): void {
    this.#over = true;
    this.#db.unlock(this.#held, this);
  }

  #statement<T>(act: () => T | typeof BLOCKED): Promise<T> {
    return this.#thread.io(() => {
      const { connectionLost } = this.#db.faults;
      if (connectionLost > 0 && this.#random.chance(connectionLost)) throw SimulatedFault.of('08006');
      return act();
    });
  }
}
