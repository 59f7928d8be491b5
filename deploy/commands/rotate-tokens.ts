import type pg from 'pg';
import { recordAudit } from '../../control-plane/audit/audit.js';
import { rotateToken } from '../../control-plane/buyers/tokens.js';
import { readControlPlaneConfig } from '../../control-plane/config.js';
import { withTransaction } from '../../control-plane/db/pool.js';
import { connectLimiter, redisReady } from '../../control-plane/db/redis.js';
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

/**
 * `traffic-share rotate-tokens`: replaces API tokens and proxy passwords of buyers. Each new one is written to stdout when it
 * counts, and never shown again: a line of CSV, or of JSON. Needs the control plane's settings. Resolves to the exit code.
 */
export function runRotateTokens(options: RotateTokensOptions): Promise<number> {
  if ((options.buyer !== undefined) === options.all) {
    process.stderr.write('one of --buyer and --all is needed\n');
    return Promise.resolve(1);
  }
  return withDatabase('rotate-tokens', async (pool) => {
    const { rows } = await pool.query<Found>(
      `SELECT k.id, k.buyer_id, b.account, k.kind, k.prefix, k.description
         FROM buyer_tokens k JOIN buyers b ON b.id = k.buyer_id
        WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AND b.status <> 'closed'
          AND ($1::text IS NULL OR b.account = $1) AND ($2::text IS NULL OR k.kind = $2)
          AND k.created_at <= now() - make_interval(days => $3)
        ORDER BY b.account, k.created_at, k.id`,
      [options.buyer ?? null, options.kind ?? null, options.olderThanDays],
    );
    const line = (found: Found, more: Record<string, string>) => {
      const shown = { account: found.account, kind: found.kind, old_prefix: found.prefix, ...more };
      process.stdout.write(options.json ? `${JSON.stringify(shown)}\n` : csvLine(Object.values(shown)));
    };
    if (options.dryRun) {
      for (const found of rows) line(found, {});
      process.stderr.write(`${rows.length} would be replaced\n`);
      return 0;
    }
    if (rows.length === 0) {
      process.stderr.write('nothing to replace\n');
      return 0;
    }
    const tell = await teller(pool);
    if (tell === null) {
      process.stderr.write('Redis at TS_REDIS_URL can not be reached: gateways would not learn of it\n');
      return 1;
    }
    const progress = new Progress(process.stderr, 'replaced');
    try {
      for (const [index, found] of rows.entries()) {
        const rotated = await withTransaction(pool, async (client) => {
          const result = await rotateToken(client, found.id, options.graceHours * 3_600_000);
          if (result.ok)
            await recordAudit(client, {
              actor: { role: 'system' },
              action: 'token_rotated',
              objectType: 'buyer_token',
              objectId: found.id,
              after: { token_id: result.token.id, grace_seconds: options.graceHours * 3_600 },
            });
          return result;
        });
        // Revoked meanwhile: somebody wanted it gone
        if (rotated.ok) {
          line(found, { token_id: rotated.token.id, secret: rotated.secret });
          await tell.accountChanged(found.buyer_id);
        }
        progress.update(index + 1, rows.length);
      }
    } finally {
      progress.end();
      tell.close();
    }
    return 0;
  });
}

/** What tells gateways of an account; null: Redis is away. */
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
  return { accountChanged: (id: string) => services.live.accountsChanged([id]), close };
}
