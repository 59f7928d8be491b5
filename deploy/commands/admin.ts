import { userInfo } from 'node:os';
import type pg from 'pg';
import { recordAudit } from '../../control-plane/audit/audit.js';
import { type AdminToken, makeAdmin, signInAdmin } from '../../control-plane/auth/admin-access.js';
import { readControlPlaneConfig } from '../../control-plane/config.js';
import { withTransaction } from '../../control-plane/db/pool.js';
import { print, withDatabase } from './database-command.js';

/** `traffic-share admin create`: who becomes an admin. At least one of the first two is given. */
export interface AdminCreateOptions {
  /** Whose main Telegram account it is; who has none signs in with `admin token` alone. */
  telegramId?: string;
  /** What the admin is called in lists; one who has a name keeps it. */
  username?: string;
  json: boolean;
}

/** `traffic-share admin token`: whose; exactly one is given, or none while there is only one admin. */
export interface AdminTokenOptions {
  user?: string;
  telegramId?: string;
  json: boolean;
}

interface Admin {
  id: string;
  telegram_id: bigint | null;
  username: string | null;
  created_at: Date;
}

const REFUSALS = {
  user_not_active: 'this user is banned or deleted',
  linked_telegram: "this is not the user's main Telegram account, and admins sign in with that one",
} as const;

/**
 * Makes an admin, with or without a Telegram account and without asking Telegram, and prints a token: what is needed to begin, and when
 * no admin can sign in any more. Whoever may run it has the database and the key of all tokens. Needs the control plane's settings.
 * Resolves to the exit code: 1 when it is refused, and nothing has changed then.
 */
export function runAdminCreate(options: AdminCreateOptions): Promise<number> {
  const { telegramId, username, json } = options;
  if (telegramId === undefined && username === undefined)
    return refuse('--username, --telegram-id or both are needed');
  const config = readControlPlaneConfig();
  return withDatabase('admin', (pool) =>
    withTransaction(pool, async (client) => {
      const made = await makeAdmin(client, {
        telegramId: telegramId === undefined ? null : Number(telegramId),
        username,
      });
      if (!made.ok) return refuse(REFUSALS[made.code]);
      if (made.already) return refuse('is an admin already; traffic-share admin token gives a token');
      await recordAudit(client, {
        actor: { role: 'system' },
        action: 'admin_created',
        objectType: 'user',
        objectId: made.userId,
        after: { telegram_id: telegramId ?? null, username: username ?? null, ...onMachine() },
      });
      return signIn(client, config, made.userId);
    }).then((done) => (typeof done === 'number' ? done : tell(json, done))),
  );
}

/**
 * `traffic-share admin token`: prints a token of an admin, as signing in with Telegram gives it. Needs the control plane's settings.
 * Resolves to the exit code: 1 when there is no such admin.
 */
export function runAdminToken({ user, telegramId, json }: AdminTokenOptions): Promise<number> {
  if (user !== undefined && telegramId !== undefined) return refuse('only one of --user and --telegram-id');
  const config = readControlPlaneConfig();
  return withDatabase('admin', async (pool) => {
    const admins = (await findAdmins(pool)).filter(
      (admin) =>
        (user === undefined || admin.id === user) &&
        (telegramId === undefined || admin.telegram_id === BigInt(telegramId)),
    );
    const [admin] = admins;
    if (admin === undefined)
      return refuse('there is no such admin; traffic-share admin list shows them, admin create makes one');
    if (admins.length > 1)
      return refuse(
        'there are several admins: --user or --telegram-id, as traffic-share admin list shows them',
      );
    return tell(json, await withTransaction(pool, (client) => signIn(client, config, admin.id)));
  });
}

/** `traffic-share admin list`: who is an admin, oldest first. Resolves to the exit code. */
export function runAdminList({ json }: { json: boolean }): Promise<number> {
  return withDatabase('admin', async (pool) => {
    const admins = (await findAdmins(pool)).map(({ id, telegram_id, username, created_at }) => ({
      id,
      telegram_id: telegram_id === null ? null : Number(telegram_id),
      username,
      created_at: created_at.toISOString(),
    }));
    const lines = admins.map((a) => `${a.id}  ${a.telegram_id ?? 'no Telegram'}  ${a.username ?? ''}`.trim());
    print(json, admins, lines.length === 0 ? ['there is none: traffic-share admin create'] : lines);
    return 0;
  });
}

/** Those who may sign in. */
async function findAdmins(pool: pg.Pool): Promise<Admin[]> {
  const { rows } = await pool.query<Admin>(
    `SELECT id, telegram_id, username, created_at FROM users WHERE is_admin AND status = 'active'
      ORDER BY created_at, id`,
  );
  return rows;
}

type Config = ReturnType<typeof readControlPlaneConfig>;

/** A token of the admin, audited as given by whoever runs this command. */
const signIn = (client: pg.PoolClient, config: Config, userId: string): Promise<AdminToken> =>
  signInAdmin(
    client,
    config,
    {
      userId,
      ip: null,
      userAgent: 'traffic-share admin',
      audit: { actor: { role: 'system' }, action: 'admin_token_issued', after: onMachine() },
    },
    Date.now(),
  );

/** Who runs the command, as the operating system calls them; null when it has no name for them, as in some containers. */
function onMachine(): { os_user: string | null } {
  try {
    return { os_user: userInfo().username };
  } catch {
    return { os_user: null };
  }
}

/** The token alone to stdout, for `ADMIN=$(…)`; what it is to stderr. The exit code. */
function tell(json: boolean, token: AdminToken): number {
  print(json, token, [token.access_token]);
  if (!json) process.stderr.write(`token of admin ${token.user_id}, for ${token.expires_in} s\n`);
  return 0;
}

async function refuse(sentence: string): Promise<number> {
  process.stderr.write(`${sentence}\n`);
  return 1;
}
