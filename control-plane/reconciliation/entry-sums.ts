import type { Queryable } from '../db/pool.js';

/** Sums over all ledger entries, micro-dollars. */
export interface EntrySums {
  /** Of every entry: zero. */
  totalMicros: bigint;
  /** Charges − earnings − referral bonuses − platform revenue of traffic: zero. */
  booksOffMicros: bigint;
}

/** Entries added up in one statement while catching up. */
const ENTRIES_PER_STEP = 250_000;
/** Steps in one call; a large ledger is caught up over several calls. */
const STEPS_MAX = 8;

const TRAFFIC = "('traffic_charge', 'traffic_earning', 'referral_bonus', 'platform_revenue')";
const SUMS = `coalesce(sum(amount_micros), 0)::text AS total,
  coalesce(sum(amount_micros) FILTER (WHERE kind IN ${TRAFFIC}), 0)::text AS traffic`;

/**
 * Adds the ledger up without reading all of it each time: what is behind a mark below which no entry can appear any
 * more is kept as a sum, the rest is read. Entries are numbered before their transactions commit, so a mark is taken
 * only once every transaction has ended that was open when its entry was the newest.
 * An old entry that is changed behind the database's guards is not seen here; `traffic-share ledger verify` sees it.
 */
export class LedgerSums {
  #mark = 0n;
  #totalBefore = 0n;
  #trafficBefore = 0n;
  /** The newest entry at an earlier call, and the first transaction that had not begun then. */
  #candidate: { id: bigint; transactions: bigint } | null = null;
  #current = false;

  /** The sums as committed; null while they are not known yet (the first call, and a large ledger's next ones). */
  async read(db: Queryable): Promise<EntrySums | null> {
    const { rows } = await db.query<{ newest: bigint | null; next: string; oldest: string }>(
      `SELECT (SELECT max(id) FROM ledger_entries) AS newest, pg_snapshot_xmax(pg_current_snapshot())::text AS next,
              pg_snapshot_xmin(pg_current_snapshot())::text AS oldest`,
    );
    const [at] = rows as [{ newest: bigint | null; next: string; oldest: string }];
    if (this.#candidate !== null && BigInt(at.oldest) >= this.#candidate.transactions) {
      this.#current = await this.#advance(db, this.#candidate.id);
      if (this.#current) this.#candidate = null;
    }
    this.#candidate ??= { id: at.newest ?? 0n, transactions: BigInt(at.next) };
    if (!this.#current) return null;
    const rest = await this.#sum(db, 'id > $1', [this.#mark.toString()]);
    return {
      totalMicros: this.#totalBefore + rest.total,
      // Charges are negative entries of the buyers.
      booksOffMicros: -(this.#trafficBefore + rest.traffic),
    };
  }

  /** Takes in what lies between the mark and `id`; false when it is too much for one call. */
  async #advance(db: Queryable, id: bigint): Promise<boolean> {
    for (let step = 0; step < STEPS_MAX && this.#mark < id; step++) {
      const to = this.#mark + BigInt(ENTRIES_PER_STEP) < id ? this.#mark + BigInt(ENTRIES_PER_STEP) : id;
      const sums = await this.#sum(db, 'id > $1 AND id <= $2', [this.#mark.toString(), to.toString()]);
      this.#totalBefore += sums.total;
      this.#trafficBefore += sums.traffic;
      this.#mark = to;
    }
    return this.#mark >= id;
  }

  async #sum(db: Queryable, where: string, values: string[]): Promise<{ total: bigint; traffic: bigint }> {
    const { rows } = await db.query<{ total: string; traffic: string }>(
      `SELECT ${SUMS} FROM ledger_entries WHERE ${where}`,
      values,
    );
    return { total: BigInt(rows[0]?.total ?? 0), traffic: BigInt(rows[0]?.traffic ?? 0) };
  }
}
