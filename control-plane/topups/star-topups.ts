import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { openStarTopUp, setStarInvoiceUrl, starsFor } from './stars.js';
import type { StarsApi } from './stars-api.js';
import { failTopUp, readTopUp, type TopUp } from './topups.js';

export interface StarTopUpsDeps {
  pool: pg.Pool;
  log: Log;
  /** Null while there is no bot. */
  stars: StarsApi | null;
  /** What a Star is worth now, micro-dollars; 0: none are taken. */
  starPriceMicros: () => Promise<bigint>;
  /** How long an invoice can be paid, seconds. */
  invoiceLifetimeS: number;
}

/** Opens top-ups that are paid in Telegram Stars, at an address of Telegram. */
export class StarTopUps {
  readonly #deps: StarTopUpsDeps;

  constructor(deps: StarTopUpsDeps) {
    this.#deps = deps;
  }

  /**
   * A top-up of the amount, rounded up to whole Stars. `refused`: Telegram will not (the top-up has failed);
   * `unavailable`: it did not answer, or there is no bot; `stars_unavailable`: none are taken. `record`
   * writes the audit line in the transaction that makes the top-up.
   */
  async open(
    buyerId: string,
    amountMicros: bigint,
    record: (client: Queryable, topUp: TopUp) => Promise<void>,
  ): Promise<
    { ok: true; topUp: TopUp } | { ok: false; code: 'refused' | 'unavailable' | 'stars_unavailable' }
  > {
    const { pool, log, stars: api, invoiceLifetimeS } = this.#deps;
    if (api === null) return { ok: false, code: 'unavailable' };
    const starPriceMicros = await this.#deps.starPriceMicros();
    const stars = starsFor(amountMicros, starPriceMicros);
    if (stars === null) return { ok: false, code: 'stars_unavailable' };
    const invoice = await withTransaction(pool, async (client) => {
      const opened = await openStarTopUp(client, buyerId, stars, starPriceMicros, invoiceLifetimeS);
      await record(client, await read(client, opened.topUpId));
      return opened;
    });
    const made = await api.createInvoiceLink(invoice);
    if (made.outcome === 'done') {
      await setStarInvoiceUrl(pool, invoice.topUpId, made.result);
      return { ok: true, topUp: await read(pool, invoice.topUpId) };
    }
    log.warn({ topup_id: invoice.topUpId, outcome: made.outcome, message: made.message }, 'invoice_not_made');
    // Nobody has the address, even if there is one.
    await withTransaction(pool, (client) => failTopUp(client, invoice.topUpId, `Telegram: ${made.message}`));
    return { ok: false, code: made.outcome === 'refused' ? 'refused' : 'unavailable' };
  }
}

async function read(db: Queryable, id: string): Promise<TopUp> {
  const topUp = await readTopUp(db, id);
  if (topUp === null) throw new Error(`no top-up ${id}`);
  return topUp;
}
