import type pg from 'pg';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import type { PushMessage, PushOutcome } from './fcm-client.js';
import { forgetPushToken } from './push-tokens.js';

export interface PushSenderDeps {
  pool: pg.Pool;
  clock: Clock;
  log: Log;
  /** Sends one notice; never rejects. */
  client: { send(message: PushMessage): Promise<PushOutcome> };
}

/** Pause between two looks for something to push. */
const INTERVAL_MS = 1_000;
/** Pushes claimed at a time, and calls at once. */
const BATCH = 100;
const CALLS_MAX = 10;
/** What a sender that died has claimed is due again after this. */
const CLAIM_S = 120;
/** A notice is pushed within this time, or not at all: it is in the inbox. */
export const PUSH_AGE_S_MAX = 3_600;
/** Tries of one push; the waits between them double. */
const ATTEMPTS_MAX = 6;
const RETRY_FIRST_S = 15;
/** Nothing is taken at the moment, and it was not said for how long. */
const PAUSE_MS = 60_000;
/** Longest text on a screen. */
const BODY_MAX = 500;

interface Claim {
  notification_id: bigint;
  device_id: string;
  attempts: number;
  token: string | null;
  kind: string;
  title: string;
  body: string;
}

/**
 * Pushes what is put into inboxes to the devices of their readers. At least once: after a crash a push may go out again,
 * with the tag of the first, so that it is seen once. Any number of control planes share the work.
 */
export class PushSender {
  readonly counts = { sent: 0, failed: 0, tokensGone: 0 };
  readonly #deps: PushSenderDeps;
  readonly #job: Periodic;
  #pausedUntilMs = 0;

  constructor(deps: PushSenderDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'pushes_not_sent'),
    });
  }

  start(): void {
    this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  /** Pushes what is due; resolves to how many calls were made. */
  async runOnce(): Promise<number> {
    let calls = 0;
    while (this.#deps.clock.monotonicMs() >= this.#pausedUntilMs) {
      const claims = await this.#claim();
      for (let i = 0; i < claims.length; i += CALLS_MAX) {
        const some = claims.slice(i, i + CALLS_MAX);
        calls += (await Promise.all(some.map((claim) => this.#push(claim)))).length;
        if (this.#deps.clock.monotonicMs() < this.#pausedUntilMs) {
          await this.#giveBack(claims.slice(i + CALLS_MAX));
          break;
        }
      }
      if (claims.length < BATCH) break;
    }
    return calls;
  }

  async #claim(): Promise<Claim[]> {
    const { rows } = await this.#deps.pool.query<Claim>(
      `WITH due AS (
         SELECT notification_id, device_id FROM pushes
          WHERE due_at <= now() AND created_at > now() - make_interval(secs => $1)
          ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
       ), claimed AS (
         UPDATE pushes p SET due_at = now() + make_interval(secs => $3), attempts = attempts + 1
           FROM due WHERE p.notification_id = due.notification_id AND p.device_id = due.device_id
         RETURNING p.notification_id, p.device_id, p.attempts
       )
       SELECT c.notification_id, c.device_id, c.attempts, d.push_token AS token, n.kind, n.title, n.body
         FROM claimed c JOIN devices d ON d.id = c.device_id JOIN notifications n ON n.id = c.notification_id
        ORDER BY c.notification_id`,
      [PUSH_AGE_S_MAX, BATCH, CLAIM_S],
    );
    return rows;
  }

  async #push(claim: Claim): Promise<void> {
    const { log, client, clock } = this.#deps;
    const { token, kind, title, body } = claim;
    if (token === null) return this.#end(claim); // taken away since
    const id = claim.notification_id.toString();
    const outcome = await client.send({
      token,
      title,
      body: body.length > BODY_MAX ? `${body.slice(0, BODY_MAX - 1)}…` : body,
      data: { kind, notification_id: id },
      tag: `inbox-${id}`,
    });
    const fields = { notification_id: id, device_id: claim.device_id, attempt: claim.attempts };
    switch (outcome.kind) {
      case 'sent':
        this.counts.sent++;
        return this.#end(claim);
      case 'token_gone':
        this.counts.tokensGone++;
        log.info(fields, 'push_token_gone');
        await this.#end(claim);
        return forgetPushToken(this.#deps.pool, token);
      case 'refused':
        this.counts.failed++;
        log.error({ ...fields, why: outcome.why }, 'push_refused');
        return this.#end(claim);
      case 'later': {
        log.warn({ ...fields, why: outcome.why }, 'push_later');
        if (outcome.everyone) {
          // It is not this message's fault: the try does not count
          this.#pausedUntilMs = clock.monotonicMs() + (outcome.afterMs ?? PAUSE_MS);
          return this.#retry(claim, (outcome.afterMs ?? PAUSE_MS) / 1_000, true);
        }
        if (claim.attempts < ATTEMPTS_MAX) {
          const waitS = RETRY_FIRST_S * 2 ** (claim.attempts - 1);
          return this.#retry(claim, Math.max(waitS, (outcome.afterMs ?? 0) / 1_000), false);
        }
        this.counts.failed++;
        return this.#end(claim);
      }
    }
  }

  async #end({ notification_id, device_id }: Claim): Promise<void> {
    await this.#deps.pool.query('DELETE FROM pushes WHERE notification_id = $1 AND device_id = $2', [
      notification_id,
      device_id,
    ]);
  }

  async #retry({ notification_id, device_id }: Claim, waitS: number, uncounted: boolean): Promise<void> {
    await this.#deps.pool.query(
      `UPDATE pushes SET due_at = now() + make_interval(secs => $3), attempts = attempts - $4
        WHERE notification_id = $1 AND device_id = $2`,
      [notification_id, device_id, waitS, uncounted ? 1 : 0],
    );
  }

  /** Claimed and not tried: due again now. */
  async #giveBack(claims: readonly Claim[]): Promise<void> {
    for (const claim of claims) await this.#retry(claim, 0, true);
  }
}

/** Removes what is too old to be pushed; resolves to how many. */
export async function forgetOldPushes(pool: pg.Pool): Promise<number> {
  const { rowCount } = await pool.query(
    'DELETE FROM pushes WHERE created_at < now() - make_interval(secs => $1)',
    [PUSH_AGE_S_MAX],
  );
  return rowCount ?? 0;
}
