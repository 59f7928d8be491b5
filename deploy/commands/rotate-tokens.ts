import type pg from 'pg';
import { recordAudit } from '../../control-plane/audit/audit.js';
import { rotateToken } from '../../control-plane/buyers/tokens.js';
import { readControlPlaneConfig } from '../../control-plane/config.js';
import { isDatabaseAway, withTransaction } from '../../control-plane/db/pool.js';
import { connectLimiter, LiveStateUnavailable, redisReady } from '../../control-plane/db/redis.js';
import { csvLine } from '../../control-plane/http/csv.js';
import { createServices } from '../../control-plane/services.js';
import { connectLive } from '../../gateway/live/connection.js';
import { systemClock } from '../../gateway/runtime/clock.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { withDatabase } from './database-command.js';
import { Progress } from './progress.js';

/** Which secrets of buyers are replaced: of one account or of all (exactly one is given), of one kind or both. */
export interface RotateTokensOptions {
  buyer?: string;
  all: boolean;
  kind?: 'token' | 'proxy_password';
  /** Only those made so long ago. */
  olderThanDays: number;
  /** Only those made before: an interrupted run is gone on with by it, and leaves alone what that one made. */
  madeBefore?: Date;
  /** The old ones work on for so long; 0: not at all. */
  graceHours: number;
  dryRun: boolean;
  json: boolean;
}

interface Found {
  id: string;
  buyer_id: string;
  account: string;
  kind: string;
  prefix: string;
  description: string | null;
}

/** Time Redis has to be there; gateways learn of new secrets through it. */
const REDIS_WAIT_MS = 5_000;
/** What an interrupted run ends with: some are replaced, and it can be gone on with. */
const INTERRUPTED = 3;

type Teller = NonNullable<Awaited<ReturnType<typeof teller>>>;

/**
 * `traffic-share rotate-tokens`: replaces API tokens and proxy passwords of buyers. Each new one is written to stdout when it
 * counts, and never shown again: a line of CSV, or of JSON. What was replaced already, and only works on for its grace, is left
 * alone. When Redis or Postgres goes away in the middle it stops at once, since gateways would go on with the old ones: it says
 * how far it has come and how to go on, and ends with 3. Needs the control plane's settings. Resolves to the exit code.
 */
export function runRotateTokens(options: RotateTokensOptions): Promise<number> {
  if ((options.buyer !== undefined) === options.all) {
    process.stderr.write('one of --buyer and --all is needed\n');
    return Promise.resolve(1);
  }
  return withDatabase('rotate-tokens', async (pool) => {
    const { rows: now } = await pool.query<{ now: Date }>("SELECT now() + interval '1 millisecond' AS now");
    const madeBefore = options.madeBefore ?? (now[0] as { now: Date }).now;
    const found = await findTokens(pool, options, madeBefore);
    if (options.dryRun) {
      for (const one of found) writeLine(options, one, {});
      process.stderr.write(`${found.length} would be replaced\n`);
      return 0;
    }
    const untold = options.madeBefore === undefined ? [] : await findReplaced(pool, options, madeBefore);
    if (found.length === 0 && untold.length === 0) {
      process.stderr.write('nothing to replace\n');
      return 0;
    }
    const tell = await teller(pool);
    if (tell === null) {
      process.stderr.write('Redis at TS_REDIS_URL can not be reached: gateways would not learn of it\n');
      return 1;
    }
    try {
      return await replaceAll(pool, tell, { options, found, untold, madeBefore });
    } finally {
      tell.close();
    }
  });
}

/** What is to be replaced. */
async function findTokens(pool: pg.Pool, options: RotateTokensOptions, madeBefore: Date): Promise<Found[]> {
  const { rows } = await pool.query<Found>(
    `SELECT k.id, k.buyer_id, b.account, k.kind, k.prefix, k.description
       FROM buyer_tokens k JOIN buyers b ON b.id = k.buyer_id
      WHERE k.revoked_at IS NULL AND k.replaced_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
        AND b.status <> 'closed' AND ($1::text IS NULL OR b.account = $1) AND ($2::text IS NULL OR k.kind = $2)
        AND k.created_at <= now() - make_interval(days => $3) AND k.created_at < $4
      ORDER BY b.account, k.created_at, k.id`,
    [options.buyer ?? null, options.kind ?? null, options.olderThanDays, madeBefore],
  );
  return rows;
}

/** Buyers with secrets that were replaced since then: gateways may not have been told. */
async function findReplaced(pool: pg.Pool, { buyer }: RotateTokensOptions, since: Date): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `SELECT DISTINCT b.id FROM buyer_tokens k JOIN buyers b ON b.id = k.buyer_id
      WHERE k.replaced_at >= $1 AND ($2::text IS NULL OR b.account = $2)`,
    [since, buyer ?? null],
  );
  return rows.map(({ id }) => id);
}

async function replaceAll(
  pool: pg.Pool,
  tell: Teller,
  run: { options: RotateTokensOptions; found: readonly Found[]; untold: readonly string[]; madeBefore: Date },
): Promise<number> {
  const { options, found, untold, madeBefore } = run;
  const progress = new Progress(process.stderr, 'replaced');
  let replaced = 0;
  let last: Found | null = null;
  try {
    await tellSurely(tell, untold);
    for (const one of found) {
      last = one;
      const rotated = await withTransaction(pool, (client) => replaceOne(client, one, options.graceHours));
      // Revoked meanwhile: somebody wanted it gone
      if (rotated.ok) writeLine(options, one, { token_id: rotated.token.id, secret: rotated.secret });
      replaced++;
      last = null;
      if (rotated.ok) await tellSurely(tell, [one.buyer_id]);
      progress.update(replaced, found.length);
    }
    return 0;
  } catch (error) {
    const redis = error instanceof LiveStateUnavailable;
    if (!redis && !isDatabaseAway(error)) throw error;
    progress.end();
    process.stderr.write(
      `${redis ? 'live_state_unavailable' : 'database_unavailable'}: stopped after ${replaced} of ${found.length}; ` +
        'gateways may go on with the old secrets of the last ones until it is gone on with:\n' +
        `  traffic-share rotate-tokens ${wordsOf(options, madeBefore).join(' ')}\n` +
        (last === null
          ? ''
          : `A secret of ${last.account} (${last.prefix}…) may have been replaced without being shown; if it is gone then: --buyer\n`),
    );
    return INTERRUPTED;
  } finally {
    progress.end();
  }
}

async function replaceOne(client: pg.PoolClient, { id }: Found, graceHours: number) {
  const result = await rotateToken(client, id, graceHours * 3_600_000);
  if (result.ok)
    await recordAudit(client, {
      actor: { role: 'system' },
      action: 'token_rotated',
      objectType: 'buyer_token',
      objectId: id,
      after: { token_id: result.token.id, grace_seconds: graceHours * 3_600 },
    });
  return result;
}

/** Tells gateways, once more when Redis comes back in time; else LiveStateUnavailable. */
async function tellSurely(tell: Teller, buyerIds: readonly string[]): Promise<void> {
  if (buyerIds.length === 0) return;
  try {
    await tell.accounts(buyerIds);
  } catch (first) {
    const away = (cause: unknown) => new LiveStateUnavailable('Redis did not answer', { cause });
    if (!(await redisReady(tell.redis, REDIS_WAIT_MS))) throw away(first);
    await tell.accounts(buyerIds).catch((error) => {
      throw isDatabaseAway(error) ? error : away(error);
    });
  }
}

/** The options that go on where this run stopped. */
const wordsOf = ({ buyer, kind, olderThanDays, graceHours, json }: RotateTokensOptions, madeBefore: Date) => [
  ...(buyer === undefined ? ['--all'] : ['--buyer', buyer]),
  ...(kind === undefined ? [] : ['--kind', kind]),
  ...(olderThanDays === 0 ? [] : ['--older-than-days', olderThanDays]),
  ...['--grace-hours', graceHours, '--made-before', madeBefore.toISOString()],
  ...(json ? ['--json'] : []),
];

function writeLine({ json }: RotateTokensOptions, found: Found, more: Record<string, string>): void {
  const shown = { account: found.account, kind: found.kind, old_prefix: found.prefix, ...more };
  process.stdout.write(json ? `${JSON.stringify(shown)}\n` : csvLine(Object.values(shown)));
}

/** What tells gateways of accounts; null: Redis is away. */
async function teller(pool: pg.Pool) {
  const config = readControlPlaneConfig();
  const redis = connectLive({ url: config.redisUrl, log: silentLog });
  const limiterRedis = connectLimiter(config.redisUrl, () => {});
  const close = () => {
    redis.disconnect();
    limiterRedis.disconnect();
  };
  if (!(await redisReady(redis, REDIS_WAIT_MS))) {
    close();
    return null;
  }
  const nothing = { send: () => {}, push: () => {}, withdraw: () => false };
  const services = createServices({
    config,
    log: silentLog,
    clock: systemClock,
    pool,
    redis,
    limiterRedis,
    codeSender: nothing,
    telegram: nothing,
    botApi: null,
    originCheck: { check: () => ({ ok: false as const, code: 'region_not_allowed' as const, rule: 'none' }) },
  });
  await services.settings.read();
  return { accounts: (ids: readonly string[]) => services.live.tellAccounts(ids), redis, close };
}
