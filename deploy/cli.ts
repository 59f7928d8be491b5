#!/usr/bin/env node
import { readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { EnvironmentError } from '../gateway/runtime/environment.js';
import { projectPath } from '../gateway/runtime/project-path.js';

/** `traffic-share <command>`: each command loads only the room it needs. */
export function buildCli(): Command {
  const { version } = JSON.parse(readFileSync(projectPath('package.json'), 'utf8')) as { version: string };
  const cli = new Command('traffic-share')
    .description('Relay network: devices share bandwidth, buyers use it as a proxy.')
    .version(version)
    .showHelpAfterError();

  cli
    .command('start')
    .description('everything on this machine, nothing to configure')
    .action(async () => (await import('./standalone/standalone.js')).runStandalone());

  withSettings(
    cli
      .command('gateway')
      .description('the data path: buyers in front, devices behind')
      .option('--workers <n>', 'processes that share the ports, as TS_WORKERS'),
    async () => (await import('../gateway/config.js')).gatewaySettings,
  ).action(async ({ workers }: { workers?: string }) =>
    (await import('../gateway/main.js')).runGateway(workers === undefined ? {} : { TS_WORKERS: workers }),
  );

  withSettings(
    cli.command('control-plane').description('API, settlement, money'),
    async () => (await import('../control-plane/config.js')).controlPlaneSettings,
  ).action(async () => (await import('../control-plane/main.js')).runControlPlane());

  cli
    .command('agent')
    .description('a device that shares its bandwidth')
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .action(async (_options, command: Command) => {
      const { runAgentCli } = await import('../agent-protocol/agent/cli.js');
      process.exit(await runAgentCli(command.args, process.env));
    });

  cli
    .command('migrate')
    .description('bring the database of TS_DATABASE_URL to this version')
    .option('--dry-run', 'only say what would be applied', false)
    .option('--json', 'the result as JSON', false)
    .action(async (options: { dryRun: boolean; json: boolean }) =>
      (await import('../control-plane/db/main.js')).runMigrations(options),
    );

  cli
    .command('openapi')
    .description('print the OpenAPI document of this version')
    .action(async () => (await import('./commands/openapi.js')).runOpenApi());

  cli
    .command('metrics')
    .description('print the table of all metrics (deploy/METRICS.md)')
    .action(async () => (await import('./commands/metrics.js')).runMetrics());

  cli
    .command('dashboards')
    .description("write Grafana's dashboards as JSON (deploy/grafana/dashboards)")
    .argument('<folder>', 'where to')
    .action(async (folder: string) => (await import('./commands/metrics.js')).runDashboards(folder));

  cli
    .command('health')
    .description('ask the process on this machine whether it is well; ends with 1 when it is not')
    .addArgument(
      new Argument('[process]', 'one of them; without: all that run here').choices([
        'gateway',
        'control-plane',
      ]),
    )
    .action(async (name: 'gateway' | 'control-plane' | undefined) => {
      process.exitCode = await (await import('./commands/health.js')).runHealth(name);
    });

  cli
    .command('settings')
    .description('print every setting of every process: value, unit, default, what happens at it')
    .addOption(
      new Option('--format <form>', 'for people, to start a configuration from, or for programs')
        .choices(['markdown', 'env', 'json'])
        .default('markdown'),
    )
    .action(async (options: { format: 'markdown' | 'env' | 'json' }) =>
      (await import('./commands/settings.js')).runSettings(options),
    );

  cli
    .command('seed')
    .description('fill the database of TS_DATABASE_URL with people, traffic and packages, for measurements')
    .requiredOption('--scale', 'as much as the following say')
    .option('--users <n>', 'providers, each with a device', countOf, 10_000)
    .option('--packages <n>', 'packages, those of the traffic included', countOf, 100_000)
    .option('--entries <n>', 'ledger entries at least', countOf, 1_000_000)
    .option('--yes', 'also when it does not look like a database for development', false)
    .option('--dry-run', 'only say what would be written', false)
    .option('--json', 'the result as JSON', false)
    .action(async (options: import('./commands/seed-scale.js').SeedScaleOptions) => {
      process.exitCode = await (await import('./commands/seed-scale.js')).runSeedScale(options);
    });

  const admin = cli
    .command('admin')
    .description('who may do everything: the first admin, and tokens without Telegram');
  admin
    .command('create')
    .description('make an admin in the database of TS_DATABASE_URL; a token goes to stdout, once')
    .option('--username <name>', 'what the admin is called in lists', userName)
    .option(
      '--telegram-id <id>',
      'whose main Telegram account it is; without: signs in with `admin token` alone',
      telegramId,
    )
    .option('--json', 'the token with its life and user as JSON', false)
    .action(async (options: import('./commands/admin.js').AdminCreateOptions) => {
      process.exitCode = await (await import('./commands/admin.js')).runAdminCreate(options);
    });
  admin
    .command('token')
    .description('a token of an admin to stdout, valid for TS_ADMIN_TOKEN_TTL_S; clear-sessions ends it')
    .option('--user <id>', 'the id of the user; not needed while there is one admin', userId)
    .option('--telegram-id <id>', "the user's main Telegram account", telegramId)
    .option('--json', 'the token with its life and user as JSON', false)
    .action(async (options: import('./commands/admin.js').AdminTokenOptions) => {
      process.exitCode = await (await import('./commands/admin.js')).runAdminToken(options);
    });
  admin
    .command('list')
    .description('who is an admin: id of the user, Telegram account, name')
    .option('--json', 'the result as JSON', false)
    .action(async (options: { json: boolean }) => {
      process.exitCode = await (await import('./commands/admin.js')).runAdminList(options);
    });

  cli
    .command('rotate-tokens')
    .description("replace buyers' API tokens and proxy passwords; the new ones go to stdout, once")
    .option('--buyer <account>', 'those of this account')
    .option('--all', 'those of all accounts', false)
    .addOption(new Option('--kind <kind>', 'only these').choices(['token', 'proxy_password']))
    .option('--older-than-days <n>', 'only those made so long ago', wholeNumber, 0)
    .option(
      '--made-before <time>',
      'only those made before; what an interrupted run says to go on with',
      timeOf,
    )
    .option('--grace-hours <n>', 'the old ones work on for so long; 0: not at all', wholeNumber, 24)
    .option('--dry-run', 'only list what would be replaced', false)
    .option('--json', 'a line of JSON for each, instead of CSV', false)
    .action(async (options: import('./commands/rotate-tokens.js').RotateTokensOptions) => {
      process.exitCode = await (await import('./commands/rotate-tokens.js')).runRotateTokens(options);
    });

  cli
    .command('clear-sessions')
    .description('end sign-ins: who has them must sign in again; devices share on')
    .option('--telegram-id <id>', 'those of this Telegram account', telegramId)
    .option('--unused-days <n>', 'those not used for so long', countOf)
    .option('--all', 'all of them', false)
    .option('--dry-run', 'only count them', false)
    .option('--json', 'the result as JSON', false)
    .action(async (options: import('./commands/clear-sessions.js').ClearSessionsOptions) => {
      process.exitCode = await (await import('./commands/clear-sessions.js')).runClearSessions(options);
    });

  cli
    .command('export-stats')
    .description('the figures of the last days, as CSV to stdout')
    .option('--days <n>', 'how many, today included, at most 400', daysOf, 30)
    .option('--dry-run', 'only say which days', false)
    .option('--json', 'as JSON', false)
    .action(async (options: { days: number; dryRun: boolean; json: boolean }) => {
      process.exitCode = await (await import('./commands/export-stats.js')).runExportStats(options);
    });

  cli
    .command('transparency')
    .description('reports of abuse, findings, suspensions and legal holds by quarter, as CSV to stdout')
    .option('--quarters <n>', 'how many, this one included, at most 40', quartersOf, 4)
    .option('--json', 'as JSON', false)
    .action(async (options: { quarters: number; json: boolean }) => {
      process.exitCode = await (await import('./commands/transparency.js')).runTransparency(options);
    });

  cli
    .command('database-roles')
    .description('make roles of Postgres with what control planes, dashboards and dumps need, and no more')
    .option('--prefix <prefix>', 'what their names begin with', 'traffic_share')
    .option('--dry-run', 'only print the SQL', false)
    .option('--json', 'the result as JSON', false)
    .action(async (options: { prefix: string; dryRun: boolean; json: boolean }) => {
      process.exitCode = await (await import('./commands/database-roles.js')).runDatabaseRoles(options);
    });

  cli
    .command('backup')
    .description(
      'dump the database into TS_BACKUP_DIR or the bucket, sealed with TS_BACKUP_KEY; clear old dumps',
    )
    .option('--list', 'only list what is there', false)
    .option('--verify [file]', 'only read one from end to end (without a name: the newest)')
    .option('--dry-run', 'only say what would be made and removed', false)
    .option('--json', 'the result as JSON', false)
    .addHelpText('after', EXIT_HELP)
    .action(async (options: import('./commands/backup.js').BackupOptions) => {
      process.exitCode = await (await import('./commands/backup.js')).runBackup(options);
    });

  cli
    .command('restore')
    .description(
      'restore a dump into the database of TS_DATABASE_URL, compare it with its manifest, prove the books',
    )
    .argument('[file]', 'name of a dump, as `backup --list` shows it; without: the newest')
    .option('--into-empty', 'the database is empty, or is made', false)
    .option(
      '--replace',
      'in the place of the database, which goes on under another name; nobody may use it',
      false,
    )
    .option('--test', 'into a database beside it, which is dropped again', false)
    .option(
      '--clear-live-state',
      'afterwards, or alone: clear what TS_REDIS_URL knows from the control plane',
      false,
    )
    .option('--dry-run', 'only say what would be restored where', false)
    .option('--json', 'the result as JSON', false)
    .addHelpText('after', EXIT_HELP)
    .action(async (file: string | undefined, options: import('./commands/restore.js').RestoreOptions) => {
      process.exitCode = await (await import('./commands/restore.js')).runRestore(file, options);
    });

  cli
    .command('ledger')
    .description('the books')
    .command('verify')
    .description(
      'prove the ledger and the books of TS_DATABASE_URL; ends with 1 when something does not add up',
    )
    .option('--json', 'the result as JSON', false)
    .action(async (options: { json: boolean }) => {
      process.exitCode = await (await import('./commands/ledger-verify.js')).runLedgerVerify(options);
    });

  cli
    .command('audit')
    .description('the audit log')
    .command('verify')
    .description(
      'prove that no row of the audit log of TS_DATABASE_URL was changed or removed; ends with 1 when one was',
    )
    .option('--json', 'the result as JSON', false)
    .option('--anchor <head>', 'a head that an earlier run printed: finds a log that was cut off, too')
    .action(async (options: { json: boolean; anchor?: string }) => {
      process.exitCode = await (await import('./commands/audit-verify.js')).runAuditVerify(options);
    });

  cli
    .command('journal')
    .description("a gateway's meter journal")
    .command('inspect')
    .description('show what a journal file holds, without changing it; ends with 1 when it is damaged')
    .argument('<path>', 'the journal file, meters.journal in TS_GATEWAY_DATA_DIR')
    .option('--json', 'the content as JSON', false)
    .action(async (path: string, options: { json: boolean }) => {
      process.exitCode = (await import('./commands/journal-inspect.js')).runJournalInspect(path, options);
    });
  return cli;
}

/** How `backup` and `restore` end (`EXIT` in commands/backup-command.ts). */
const EXIT_HELP = `
Ends with 0 when it did what was asked; 1: it failed on the way; 2: not possible with these settings, tools, keys or options;
3: the backup is not there or damaged; 4: the target or the version is refused; 5: restored, and it differs.`;

/** A count on the command line, at least 1. */
function countOf(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.');
  return Number(text);
}

/** A whole number on the command line. */
function wholeNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 0.');
  return Number(text);
}

/** A moment on the command line, as `toISOString` writes it. */
function timeOf(text: string): Date {
  const time = new Date(text);
  if (!/^\d{4}-\d\d-\d\dT[\d:.]{5,12}Z$/.test(text) || Number.isNaN(time.getTime()))
    throw new InvalidArgumentError('It must be a time as 2026-11-27T14:05:00Z.');
  return time;
}

/** Days that figures are kept in reach for. */
function daysOf(text: string): number {
  const days = countOf(text);
  if (days > 400) throw new InvalidArgumentError('At most 400.');
  return days;
}

function quartersOf(text: string): number {
  const quarters = countOf(text);
  if (quarters > 40) throw new InvalidArgumentError('At most 40.');
  return quarters;
}

function telegramId(text: string): string {
  if (!/^[1-9]\d{0,15}$/.test(text)) throw new InvalidArgumentError('It must be a number.');
  return text;
}

/** A name as POST /api/admin/create_superadmin takes it. */
function userName(text: string): string {
  if (!/^\P{Cc}{1,64}$/u.test(text))
    throw new InvalidArgumentError('It must have 1 to 64 characters, none of control.');
  return text;
}

function userId(text: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text))
    throw new InvalidArgumentError('It must be a UUID.');
  return text;
}

function withSettings(
  command: Command,
  load: () => Promise<Parameters<typeof import('../gateway/runtime/environment.js').describeSettings>[0]>,
): Command {
  return command
    .helpOption(false)
    .option('-h, --help', 'list every setting')
    .hook('preAction', async (self) => {
      if (!self.opts().help) return;
      const { describeSettings } = await import('../gateway/runtime/environment.js');
      process.stdout.write(
        `${self.name()}: ${self.description()}\n\nSettings, as environment variables:\n${describeSettings(await load())}\n`,
      );
      process.exit(0);
    });
}

// Not when a test asks what commands there are. npm starts it by a link
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  buildCli()
    .parseAsync()
    .catch((error: unknown) => {
      process.stderr.write(
        `${error instanceof EnvironmentError ? error.message : ((error as Error).stack ?? error)}\n`,
      );
      process.exitCode = 1;
    });
