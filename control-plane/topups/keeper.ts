import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { type CryptomusClient, orderIdOf, type ProviderPayment } from '../cryptomus/client.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { formatMicros } from '../ledger/money.js';
import type { LiveState } from '../live-state/live-state.js';
import { applyPayment, failTopUp, insertTopUp, type TopUp, type TopUpStatus } from './topups.js';

export interface TopUpKeeperDeps {
  pool: pg.Pool;
  log: Log;
  /** Null while Cryptomus is not configured. */
  cryptomus: Pick<CryptomusClient, 'createInvoice' | 'paymentInfo'> | null;
  /** A credited buyer is told to the gateways. */
  live: Pick<LiveState, 'accountsChanged'>;
  callbackUrl: string | null;
  /** Time one call to Cryptomus may take, ms. */
  timeoutMs: number;
  /** How long an invoice can be paid, seconds. */
  invoiceLifetimeS: number;
  intervalMs: number;
  /** An invoice that Cryptomus does not know this long after it was asked for was never made, seconds. */
  neverMadeAfterS?: number;
}

/** Top-ups of one round; the others wait for the next. */
const ROUND_MAX = 50;
/** An invoice is looked up again after a quarter of its age, within these bounds: webhooks may be lost. */
const LOOK_S = { min: 15, max: 900 };
/** A request that was cut may still arrive; only after this is "no such invoice" believed of it. */
const NEVER_MADE_S = 600;
/** After a webhook or a failed look. */
const RETRY_S = 30;
const LEASE_MARGIN_S = 30;

interface Claim {
  id: string;
  claims: bigint;
  hints: bigint;
  ageS: number;
}

/**
 * Makes invoices and follows them until they are paid or over. Webhooks are hints: what is credited is what
 * `/payment/info` says, read by one worker at a time.
 */
export class TopUpKeeper {
  readonly #deps: TopUpKeeperDeps;
  readonly #job: Periodic;

  constructor(deps: TopUpKeeperDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs,
      onError: (error) => deps.log.warn({ err: error }, 'topups_not_worked_on'),
    });
  }

  start(): void {
    if (this.#deps.cryptomus !== null) this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  /**
   * Makes a top-up and its invoice. `refused`: Cryptomus will not (the top-up has failed); `unavailable`: it did not
   * answer; `not_configured`: there is none. An invoice that was made all the same is found later. `record` writes the
   * audit line in the transaction that makes the top-up.
   */
  async open(
    buyerId: string,
    amountMicros: bigint,
    record: (client: Queryable, topUp: TopUp) => Promise<void>,
  ): Promise<{ ok: true; topUp: TopUp } | { ok: false; code: 'refused' | 'unavailable' | 'not_configured' }> {
    const { pool, log, cryptomus, callbackUrl, invoiceLifetimeS } = this.#deps;
    if (cryptomus === null) return { ok: false, code: 'not_configured' };
    const lookInS = LOOK_S.min + this.#deps.timeoutMs / 1000;
    const topUp = await withTransaction(pool, async (client) => {
      const made = await insertTopUp(client, buyerId, amountMicros, lookInS);
      await record(client, made);
      return made;
    });
    const made = await cryptomus.createInvoice({
      orderId: orderIdOf(topUp.id),
      amount: formatMicros(amountMicros).slice(0, -4), // whole cents
      lifetimeS: invoiceLifetimeS,
      callbackUrl,
    });
    if (made.outcome === 'done') {
      const applied = await withTransaction(pool, (client) => applyPayment(client, topUp.id, made.result));
      if (applied.outcome !== 'differs') return { ok: true, topUp: applied.topUp };
      log.error({ topup_id: topUp.id, difference: applied.difference }, 'topup_differs');
      return { ok: false, code: 'unavailable' };
    }
    log.warn({ topup_id: topUp.id, outcome: made.outcome, message: made.message }, 'invoice_not_made');
    if (made.outcome === 'unknown') return { ok: false, code: 'unavailable' };
    await withTransaction(pool, (client) => failTopUp(client, topUp.id, `Cryptomus: ${made.message}`));
    return { ok: false, code: 'refused' };
  }

  /** Looks up what is due, once. Resolves to how many that was. */
  async runOnce(): Promise<number> {
    let worked = 0;
    while (worked < ROUND_MAX && (await this.#work(null))) worked++;
    return worked;
  }

  /** A webhook named the top-up: looks it up. Resolves to its status before, null when there is none. */
  async hint(id: string): Promise<TopUpStatus | null> {
    const { rows } = await this.#deps.pool.query<{ status: TopUpStatus }>(
      `UPDATE topups SET hints = hints + 1, next_at = CASE WHEN status <> 'completed' THEN now() END
        WHERE id = $1 AND method = 'cryptomus' RETURNING status`,
      [id],
    );
    const status = rows[0]?.status ?? null;
    if (status !== null && status !== 'completed') await this.#work(id);
    return status;
  }

  async #work(id: string | null): Promise<boolean> {
    const { pool, log, cryptomus, live, neverMadeAfterS = NEVER_MADE_S } = this.#deps;
    if (cryptomus === null) return false;
    const claim = await this.#claim(id);
    if (claim === null) return false;
    const found = await cryptomus.paymentInfo(orderIdOf(claim.id));
    if (found.outcome === 'absent' && claim.ageS >= neverMadeAfterS)
      await withTransaction(pool, (client) => failTopUp(client, claim.id, 'the invoice was not made'));
    if (found.outcome === 'unknown')
      log.warn({ topup_id: claim.id, message: found.message }, 'invoice_not_read');
    if (found.outcome !== 'done') {
      await this.#endClaim(claim, RETRY_S);
      return true;
    }
    const applied = await withTransaction(pool, (client) => applyPayment(client, claim.id, found.result));
    if (applied.outcome === 'differs')
      log.error({ topup_id: claim.id, difference: applied.difference }, 'topup_differs');
    await this.#endClaim(claim, nextLookS(found.result, applied.topUp, claim.ageS));
    // A gateway that holds the old balance must not refuse a buyer who has just paid.
    if (applied.outcome === 'credited') await live.accountsChanged([applied.topUp.buyerId]);
    return true;
  }

  async #claim(id: string | null): Promise<Claim | null> {
    const { pool, timeoutMs } = this.#deps;
    const which = id === null ? 'next_at <= now()' : "id = $2 AND status <> 'completed'";
    const { rows } = await pool.query<{ id: string; claims: bigint; hints: bigint; age_s: number }>(
      `UPDATE topups SET leased_until = now() + $1 * interval '1 second', claims = claims + 1
        WHERE id = (SELECT id FROM topups WHERE ${which} AND leased_until < now()
                     ORDER BY next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
       RETURNING id, claims, hints, extract(epoch FROM now() - created_at)::float8 AS age_s`,
      [Math.ceil(timeoutMs / 1000) + LEASE_MARGIN_S, ...(id === null ? [] : [id])],
    );
    const [row] = rows;
    return row === undefined ? null : { id: row.id, claims: row.claims, hints: row.hints, ageS: row.age_s };
  }

  /** `nextInS` null: only when a webhook asks. One that came meanwhile has asked. */
  async #endClaim(claim: Claim, nextInS: number | null): Promise<void> {
    await this.#deps.pool.query(
      `UPDATE topups SET leased_until = '-infinity',
              next_at = CASE WHEN status = 'completed' THEN NULL WHEN hints > $3 THEN now()
                             WHEN status = 'failed' AND provider_uuid IS NULL THEN NULL
                             ELSE now() + $4::float8 * interval '1 second' END
        WHERE id = $1 AND claims = $2`,
      [claim.id, claim.claims.toString(), claim.hints.toString(), nextInS],
    );
  }
}

/** When to look at an invoice again, seconds; null once nothing more is expected. */
function nextLookS(info: ProviderPayment, topUp: TopUp, ageS: number): number | null {
  if (info.isFinal && topUp.status !== 'pending' && topUp.status !== 'processing') return null;
  return Math.min(LOOK_S.max, Math.max(LOOK_S.min, ageS / 4));
}
