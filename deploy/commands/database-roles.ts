import { BadRolePrefix, DATABASE_ROLES, makeRoles } from '../../control-plane/db/roles.js';
import { print, withDatabase } from './database-command.js';

/**
 * `traffic-share database-roles`: roles with what control planes, dashboards and dumps need of the database of
 * TS_DATABASE_URL, whose user must own it. A dry run prints the SQL. Resolves to the exit code.
 */
export function runDatabaseRoles(options: {
  prefix: string;
  dryRun: boolean;
  json: boolean;
}): Promise<number> {
  const { prefix, dryRun, json } = options;
  return withDatabase('database-roles', async (pool) => {
    let statements: string[];
    try {
      statements = await makeRoles(pool, prefix, dryRun);
    } catch (error) {
      if (!(error instanceof BadRolePrefix)) throw error;
      process.stderr.write(`--prefix: ${error.message}\n`);
      return 1;
    }
    const roles = Object.entries(DATABASE_ROLES).map(([name, about]) => ({
      role: `${prefix}_${name}`,
      about,
    }));
    print(
      json,
      { dry_run: dryRun, roles, statements },
      dryRun
        ? statements.map((statement) => `${statement};`)
        : [
            ...roles.map(({ role, about }) => `${role}: ${about}`),
            `Give each a password: ALTER ROLE ${prefix}_control PASSWORD '…'; control planes then need TS_MIGRATE_AT_START=0`,
          ],
    );
    return 0;
  });
}
