import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { createPool } from '../../control-plane/db/pool.js';
import { invariants } from '../../control-plane/settlement/invariants.js';

/** Time between two looks at what must hold at every moment. */
const SAMPLE_MS = 100;

/** Reads the record past every link, and watches over what must hold at every moment. */
export class Books {
  readonly #pool: pg.Pool;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();
  /** Looks that found everything in order; those while Postgres is away do not count. */
  samples = 0;
  readonly violations: string[] = [];

  constructor(databaseUrl: string) {
    this.#pool = createPool({
      databaseUrl,
      applicationName: 'faults-books',
      connectionsMax: 3,
      statementTimeoutMs: 20_000,
    });
    this.#pool.on('error', () => {});
  }

  watch(): void {
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(() => this.#look()).catch(() => {});
    }, SAMPLE_MS);
  }

  async #look(): Promise<void> {
    const { rows } = await this.#pool.query<{
      ledger: string;
      below: string;
      overdrawn: string;
      oversold: string;
    }>(
      `SELECT (SELECT coalesce(sum(balance_micros), 0) FROM ledger_accounts)::text AS ledger,
              (SELECT count(*) FROM (SELECT owner_id, sum(greatest(granted - renounced - spent, 0)) AS held
                                       FROM wallet_holds WHERE kind = 'buyer' AND closed_at IS NULL GROUP BY 1) h
                 LEFT JOIN ledger_accounts a ON a.kind = 'buyer_prepaid' AND a.owner_id = h.owner_id
                WHERE coalesce(a.balance_micros, 0) < h.held)::text AS overdrawn,
              (SELECT count(*) FROM ledger_accounts WHERE kind = 'buyer_prepaid' AND balance_micros < 0)::text AS below,
              (SELECT count(*) FROM wallet_holds WHERE closed_at IS NULL AND spent > granted - renounced)::text AS oversold`,
    );
    const row = rows[0];
    if (!row) return;
    if (row.ledger !== '0') this.violations.push(`the ledger sums to ${row.ledger}`);
    if (row.below !== '0') this.violations.push(`below zero: ${row.below} buyers`);
    if (row.overdrawn !== '0') this.violations.push(`held more than funded: ${row.overdrawn} buyers`);
    if (row.oversold !== '0') this.violations.push(`spent more than was granted: ${row.oversold} holds`);
    this.samples++;
  }

  /** Bytes booked in all; null: Postgres is away. */
  async bookedBytes(): Promise<number | null> {
    const answer = await this.#pool
      .query<{ bytes: string }>('SELECT coalesce(sum(bytes_up + bytes_down), 0)::text AS bytes FROM meters')
      .catch(() => null);
    return answer === null ? null : Number(answer.rows[0]?.bytes ?? 0);
  }

  /** Meters that ever counted for the buyer. */
  async meterCount(buyerId: string): Promise<number> {
    const { rows } = await this.#pool.query<{ n: string }>(
      'SELECT count(*)::text AS n FROM meters m JOIN allocations a ON a.id = m.allocation_id WHERE a.buyer_id = $1',
      [buyerId],
    );
    return Number(rows[0]?.n ?? 0);
  }

  /** Waits until at least `bytes` are booked and nothing more comes for `quietMs`; resolves to what is booked then. */
  async settled(bytes: number, quietMs: number, timeoutMs: number): Promise<number> {
    const until = performance.now() + timeoutMs;
    let last = -1;
    let sinceMs = performance.now();
    for (;;) {
      const booked = (await this.bookedBytes()) ?? -1;
      if (booked !== last) {
        last = booked;
        sinceMs = performance.now();
      }
      const nowMs = performance.now();
      if (booked >= bytes && nowMs - sinceMs >= quietMs) return booked;
      if (nowMs > until) return booked;
      await delay(50);
    }
  }

  /** Everything that can be proved from the books; each string is a fault. */
  async proof(): Promise<string[]> {
    await this.#looking;
    return invariants(this.#pool);
  }

  async stop(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#looking;
    await this.#pool.end();
  }
}
