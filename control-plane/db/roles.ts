import type pg from 'pg';
import { JOB_QUEUE_SCHEMA } from './job-queue.js';
import { withTransaction } from './pool.js';

/** What each role is for; their names begin with a prefix of the operator's. */
export const DATABASE_ROLES = {
  control: 'control planes: reads and writes, but can not change or delete what must stay as it was written',
  metrics: 'dashboards: figures without people, reads only',
  backup: 'dumps: reads everything',
} as const;

/** Rows are written once: whoever holds the control plane's password can add to them and not take away. */
const APPEND_ONLY = ['ledger_entries', 'ledger_transactions', 'audit_log', 'audit_chain', 'payout_approvals'];
/** Rows change their state and never go. */
const NEVER_DELETED = [
  'ledger_accounts',
  'payouts',
  'topups',
  'audit_head',
  'legal_holds',
  'abuse_findings',
  'abuse_reports',
];
/** Sums and states: no person, device, address, destination or secret. */
const FIGURES = [
  'daily_figures',
  'daily_prices',
  'usage_daily_buyer',
  'usage_daily_provider',
  'ledger_accounts',
  'ledger_transactions',
  'ledger_entries',
  'meters',
  'payouts',
  'topups',
  'job_runs',
  'backups',
  'schema_migrations',
];

/** A plain name, which needs no quotes in SQL. */
const PREFIX = /^[a-z][a-z0-9_]{0,40}$/;

/** The prefix can not be part of a role's name. */
export class BadRolePrefix extends Error {
  readonly code = 'BAD_ROLE_PREFIX';
}

/**
 * The SQL that makes the roles and gives them what they need, nothing else; what they had is taken away first, so that it may
 * run again, and must after each migration. Roles can log in and have no password until somebody gives them one. `owned`:
 * what only its owner can use, for the control role. Throws BadRolePrefix.
 */
export function rolesSql(prefix: string, owned: readonly string[]): string[] {
  if (!PREFIX.test(prefix)) throw new BadRolePrefix('a prefix is 1 to 41 of a-z 0-9 _, a letter first');
  const role = (name: keyof typeof DATABASE_ROLES) => `${prefix}_${name}`;
  const all = Object.keys(DATABASE_ROLES) as (keyof typeof DATABASE_ROLES)[];
  const schemas = `public, ${JOB_QUEUE_SCHEMA}`;
  return [
    ...all.flatMap((name) => [
      `DO $$ BEGIN CREATE ROLE ${role(name)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object THEN NULL; END $$`,
      `REVOKE ALL ON ALL TABLES IN SCHEMA ${schemas} FROM ${role(name)}`,
      `REVOKE ALL ON ALL SEQUENCES IN SCHEMA ${schemas} FROM ${role(name)}`,
      `REVOKE ALL ON SCHEMA ${schemas} FROM ${role(name)}`,
      `GRANT USAGE ON SCHEMA public TO ${role(name)}`,
    ]),
    'REVOKE CREATE ON SCHEMA public FROM PUBLIC',

    `GRANT USAGE ON SCHEMA ${JOB_QUEUE_SCHEMA} TO ${role('control')}, ${role('backup')}`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schemas} TO ${role('control')}`,
    `GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA ${schemas} TO ${role('control')}`,
    `REVOKE UPDATE, DELETE ON ${APPEND_ONLY.join(', ')} FROM ${role('control')}`,
    `REVOKE DELETE ON ${NEVER_DELETED.join(', ')} FROM ${role('control')}`,
    `REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM ${role('control')}`,
    // Months of usage by destination are made and dropped while it runs, and the job queue shows its rows (row level
    // security without a policy) to nobody else: both take an owner
    `GRANT CREATE ON SCHEMA ${schemas} TO ${role('control')}`,
    `GRANT ${role('control')} TO CURRENT_USER`,
    ...owned.map((table) => `ALTER TABLE ${table} OWNER TO ${role('control')}`),

    `GRANT SELECT ON ${FIGURES.join(', ')} TO ${role('metrics')}`,

    `GRANT SELECT ON ALL TABLES IN SCHEMA ${schemas} TO ${role('backup')}`,
    `GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${schemas} TO ${role('backup')}`,
    // Months that are made from now on
    `ALTER DEFAULT PRIVILEGES FOR ROLE ${role('control')} IN SCHEMA public GRANT SELECT ON TABLES TO ${role('backup')}`,
    // pg_dump refuses rows that it might not see; only a superuser can give this
    `DO $$ BEGIN ALTER ROLE ${role('backup')} BYPASSRLS; EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'a superuser must: ALTER ROLE ${role('backup')} BYPASSRLS'; END $$`,
  ];
}

/** Makes the roles, all or nothing. The pool's user owns the database, which is migrated, and may make roles. Returns the SQL. */
export async function makeRoles(pool: pg.Pool, prefix: string, dryRun: boolean): Promise<string[]> {
  return withTransaction(pool, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      `SELECT c.oid::regclass::text AS name FROM pg_class c
        WHERE (c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p', 'v'))
           OR c.oid = 'destination_usage'::regclass
           OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'destination_usage'::regclass)
        ORDER BY 1`,
      [JOB_QUEUE_SCHEMA],
    );
    const statements = rolesSql(
      prefix,
      rows.map(({ name }) => name),
    );
    if (!dryRun) for (const statement of statements) await client.query(statement);
    return statements;
  });
}
