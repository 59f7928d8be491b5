import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { recordAudit } from '../audit/audit.js';
import { isMicros } from '../cryptomus/amounts.js';
import { type CryptomusClient, orderIdOf, type ProviderPayout } from '../cryptomus/client.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { formatMicros } from '../ledger/money.js';
import { movePayout, noteTransaction, type Payout, readPayout } from './payouts.js';
import { type ReleaseRules, releaseSmallPayouts } from './release.js';
import { type Claim, claimSend, endClaim, hintSend, type SendChange, type SendState } from './sends.js';

export interface PayoutSenderDeps {
  pool: pg.Pool;
  log: Log;
  /** Null while Cryptomus is not configured: nothing is released by itself, nothing is sent. */
  cryptomus: Pick<CryptomusClient, 'createPayout' | 'payoutInfo'> | null;
  rules: () => ReleaseRules;
  /** Where webhooks go; null: nowhere, payouts are looked up only. */
  callbackUrl: string | null;
  /** Time one call to Cryptomus may take, ms: leases are longer. */
  timeoutMs: number;
  intervalMs: number;
  /** A payout without an answer that Cryptomus does not know is sent again after this, seconds. */
  resendAfterS?: number;
}

/** Payouts of one round; the others wait for the next. */
const ROUND_MAX = 50;
/** A call without an answer is asked about after this. */
const UNKNOWN_RETRY_S = 10;
/** An accepted payout is looked up again after a quarter of its age, within these bounds. */
const LOOK_S = { min: 10, max: 600 };
/** A request that was cut may still arrive; only after this is "no such order" believed of it. */
const RESEND_AFTER_S = 120;
/** Room a lease has beyond its two calls. */
const LEASE_MARGIN_S = 30;

/** Cryptomus's words for a payout that will not be paid, when they are final. */
const FAILED = new Set(['fail', 'cancel', 'system_fail']);

/**
 * Sends released payouts and follows them until they are paid or have failed. Cryptomus is called once for each,
 * whatever crashes: the call is written down before it is made, one worker holds a payout at a time, and a call
 * without an answer is asked about (`/payout/info`), never repeated blindly. Money is given back only on a failed
 * status that is final.
 */
export class PayoutSender {
  readonly #deps: PayoutSenderDeps;
  readonly #job: Periodic;

  constructor(deps: PayoutSenderDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs,
      onError: (error) => deps.log.warn({ err: error }, 'payouts_not_worked_on'),
    });
  }

  /** Whether payouts can be sent. */
  get configured(): boolean {
    return this.#deps.cryptomus !== null;
  }

  start(): void {
    if (this.configured) this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  /** Releases what needs nobody, then works on everything that is due, once. Resolves to how many payouts that was. */
  async runOnce(): Promise<number> {
    if (!this.configured) return 0;
    await releaseSmallPayouts(this.#deps.pool, this.#deps.rules());
    let worked = 0;
    while (worked < ROUND_MAX && (await this.#work(null))) worked++;
    return worked;
  }

  /** Works on one payout now. False when it is not on its way or another worker is at it. */
  work(payoutId: string): Promise<boolean> {
    return this.configured ? this.#work(payoutId) : Promise.resolve(false);
  }

  /** A webhook named the payout: looks it up. Resolves to its state before, null when there is none on its way. */
  async hint(payoutId: string): Promise<SendState | null> {
    const state = await hintSend(this.#deps.pool, payoutId);
    if (state !== null && state !== 'ended') await this.work(payoutId);
    return state;
  }

  async #work(payoutId: string | null): Promise<boolean> {
    const { pool, timeoutMs } = this.#deps;
    const leaseS = Math.ceil((2 * timeoutMs) / 1000) + LEASE_MARGIN_S;
    const claim = await withTransaction(pool, async (client) => {
      const claimed = await claimSend(client, leaseS, payoutId);
      if (claimed?.state === 'queued') await audit(client, 'payout_sent', claimed.payoutId, {});
      return claimed;
    });
    if (claim === null) return false;
    const payout = await readPayout(pool, claim.payoutId);
    if (payout === null) throw new Error(`payout ${claim.payoutId} is sent and does not exist`);
    if (claim.state === 'queued') await this.#send(claim, payout);
    else await this.#look(claim, payout);
    return true;
  }

  async #send(claim: Claim, payout: Payout): Promise<void> {
    const { pool, log, callbackUrl } = this.#deps;
    const cryptomus = this.#cryptomus;
    const orderId = orderIdOf(payout.id);
    const sent = await cryptomus.createPayout({
      orderId,
      amount: formatMicros(payout.amountMicros),
      currency: payout.currency,
      network: payout.network,
      address: payout.target,
      callbackUrl,
    });
    if (sent.outcome === 'done') return this.#apply(claim, payout, sent.result);
    log.warn({ payout_id: payout.id, outcome: sent.outcome, message: sent.message }, 'payout_not_accepted');
    const unknown: SendChange = { state: 'unknown', lastError: sent.message, nextInS: UNKNOWN_RETRY_S };
    if (sent.outcome === 'unknown') {
      await endClaim(pool, claim, unknown);
      return;
    }
    // This call made nothing; an earlier one might have.
    const found = await cryptomus.payoutInfo(orderId);
    if (found.outcome === 'done') return this.#apply(claim, payout, found.result);
    if (found.outcome === 'unknown') {
      await endClaim(pool, claim, unknown);
      return;
    }
    await withTransaction(pool, async (client) => {
      if (await endClaim(client, claim, { state: 'refused', lastError: sent.message }))
        await audit(client, 'payout_refused', payout.id, { message: sent.message });
    });
  }

  async #look(claim: Claim, payout: Payout): Promise<void> {
    const { pool, log, resendAfterS = RESEND_AFTER_S } = this.#deps;
    const found = await this.#cryptomus.payoutInfo(orderIdOf(payout.id));
    if (found.outcome === 'done') return this.#apply(claim, payout, found.result);
    const stay = claim.state === 'accepted' ? 'accepted' : 'unknown';
    if (found.outcome === 'absent') {
      if (stay === 'accepted') log.error({ payout_id: payout.id }, 'payout_vanished');
      else if ((claim.sentSecondsAgo ?? 0) >= resendAfterS) {
        // Cryptomus has not got it and nothing of ours is on the way: to be sent, under the same order id.
        await endClaim(pool, claim, { state: 'queued' });
        return;
      }
    }
    const lastError = found.outcome === 'absent' ? 'Cryptomus has no such order' : found.message;
    await endClaim(pool, claim, { state: stay, lastError, nextInS: UNKNOWN_RETRY_S });
  }

  async #apply(claim: Claim, payout: Payout, info: ProviderPayout): Promise<void> {
    const { pool, log } = this.#deps;
    const known = { providerUuid: info.uuid, providerStatus: info.status };
    const difference = differenceOf(payout, info);
    if (difference !== null) {
      // Somebody has to look: neither paid nor given back by itself.
      log.error({ payout_id: payout.id, difference }, 'payout_differs');
      await endClaim(pool, claim, {
        state: 'accepted',
        ...known,
        lastError: difference,
        nextInS: LOOK_S.max,
      });
      return;
    }
    const to = !info.isFinal
      ? null
      : info.status === 'paid'
        ? ('completed' as const)
        : FAILED.has(info.status)
          ? ('failed' as const)
          : null;
    if (to === null) {
      const nextInS = Math.min(LOOK_S.max, Math.max(LOOK_S.min, (claim.sentSecondsAgo ?? 0) / 4));
      await withTransaction(pool, async (client) => {
        if (!(await endClaim(client, claim, { state: 'accepted', ...known, nextInS }))) return;
        if (info.txid !== null) await noteTransaction(client, payout.id, info.txid);
      });
      return;
    }
    await withTransaction(pool, async (client) => {
      if (!(await endClaim(client, claim, { state: 'ended', ...known }))) return;
      const moved = await movePayout(client, payout.id, to, {
        ...(info.txid !== null && { txReference: info.txid }),
        ...(to === 'failed' && { reason: `Cryptomus: ${info.status}` }),
      });
      if (!moved.ok) throw new Error(`payout ${payout.id} ended before its sending did`);
      await audit(client, `payout_${to}`, payout.id, { provider_status: info.status, txid: info.txid });
    });
  }

  get #cryptomus() {
    const { cryptomus } = this.#deps;
    if (cryptomus === null) throw new Error('Cryptomus is not configured');
    return cryptomus;
  }
}

/** What Cryptomus has otherwise than we asked for, in words; null when nothing. */
function differenceOf(payout: Payout, info: ProviderPayout): string | null {
  if (info.orderId !== null && info.orderId !== orderIdOf(payout.id)) return `order ${info.orderId}`;
  if (info.currency !== payout.currency) return `currency ${info.currency}`;
  if (!isMicros(info.amount, payout.amountMicros)) return `amount ${info.amount}`;
  if (info.address !== null && info.address !== payout.target) return 'another address';
  return null;
}

function audit(client: Queryable, action: string, payoutId: string, after: object): Promise<void> {
  return recordAudit(client, {
    actor: { role: 'system' },
    action,
    objectType: 'payout',
    objectId: payoutId,
    after,
  });
}
