import type pg from 'pg';
import { recordAudit } from '../../control-plane/audit/audit.js';
import { withTransaction } from '../../control-plane/db/pool.js';
import { print, withDatabase } from './database-command.js';
import { Progress } from './progress.js';

/** Whose sign-ins end: of one Telegram account, those not used for so many days, or all. Exactly one is given. */
export interface ClearSessionsOptions {
  telegramId?: string;
  unusedDays?: number;
  all: boolean;
  dryRun: boolean;
  json: boolean;
}

/** Sign-ins ended in one transaction. */
const STEP_ROWS = 1_000;

/** The condition on `logins l`, and its value. */
function scopeOf({ telegramId, unusedDays, all }: ClearSessionsOptions): [string, unknown] | null {
  const scopes: [string, unknown][] = [];
  if (telegramId !== undefined)
    scopes.push([
      'l.user_id IN (SELECT user_id FROM telegram_accounts WHERE telegram_id = $1::bigint)',
      telegramId,
    ]);
  if (unusedDays !== undefined)
    scopes.push(['l.last_used_at < now() - make_interval(days => $1::int)', unusedDays]);
  if (all) scopes.push(['$1::text IS NULL', null]);
  return scopes.length === 1 ? (scopes[0] as [string, unknown]) : null;
}

async function endSome(pool: pg.Pool, where: string, value: unknown): Promise<number> {
  return withTransaction(pool, async (client) => {
    const { rowCount } = await client.query(
      `UPDATE logins SET revoked_at = now() WHERE id IN (
         SELECT l.id FROM logins l WHERE l.revoked_at IS NULL AND ${where} LIMIT ${STEP_ROWS} FOR UPDATE)`,
      [value],
    );
    const ended = rowCount ?? 0;
    if (ended > 0)
      await recordAudit(client, {
        actor: { role: 'system' },
        action: 'logins_cleared',
        objectType: 'login',
        objectId: null,
        after: { ended },
      });
    return ended;
  });
}

/**
 * `traffic-share clear-sessions`: ends sign-ins; their access and refresh tokens are dead within TS_AUTH_CACHE_MS. Devices
 * share on, their keys are another thing. Resolves to the exit code.
 */
export function runClearSessions(options: ClearSessionsOptions): Promise<number> {
  const scope = scopeOf(options);
  if (scope === null) {
    process.stderr.write('one of --telegram-id, --unused-days and --all is needed\n');
    return Promise.resolve(1);
  }
  const [where, value] = scope;
  return withDatabase('clear-sessions', async (pool) => {
    const { rows } = await pool.query<{ n: bigint }>(
      `SELECT count(*) AS n FROM logins l WHERE l.revoked_at IS NULL AND ${where}`,
      [value],
    );
    const total = Number(rows[0]?.n ?? 0);
    let ended = 0;
    if (!options.dryRun) {
      const progress = new Progress(process.stderr, 'sign-ins ended');
      try {
        for (;;) {
          const step = await endSome(pool, where, value);
          ended += step;
          progress.update(Math.min(ended, total), total);
          if (step < STEP_ROWS) break;
        }
      } catch (error) {
        process.stderr.write(`${ended} of ${total} sign-ins ended; run it again for the others\n`);
        throw error;
      } finally {
        progress.end();
      }
    }
    print(options.json, { dry_run: options.dryRun, found: total, ended }, [
      options.dryRun ? `${total} sign-ins would end` : `${ended} sign-ins ended`,
    ]);
    return 0;
  });
}
