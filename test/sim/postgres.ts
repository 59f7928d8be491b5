import type pg from 'pg';
import { meterKey, type WalletKind } from '../../gateway/live/records.js';
import {
  accountKey,
  type HoldRow,
  holdKey,
  type MeterRow,
  type SimulatedDatabase,
  Transaction,
} from './database.js';
import type { Random } from './random.js';
import { BLOCKED, type Thread } from './thread.js';

/** Told when holds have changed, in the moment it becomes visible. */
export interface HoldsObserver {
  holdWritten(before: HoldRow | undefined, after: HoldRow): void;
}

type Rows = object[];
type Statement = (at: At, params: never) => Rows | typeof BLOCKED;

/** What a statement works on. */
interface At {
  db: SimulatedDatabase;
  tx: Transaction;
  holdWritten: HoldsObserver['holdWritten'];
}

interface PgHold {
  kind: WalletKind;
  owner_id: string;
  gateway_id: string;
  run: string;
  granted: bigint;
  renounced: bigint;
  spent: bigint;
  answered: bigint;
  closed: boolean;
}

const outside = (h: HoldRow): PgHold => ({
  kind: h.kind,
  owner_id: h.ownerId,
  gateway_id: h.gatewayId,
  run: h.run,
  granted: h.granted,
  renounced: h.renounced,
  spent: h.spent,
  answered: h.answered,
  closed: h.closed,
});

const keyAt = (columns: readonly string[][], i: number) =>
  holdKey({
    kind: columns[0]?.[i] as WalletKind,
    ownerId: columns[1]?.[i] as string,
    gatewayId: columns[2]?.[i] as string,
    run: columns[3]?.[i] as string,
  });

function ownedBy(at: At, kinds: readonly string[], owners: readonly string[]): HoldRow[] {
  return at.tx.holdsWhere((h) => {
    for (let i = 0; i < owners.length; i++) if (owners[i] === h.ownerId && kinds[i] === h.kind) return true;
    return false;
  });
}

const isOpen = (m: MeterRow) => !m.final && !m.writtenOff;

/** The condition UNSETTLED of `wallets/wallets.ts`. */
function unsettled({ db, tx }: At, hold: HoldRow): boolean {
  const of = (m: MeterRow) => {
    if (hold.kind === 'buyer') return m.buyerId === hold.ownerId;
    if (hold.kind === 'package') return m.allocationId === hold.ownerId;
    return m.buyerId === (db.subUsers.get(hold.ownerId)?.buyerId ?? hold.ownerId);
  };
  for (const m of db.meters.of(hold.gatewayId))
    if (m.run === hold.run && !m.final && !tx.isWrittenOff(m) && of(m)) return true;
  return false;
}

function openMetersOf(db: SimulatedDatabase, gatewayId: string, run: string): MeterRow[] {
  return [...db.meters.of(gatewayId)].filter((m) => m.run === run && isOpen(m));
}

/** What the statements of `control-plane/wallets` do, each by a part of its text that no other has. */
const STATEMENTS: ReadonlyArray<[part: string, does: Statement]> = [
  [
    'SELECT id, size_bytes - bytes_up - bytes_down AS left FROM allocations',
    (at, [ids]: [string[]]) => {
      const found = ids.filter((id) => at.db.allocations.get(id)?.via === 'pull');
      if (!at.tx.tryLock('allocations', found)) return BLOCKED;
      return found.map((id) => {
        const row = at.db.allocations.get(id);
        return { id, left: (row?.sizeBytes ?? 0n) - (row?.bytes ?? 0n) };
      });
    },
  ],
  [
    'SELECT b.id, a.balance_micros, b.price_micros_per_gb AS price',
    (at, [ids]: [string[]]) => {
      const found = ids.filter((id) => at.db.accounts.has(accountKey('buyer_prepaid', id)));
      const keys = found.map((id) => accountKey('buyer_prepaid', id));
      if (!at.tx.tryLock('accounts', keys)) return BLOCKED;
      return found.map((id, i) => ({
        id,
        balance_micros: at.db.accounts.get(keys[i] as string),
        price: null,
      }));
    },
  ],
  [
    'SELECT id, bytes_max - bytes_used AS left FROM sub_users',
    (at, [ids]: [string[]]) => {
      const found = ids.filter((id) => at.db.subUsers.has(id));
      if (!at.tx.tryLock('sub_users', found)) return BLOCKED;
      return found.map((id) => {
        const row = at.db.subUsers.get(id);
        return { id, left: (row?.bytesMax ?? 0n) - (row?.bytesUsed ?? 0n) };
      });
    },
  ],
  [
    'FROM byte_quotas WHERE owner_id = ANY',
    (at, [ids]: [string[]]) => {
      const found = ids.flatMap((id) => at.db.quotas.get(id) ?? []);
      const keys = found.map((row) => row.ownerId);
      if (!at.tx.tryLock('byte_quotas', keys)) return BLOCKED;
      return found.map((row) => ({
        id: row.ownerId,
        day_left: row.dayMax === null ? null : row.dayMax - row.dayBytes,
        month_left: row.monthMax === null ? null : row.monthMax - row.monthBytes,
      }));
    },
  ],
  [
    'ORDER BY kind, owner_id, gateway_id, run FOR NO KEY UPDATE',
    (at, [kinds, owners]: [string[], string[]]) => {
      const keys: string[] = [];
      for (const h of ownedBy(at, kinds, owners)) if (!h.closed) keys.push(h.key);
      return at.tx.tryLock('holds', keys) ? [] : BLOCKED;
    },
  ],
  [
    'closed_at IS NOT NULL AS closed\n       FROM wallet_holds WHERE (kind, owner_id) IN',
    (at, [kinds, owners]: [string[], string[]]) => ownedBy(at, kinds, owners).map(outside),
  ],
  [
    'WHERE (h.kind, h.owner_id, h.gateway_id, h.run) IN',
    (at, columns: string[][]) => {
      const keys = (columns[0] ?? []).map((_, i) => keyAt(columns, i));
      if (!at.tx.tryLock('holds', keys)) return BLOCKED;
      return close(
        at,
        keys.flatMap((key) => at.tx.hold(key) ?? []),
      );
    },
  ],
  [
    'INSERT INTO wallet_holds AS h',
    (at, columns: [string[], string[], string[], string[], string[], string[], string[]]) => {
      const keys = columns[0].map((_, i) => keyAt(columns, i));
      if (!at.tx.tryLock('holds', keys)) return BLOCKED;
      return keys.flatMap((key, i) => {
        const granted = BigInt(columns[4][i] as string);
        const renounced = BigInt(columns[5][i] as string);
        const answered = BigInt(columns[6][i] as string);
        const row = at.tx.hold(key);
        if (row?.closed) return [];
        const after: HoldRow = {
          key,
          kind: columns[0][i] as WalletKind,
          ownerId: columns[1][i] as string,
          gatewayId: columns[2][i] as string,
          run: columns[3][i] as string,
          granted: greatest(row?.granted, granted),
          renounced: greatest(row?.renounced, renounced),
          answered: greatest(row?.answered, answered),
          spent: row?.spent ?? 0n,
          closed: false,
        };
        at.tx.writeHold(after, at.holdWritten);
        return [outside(after)];
      });
    },
  ],
  [
    'WHERE h.gateway_id = $1 AND h.run = $2 AND h.closed_at IS NULL AND NOT EXISTS',
    (at, [gatewayId, run]: [string, string]) => {
      const open = at.tx.holdsWhere((h) => h.gatewayId === gatewayId && h.run === run && !h.closed);
      const keys = open.map((h) => h.key);
      if (!at.tx.tryLock('holds', keys)) return BLOCKED;
      return close(at, open);
    },
  ],
  [
    'SELECT DISTINCT left(m.epoch, 24) AS run FROM meters m',
    ({ db }, [gatewayId, run]: [string, string]) =>
      openMetersOf(db, gatewayId, run).length > 0 ? [{ run }] : [],
  ],
  [
    'SELECT s.id FROM traffic_sessions s',
    (at, [gatewayId, run]: [string, string]) => {
      const ids = [...new Set(openMetersOf(at.db, gatewayId, run).map((m) => m.sessionId))];
      if (!at.tx.tryLock('sessions', ids)) return BLOCKED;
      return ids.map((id) => ({ id }));
    },
  ],
  [
    'UPDATE meters m SET written_off_at = now()',
    ({ db, tx }, [gatewayId, run, _admin, sessionIds]: [string, string, string, string[]]) => {
      const found = openMetersOf(db, gatewayId, run).filter((m) => sessionIds.includes(m.sessionId));
      tx.writeOff(found);
      return found.map((m) => ({ session_id: m.sessionId }));
    },
  ],
  ['INSERT INTO audit_log', () => []],
  [
    'SELECT kind, owner_id, gateway_id, run FROM wallet_holds',
    (at, [kinds, owners]: [string[], string[]]) =>
      ownedBy(at, kinds, owners)
        .filter((h) => !h.closed)
        .map(outside),
  ],
  [
    'SELECT kind, owner_id, gateway_id, run, granted, renounced FROM wallet_holds',
    // The history is small: everything comes in the first step.
    (at, [gatewayId, after]: [string | null, string | null]) =>
      after !== null
        ? []
        : at.tx
            .holdsWhere((h) => !h.closed && (gatewayId === null || h.gatewayId === gatewayId))
            .sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1))
            .map(outside),
  ],
  [
    'SELECT DISTINCT gateway_id FROM wallet_holds WHERE closed_at IS NULL',
    (at) => {
      const ids = new Set(at.tx.holdsWhere((h) => !h.closed).map((h) => h.gatewayId));
      return Array.from(ids, (gateway_id) => ({ gateway_id }));
    },
  ],
  [
    'SELECT DISTINCT epoch FROM unnest',
    (
      { db },
      [gatewayId, sessions, allocations, epochs, provider, buyer]: [string, ...(readonly string[])[]],
    ) => {
      const named = (i: number) =>
        meterKey({
          sessionId: sessions?.[i] as string,
          allocationId: allocations?.[i] as string,
          epoch: epochs?.[i] as string,
          providerPriceMicrosPerGb: provider?.[i] as string,
          buyerPriceMicrosPerGb: buyer?.[i] as string,
        });
      return (epochs ?? []).flatMap((epoch, i) => (db.meters.get(gatewayId, named(i)) ? [] : [{ epoch }]));
    },
  ],
  [
    'AND h.gateway_id = $1 AND h.run = w.run AND h.closed_at IS NOT NULL',
    (at, [gatewayId, kinds, owners, runs]: [string, string[], string[], string[]]) =>
      kinds.flatMap((kind, i) => {
        const key = keyAt([[kind], [owners[i] as string], [gatewayId], [runs[i] as string]], 0);
        return at.db.holds.get(key)?.closed ? [{ n: BigInt(i + 1) }] : [];
      }),
  ],
];

const greatest = (a: bigint | undefined, b: bigint) => (a !== undefined && a > b ? a : b);
const placeOf = (h: HoldRow) => `${h.gatewayId}|${h.run}|${h.kind}|${h.ownerId}`;

function close(at: At, rows: readonly HoldRow[]): Rows {
  const closed: Rows = [];
  for (const row of rows) {
    if (row.closed || unsettled(at, row)) continue;
    const after = { ...row, closed: true };
    at.tx.writeHold(after, at.holdWritten);
    closed.push(outside(after));
  }
  return closed;
}

const known = new Map<string, Statement>();

function statementOf(text: string): Statement {
  let found = known.get(text);
  if (found === undefined) {
    const fitting = STATEMENTS.filter(([part]) => text.includes(part));
    // Whoever changes a statement changes what it does here, too.
    if (fitting.length !== 1)
      throw new Error(`the simulated Postgres knows ${fitting.length} statements like: ${text}`);
    found = fitting[0]?.[1] as Statement;
    known.set(text, found);
  }
  return found;
}

const nothing = () => {};

/**
 * Connections of one process to the simulated tables, for project code that speaks SQL: it knows the statements above
 * and no others.
 */
export function simulatedPool(
  db: SimulatedDatabase,
  thread: Thread,
  random: Random,
  observer: HoldsObserver,
): pg.Pool {
  const holdWritten: HoldsObserver['holdWritten'] = (before, after) => observer.holdWritten(before, after);
  const run = (tx: Transaction, text: string, params: unknown[] = []) => {
    const statement = statementOf(text);
    const at: At = { db, tx, holdWritten };
    return tx.statement(() => {
      const rows = statement(at, params as never);
      return rows === BLOCKED ? BLOCKED : { rows, rowCount: rows.length };
    });
  };
  const connect = () => {
    let tx: Transaction | null = null;
    return Promise.resolve({
      on: nothing,
      removeListener: nothing,
      release: () => tx?.end(),
      query(text: string, params?: unknown[]): Promise<unknown> {
        if (tx === null) {
          if (!text.startsWith('BEGIN')) throw new Error(`outside of a transaction: ${text}`);
          tx = new Transaction(db, thread, random);
        } else if (text === 'COMMIT') return tx.commit();
        else if (text === 'ROLLBACK') tx.end();
        else return run(tx, text, params);
        return Promise.resolve();
      },
    });
  };
  return {
    connect,
    async query(text: string, params?: unknown[]) {
      const tx = new Transaction(db, thread, random);
      try {
        return await run(tx, text, params);
      } finally {
        tx.end();
      }
    },
  } as unknown as pg.Pool;
}
