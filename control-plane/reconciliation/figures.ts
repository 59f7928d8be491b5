import type pg from 'pg';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { type EntrySums, LedgerSums } from './entry-sums.js';

/** Money at a glance, as committed. */
export interface MoneyFigures {
  /** null: not known yet (`LedgerSums`). */
  entries: EntrySums | null;
  /** Sum of all ledger accounts: zero. */
  accountsMicros: bigint;
  /** Set aside of buyers' balances for running traffic. */
  heldMicros: bigint;
  /** Buyers of whom more is held than they have: none. */
  overheldBuyers: number;
  /** Meters that are neither final nor written off. */
  openMeters: number;
  /** Time since the one of them was booked whose last booking is longest ago, seconds; 0: there is none. */
  openMeterAgeS: number;
  /** Open flags by kind. */
  flags: Record<'device_report' | 'buyer_report' | 'books', number>;
  /** Payouts that have not ended, and how many ended how, with their sums. */
  payouts: Record<
    'pending' | 'processing' | 'completed' | 'failed' | 'cancelled',
    { count: number; micros: bigint }
  >;
}

export interface MoneyFiguresDeps {
  pool: pg.Pool;
  clock: Clock;
  log: Log;
  /** Figures younger than this are given again, ms. Default 10 s. */
  maxAgeMs?: number;
}

const MAX_AGE_MS = 10_000;

/** Reads the figures at most every few seconds, however often it is asked. */
export class MoneyWatch {
  readonly #deps: MoneyFiguresDeps;
  readonly #sums = new LedgerSums();
  #figures: MoneyFigures | null = null;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #startedAtMs: number;
  #reading: Promise<void> | null = null;
  #failures = 0;

  constructor(deps: MoneyFiguresDeps) {
    this.#deps = deps;
    this.#startedAtMs = deps.clock.monotonicMs();
  }

  /** Readings that failed since the start. */
  get failures(): number {
    return this.#failures;
  }

  /** Seconds since the figures were last read (since the start, while they never were). */
  get ageS(): number {
    return (this.#deps.clock.monotonicMs() - Math.max(this.#readAtMs, this.#startedAtMs)) / 1_000;
  }

  /** What was last read, without asking; null: nothing, or the last reading failed. */
  get latest(): MoneyFigures | null {
    return this.#figures;
  }

  /** The figures; null while Postgres does not give them, rather than old ones that look well. Never rejects. */
  async read(): Promise<MoneyFigures | null> {
    const { clock, maxAgeMs = MAX_AGE_MS } = this.#deps;
    if (clock.monotonicMs() - this.#readAtMs >= maxAgeMs || this.#figures === null) {
      this.#reading ??= this.#refresh().finally(() => {
        this.#reading = null;
      });
      await this.#reading;
    }
    return this.#figures;
  }

  async #refresh(): Promise<void> {
    const { pool, clock, log } = this.#deps;
    try {
      const client = await pool.connect();
      try {
        this.#figures = { ...(await readFigures(client)), entries: await this.#sums.read(client) };
      } finally {
        client.release();
      }
      this.#readAtMs = clock.monotonicMs();
    } catch (error) {
      this.#failures++;
      this.#figures = null;
      log.warn({ err: error }, 'money_figures_not_read');
    }
  }
}

async function readFigures(client: pg.PoolClient): Promise<Omit<MoneyFigures, 'entries'>> {
  const { rows } = await client.query<{
    accounts: string;
    held: string;
    overheld: number;
    open_meters: number;
    open_age: number;
    flags: Record<string, number>;
    payouts: Record<string, { count: number; micros: string }>;
  }>(
    `WITH held AS (SELECT owner_id, sum(greatest(0, granted - renounced - spent)) AS micros FROM wallet_holds
                    WHERE kind = 'buyer' AND closed_at IS NULL GROUP BY owner_id)
     SELECT (SELECT coalesce(sum(balance_micros), 0)::text FROM ledger_accounts) AS accounts,
            (SELECT coalesce(sum(micros), 0)::text FROM held) AS held,
            (SELECT count(*)::int FROM held h LEFT JOIN ledger_accounts a
                ON a.kind = 'buyer_prepaid' AND a.owner_id = h.owner_id
              WHERE h.micros > greatest(0, coalesce(a.balance_micros, 0))) AS overheld,
            m.open_meters, m.open_age,
            (SELECT coalesce(jsonb_object_agg(kind, n), '{}') FROM (
               SELECT kind, count(*) AS n FROM reconciliation_flags WHERE resolved_at IS NULL GROUP BY kind) f) AS flags,
            (SELECT coalesce(jsonb_object_agg(status, jsonb_build_object('count', n, 'micros', micros::text)), '{}')
               FROM (SELECT status, count(*) AS n, sum(amount_micros) AS micros FROM payouts GROUP BY status) p)
              AS payouts
       FROM (SELECT count(*)::int AS open_meters,
                    coalesce(extract(epoch FROM now() - min(updated_at)), 0)::float8 AS open_age
               FROM meters WHERE NOT final AND written_off_at IS NULL) m`,
  );
  const [r] = rows;
  if (r === undefined) throw new Error('Postgres gave no figures');
  const payout = (status: string) => ({
    count: r.payouts[status]?.count ?? 0,
    micros: BigInt(r.payouts[status]?.micros ?? 0),
  });
  return {
    accountsMicros: BigInt(r.accounts),
    heldMicros: BigInt(r.held),
    overheldBuyers: r.overheld,
    openMeters: r.open_meters,
    openMeterAgeS: r.open_age,
    flags: {
      device_report: r.flags.device_report ?? 0,
      buyer_report: r.flags.buyer_report ?? 0,
      books: r.flags.books ?? 0,
    },
    payouts: {
      pending: payout('pending'),
      processing: payout('processing'),
      completed: payout('completed'),
      failed: payout('failed'),
      cancelled: payout('cancelled'),
    },
  };
}
