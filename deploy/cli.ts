#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
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
    cli.command('gateway').description('the data path: buyers in front, devices behind'),
    async () => (await import('../gateway/config.js')).gatewaySettings,
  ).action(async () => (await import('../gateway/main.js')).runGateway());

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
    .action(async () => (await import('../control-plane/db/main.js')).runMigrations());

  cli
    .command('openapi')
    .description('print the OpenAPI document of this version')
    .action(async () => (await import('./commands/openapi.js')).runOpenApi());

  cli
    .command('seed')
    .description('fill the database of TS_DATABASE_URL with people, traffic and packages, for measurements')
    .requiredOption('--scale', 'as much as the following say')
    .option('--users <n>', 'providers, each with a device', countOf, 10_000)
    .option('--packages <n>', 'packages, those of the traffic included', countOf, 100_000)
    .option('--entries <n>', 'ledger entries at least', countOf, 1_000_000)
    .option('--yes', 'also when it does not look like a database for development', false)
    .action(async (options: { users: number; packages: number; entries: number; yes: boolean }) => {
      process.exitCode = await (await import('./commands/seed-scale.js')).runSeedScale(options);
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

/** A count on the command line, at least 1. */
function countOf(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.');
  return Number(text);
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

buildCli()
  .parseAsync()
  .catch((error: unknown) => {
    process.stderr.write(
      `${error instanceof EnvironmentError ? error.message : ((error as Error).stack ?? error)}\n`,
    );
    process.exitCode = 1;
  });
