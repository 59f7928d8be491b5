import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readDirtyMeterKeys, readMeteringGateways } from '../../gateway/live/meters.js';
import { readGatewayPresence } from '../../gateway/live/presence.js';
import {
  parseMeterKey,
  runOf,
  type WalletAsk,
  type WalletRecord,
  walletField,
} from '../../gateway/live/records.js';
import {
  forgetWallets,
  parseWalletField,
  readAllWalletAsks,
  readAllWallets,
  readLastRingId,
  readWalletAsks,
  readWalletBell,
  readWallets,
  showWallets,
} from '../../gateway/live/wallets.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { withTransaction } from '../db/pool.js';
import { runsWithUnbookedMeters } from './unbooked.js';
import {
  answerWallets,
  type HoldKey,
  type OpenHold,
  openHoldsOf,
  readOpenHolds,
  type WalletQuestion,
  type WalletReply,
} from './wallets.js';

export interface WalletKeeperDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  /** Opens a connection of its own for the bell, whose reads block; closed at `stop`. */
  openBell: () => LiveRedis;
  log: Log;
  /** Price of a buyer without one of their own, micro-dollars per GB. */
  defaultBuyerPriceMicrosPerGb: () => bigint;
  /** How often everything that is asked is looked through, ms. Default 3 000. */
  sweepMs?: number;
}

const SWEEP_MS = 3_000;
/** Longest wait for one ring, ms; below the connection's command time-out. */
const BLOCK_MS = 500;
const RETRY_MS = 200;
const RINGS_MAX = 1_000;
/** Questions answered in one transaction: it holds the locks of all of them. */
const BATCH = 200;
/** Holds read by one statement. */
const HOLDS_READ = 1_000;

/** Counters since the start, for metrics. */
export interface WalletKeeperCounts {
  /** Questions answered. */
  answers: number;
  /** Holds closed. */
  closed: number;
  failures: number;
}

/**
 * Answers what gateways ask for their wallets: at once when the bell rings, and every few seconds whatever was missed.
 * Any number of keepers may run; each answer is a transaction in Postgres, shown in Redis after its commit. While
 * Postgres or Redis is away gateways go on with what they hold.
 */
export class WalletKeeper {
  readonly counts: WalletKeeperCounts = { answers: 0, closed: 0, failures: 0 };
  readonly #deps: WalletKeeperDeps;
  #bell: LiveRedis | null = null;
  /** null: not known which one that is. */
  #lastRingId: string | null = null;
  #stopped = false;
  #listening: Promise<void> = Promise.resolve();
  #sweeping: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | null = null;
  #wake: (() => void) | null = null;
  #failing = false;

  constructor(deps: WalletKeeperDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#bell = this.#deps.openBell();
    this.#listening = this.#listen(this.#bell);
    this.#scheduleSweep(0);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#bell?.disconnect();
    this.#wake?.();
    await Promise.all([this.#listening, this.#sweeping]);
  }

  #scheduleSweep(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#sweeping = this.sweep()
        .then(
          () => {
            this.#failing = false;
          },
          (error) => this.#failed(error),
        )
        .finally(() => {
          if (!this.#stopped) this.#scheduleSweep(this.#deps.sweepMs ?? SWEEP_MS);
        });
    }, delayMs);
  }

  async #listen(bell: LiveRedis): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.answerRings(bell);
      } catch (error) {
        if (this.#stopped) return;
        this.#failed(error);
        await this.#pause(RETRY_MS);
      }
    }
  }

  /**
   * Waits for rings, not long, and answers them: those after the ones of the call before, in the first call those
   * that come from now on. `bell`: a connection of its own, because the read blocks. Rejects when Postgres or Redis
   * is away.
   */
  async answerRings(bell: LiveRedis): Promise<void> {
    try {
      this.#lastRingId ??= await readLastRingId(bell);
      const rings = await readWalletBell(bell, this.#lastRingId, RINGS_MAX, BLOCK_MS);
      const last = rings.at(-1);
      if (last === undefined) {
        // A Redis that came back empty with its clock set back gives ids that are never above this one.
        if (isBefore(await readLastRingId(bell), this.#lastRingId)) this.#lastRingId = '0-0';
        return;
      }
      this.#lastRingId = last.id;
      const keys = new Map<string, HoldKey>();
      for (const { gatewayId, field } of rings) {
        const parsed = parseWalletField(field);
        if (parsed !== null) keys.set(`${gatewayId} ${field}`, { gatewayId, ...parsed });
      }
      await this.#answerKeys([...keys.values()]);
    } catch (error) {
      // Another stream, perhaps, with smaller ids. What rang meanwhile is found by the sweep.
      this.#lastRingId = null;
      throw error;
    }
  }

  #failed(error: unknown): void {
    this.counts.failures++;
    // Once an outage.
    if (!this.#failing && !this.#stopped) this.#deps.log.warn({ err: error }, 'wallets_not_kept');
    this.#failing = true;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #answerKeys(keys: readonly HoldKey[]): Promise<void> {
    const replies = await this.#answer(await this.#questions(keys));
    await this.#serveOthers(replies);
  }

  /** Something came back: whoever else of that owner did not get enough is answered anew. */
  async #serveOthers(replies: readonly WalletReply[]): Promise<void> {
    const owners = new Map(
      replies.filter((r) => r.gaveBack).map((r) => [`${r.owner.kind} ${r.owner.ownerId}`, r.owner]),
    );
    if (owners.size === 0) return;
    const answered = new Set(replies.map((r) => `${r.gatewayId} ${walletField(r.run, r.owner)}`));
    const others = (await openHoldsOf(this.#deps.pool, [...owners.values()])).filter(
      (k) => !answered.has(`${k.gatewayId} ${walletField(k.run, k.owner)}`),
    );
    const hungry: WalletQuestion[] = [];
    for (const { question, shown } of await this.#asked(others))
      if (question !== null && isHungry(question, shown)) hungry.push(question);
    await this.#answer(await this.#ofLiveRuns(hungry));
  }

  /**
   * Those whose gateway lives in that very run. One that rings lives; of others an old ask may be all that is left, and
   * what is granted to the dead stays held until somebody writes it off.
   */
  async #ofLiveRuns(questions: readonly WalletQuestion[]): Promise<WalletQuestion[]> {
    const runs = new Map<string, string | null>();
    for (const gatewayId of new Set(questions.map((q) => q.gatewayId))) {
      const presence = await readGatewayPresence(this.#deps.redis, gatewayId);
      runs.set(gatewayId, presence && runOf(presence.epoch));
    }
    return questions.filter((q) => runs.get(q.gatewayId) === q.run).map((q) => ({ ...q, again: true }));
  }

  async #questions(keys: readonly HoldKey[]): Promise<WalletQuestion[]> {
    return (await this.#asked(keys)).flatMap(({ question }) => question ?? []);
  }

  /** What is asked and shown of each. */
  async #asked(
    keys: readonly HoldKey[],
  ): Promise<Array<{ question: WalletQuestion | null; shown: WalletRecord | null }>> {
    const found: Array<{ question: WalletQuestion | null; shown: WalletRecord | null }> = [];
    for (const [gatewayId, some] of groupByGateway(keys)) {
      const fields = some.map((k) => walletField(k.run, k.owner));
      const [asks, shown] = await Promise.all([
        readWalletAsks(this.#deps.redis, gatewayId, fields),
        readWallets(this.#deps.redis, gatewayId, fields),
      ]);
      some.forEach((key, i) => {
        const ask = asks[i] ?? null;
        found.push({ question: ask && questionOf(key, ask), shown: shown[i] ?? null });
      });
    }
    return found;
  }

  /** One transaction for each batch, then shown. */
  async #answer(questions: readonly WalletQuestion[]): Promise<WalletReply[]> {
    const { pool, redis } = this.#deps;
    const all: WalletReply[] = [];
    const ready = await this.#finishedAreBooked(questions);
    for (let i = 0; i < ready.length; i += BATCH) {
      const replies = await withTransaction(pool, (client) =>
        answerWallets(client, ready.slice(i, i + BATCH), {
          defaultBuyerPriceMicrosPerGb: this.#deps.defaultBuyerPriceMicrosPerGb(),
        }),
      );
      this.counts.answers += replies.length;
      for (const [gatewayId, some] of groupByGateway(replies)) {
        await showWallets(redis, gatewayId, some.filter((r) => !r.closed).map(recordOf));
        const closed = some.filter((r) => r.closed).map((r) => walletField(r.run, r.owner));
        this.counts.closed += closed.length;
        await forgetWallets(redis, gatewayId, closed);
      }
      all.push(...replies);
    }
    return all;
  }

  /**
   * A gateway calls a run finished when its journal has nothing of it. After the loss of its host Redis may know meters
   * that the journal has lost: until they are booked (and then known in Postgres as open) the run is not finished, else
   * their money would be granted to others first. A later sweep asks again.
   */
  async #finishedAreBooked(questions: readonly WalletQuestion[]): Promise<WalletQuestion[]> {
    const { pool, redis } = this.#deps;
    const unbooked = new Map<string, Set<string>>();
    for (const { gatewayId, finished } of questions) {
      if (!finished || unbooked.has(gatewayId)) continue;
      const meters = (await readDirtyMeterKeys(redis, gatewayId)).flatMap((key) => parseMeterKey(key) ?? []);
      unbooked.set(gatewayId, await runsWithUnbookedMeters(pool, gatewayId, meters));
    }
    return questions.map((q) =>
      q.finished && unbooked.get(q.gatewayId)?.has(q.run) ? { ...q, finished: false } : q,
    );
  }

  /** Looks through everything that is asked and shown, once. Rejects when Postgres or Redis is away. */
  async sweep(): Promise<void> {
    const { pool, redis } = this.#deps;
    const gateways = new Set(await readMeteringGateways(redis));
    const { rows } = await pool.query<{ gateway_id: string }>(
      'SELECT DISTINCT gateway_id FROM wallet_holds WHERE closed_at IS NULL',
    );
    for (const row of rows) gateways.add(row.gateway_id);
    for (const gatewayId of gateways) {
      if (this.#stopped) return;
      await this.#sweepGateway(gatewayId);
    }
  }

  async #sweepGateway(gatewayId: string): Promise<void> {
    const { pool, redis } = this.#deps;
    const [asks, shown] = await Promise.all([
      readAllWalletAsks(redis, gatewayId),
      readAllWallets(redis, gatewayId),
    ]);
    const questions: WalletQuestion[] = [];
    const hungry: WalletQuestion[] = [];
    const toShow: Array<{ field: string } & WalletRecord> = [];
    const open = new Set<string>();
    for await (const holds of openHolds(pool, gatewayId))
      for (const hold of holds) {
        const field = walletField(hold.run, hold.owner);
        open.add(field);
        const ask = asks.get(field);
        const there = shown.get(field) ?? null;
        if (ask) {
          const question = questionOf(hold, ask);
          if (question.finished || question.renounced > hold.renounced)
            questions.push({ ...question, wantGranted: 0n, withdrawn: 0n });
          if (isHungry(question, there)) hungry.push(question);
        }
        if (there === null || BigInt(there.granted) < hold.granted) toShow.push(shownOf(hold, field));
      }
    for (const [field, ask] of asks) {
      const parsed = open.has(field) ? null : parseWalletField(field);
      if (parsed === null) continue;
      const question = questionOf({ gatewayId, ...parsed }, ask);
      // No hold, or one that was closed: the answer says which.
      if (question.finished) questions.push(question);
      else if (isHungry(question, shown.get(field) ?? null)) hungry.push(question);
    }
    // Shown, but closed meanwhile (by a write-off, say).
    const stale = [...shown.keys()].filter(
      (field) => !open.has(field) && (!asks.has(field) || shown.get(field)?.granted !== '0'),
    );
    if (stale.length > 0) await this.#forgetClosed(gatewayId, stale);
    await showWallets(redis, gatewayId, toShow);
    await this.#serveOthers(await this.#answer(questions));
    await this.#answer(await this.#ofLiveRuns(hungry));
  }

  async #forgetClosed(gatewayId: string, fields: readonly string[]): Promise<void> {
    const { pool, redis } = this.#deps;
    const keys = fields.map(parseWalletField);
    const { rows } = await pool.query<{ n: bigint }>(
      `SELECT w.n FROM unnest($2::text[], $3::uuid[], $4::text[]) WITH ORDINALITY AS w (kind, owner_id, run, n)
        WHERE EXISTS (SELECT 1 FROM wallet_holds h WHERE h.kind = w.kind AND h.owner_id = w.owner_id
                        AND h.gateway_id = $1 AND h.run = w.run AND h.closed_at IS NOT NULL)`,
      [
        gatewayId,
        keys.map((k) => k?.owner.kind ?? null),
        keys.map((k) => k?.owner.ownerId ?? null),
        keys.map((k) => k?.run ?? null),
      ],
    );
    await forgetWallets(
      redis,
      gatewayId,
      rows.map((r) => fields[Number(r.n) - 1] as string),
    );
  }
}

/** Shows every open hold, whatever was asked: a Redis that came back empty. Rejects when one of them is away. */
export async function rebuildWallets(pool: pg.Pool, redis: LiveRedis): Promise<void> {
  for await (const holds of openHolds(pool, null))
    for (const [gatewayId, some] of groupByGateway(holds))
      await showWallets(
        redis,
        gatewayId,
        some.map((h) => shownOf(h, walletField(h.run, h.owner))),
      );
}

/** Open holds, of one gateway or (null) of all, some at a time. */
async function* openHolds(pool: pg.Pool, gatewayId: string | null): AsyncGenerator<OpenHold[]> {
  let after: OpenHold | null = null;
  for (;;) {
    const step: OpenHold[] = await readOpenHolds(pool, gatewayId, after, HOLDS_READ);
    yield step;
    after = step.at(-1) ?? null;
    if (step.length < HOLDS_READ) return;
  }
}

/** Ids of a Redis stream: ms and a number within it. */
function isBefore(id: string, other: string): boolean {
  const [ms = 0, n = 0] = id.split('-').map(Number);
  const [otherMs = 0, otherN = 0] = other.split('-').map(Number);
  return ms < otherMs || (ms === otherMs && n < otherN);
}

/** Not answered, or answered with less than asked when there was nothing: the answer may be another one now. */
function isHungry(question: WalletQuestion, shown: WalletRecord | null): boolean {
  if (question.wantGranted <= question.withdrawn) return false;
  if (shown === null || BigInt(shown.answered) < question.wantGranted) return true;
  return shown.state !== 'open' && BigInt(shown.granted) < question.wantGranted;
}

function questionOf(key: HoldKey, ask: WalletAsk): WalletQuestion {
  return {
    gatewayId: key.gatewayId,
    run: key.run,
    owner: key.owner,
    wantGranted: BigInt(ask.wantGranted),
    renounced: BigInt(ask.renounced),
    withdrawn: BigInt(ask.withdrawn ?? '0'),
    finished: ask.finished,
    again: false,
  };
}

function recordOf(reply: WalletReply): { field: string } & WalletRecord {
  return {
    field: walletField(reply.run, reply.owner),
    granted: reply.granted.toString(),
    answered: reply.answered.toString(),
    state: reply.state,
    beyond: reply.beyond?.toString(),
  };
}

function shownOf(hold: OpenHold, field: string): { field: string } & WalletRecord {
  return { field, granted: hold.granted.toString(), answered: '0', state: 'open' };
}

function groupByGateway<T extends { gatewayId: string }>(some: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of some) {
    const group = groups.get(one.gatewayId);
    if (group) group.push(one);
    else groups.set(one.gatewayId, [one]);
  }
  return groups;
}
