import { runAccount } from './account-run.js';
import { type Agent, startAgent } from './agent.js';
import type { AgentEnd } from './agent-end.js';
import { DeviceApi } from './api.js';
import { CommandFailure } from './command-failure.js';
import { isCommand, runCommand } from './commands.js';
import {
  type AgentCommand,
  type AgentConfig,
  type AgentOutput,
  type PagePort,
  readAgentConfig,
} from './config.js';
import { startControl } from './control-socket.js';
import { exitCode, exitCodeOf } from './exit-codes.js';
import { LocalAgent } from './local-agent.js';
import { readLocalSettings } from './local-settings.js';
import { type AgentLog, jsonLog, readableLog } from './log.js';
import { ServerView } from './server-view.js';
import { jsonStatus, readableStatus, type StatusSample } from './status-line.js';
import { startStatusPage } from './status-page.js';
import { AGENT_VERSION } from './version.js';

/** A status line is written this often where a person watches, else this often. */
const STATUS_WATCHED_MS = 1_000;
const STATUS_LOGGED_MS = 10_000;

type Run = Extract<AgentCommand, { kind: 'run' | 'account' }>;

/**
 * Runs one of the agent's commands, or the agent until a signal, a final refusal or a replacement; resolves with the
 * process's exit code (see `--help`). `argv` is without node and script. Log goes to standard error, `--status` to
 * standard output. A second signal ends the process at once.
 */
export async function runAgentCli(
  argv: readonly string[],
  env?: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  try {
    return await runChosen(argv, env);
  } catch (error) {
    const known = error instanceof CommandFailure;
    process.stderr.write(`${known ? error.message : `Unexpected: ${(error as Error).message}`}\n`);
    return known ? error.exitCode : exitCode('failed');
  }
}

async function runChosen(
  argv: readonly string[],
  env?: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const [name, ...rest] = argv;
  if (isCommand(name)) {
    await runCommand(name, rest, env);
    return 0;
  }
  const command = readAgentConfig(name === 'run' ? rest : argv, env);
  if (command.kind === 'help') {
    process.stdout.write(command.text);
    return 0;
  }
  if (command.kind === 'invalid') {
    const lines = command.problems.map((problem) => `  ${problem}\n`).join('');
    process.stderr.write(`The agent's settings need attention (--help lists them):\n${lines}`);
    return 1;
  }
  const log = logFor(command.output);
  const run = (config: AgentConfig) => runUntilEnd(config, command, log);
  const end = await (command.kind === 'run' ? run(command.config) : runAccount(command.account, run));
  log(end.exitCode === 0 ? 'info' : 'error', 'ended', { code: end.code, text: end.text });
  return exitCodeOf(end);
}

async function runUntilEnd(config: AgentConfig, command: Run, log: AgentLog): Promise<AgentEnd> {
  const local = await openLocal(config, command, log);
  const agent = startAgent(config, log);
  const closing = local(agent);
  const stopMetrics = await showMetrics(agent, command.metricsPort, log);
  const stopStatus = command.output.status ? showStatus(agent) : () => {};

  let stopping = false;
  const stop = (why: string, keepSession: boolean) => {
    if (stopping) {
      if (why !== 'disconnect') process.exit(1);
      return;
    }
    stopping = true;
    log('info', 'stopping', { why });
    void agent.stop({ keepSession });
  };
  const onInterrupt = () => stop('SIGINT', config.keepSession);
  const onTerminate = () => stop('SIGTERM', config.keepSession);
  // The parent is gone, not the owner's wish to share: the session stays for the agent that comes next
  const onDisconnect = () => stop('disconnect', true);
  process.on('SIGINT', onInterrupt);
  process.on('SIGTERM', onTerminate);
  process.on('disconnect', onDisconnect);

  const closeLocal = await closing;
  const end = await agent.ended;
  stopStatus();
  stopMetrics();
  await closeLocal();
  process.off('SIGINT', onInterrupt);
  process.off('SIGTERM', onTerminate);
  process.off('disconnect', onDisconnect);
  return end;
}

/**
 * What the owner's commands and the status page need, before the agent starts: only one agent runs with a state folder,
 * and none shares what its owner has paused. A device that was registered elsewhere goes without where it can not be.
 */
async function openLocal(
  config: AgentConfig,
  { kind, fixed, pagePort }: Run,
  log: AgentLog,
): Promise<(agent: Agent) => Promise<() => Promise<void>>> {
  const { stateDir, access, owner } = config;
  if (stateDir === null) return async () => async () => {};
  const settings = await readLocalSettings(stateDir);
  let local: LocalAgent | null = null;
  const control = await startControl(stateDir, () => local).catch((error: Error) => {
    // Two would count against the same caps without knowing of each other
    const taken = error instanceof CommandFailure && error.exit === 'already_running';
    if (kind === 'account' || taken) throw error;
    log('warn', 'no commands for this agent', { reason: error.message });
    return null;
  });
  return async (agent) => {
    const api = access.kind === 'api' ? access : null;
    const server =
      api && new ServerView(new DeviceApi({ ...api, clientVersion: AGENT_VERSION }), api.deviceId);
    const deviceId = api?.deviceId ?? null;
    const made = new LocalAgent(agent, { stateDir, settings, limits: owner, fixed, deviceId, server });
    local = made;
    const page =
      pagePort === null
        ? null
        : await startStatusPage(made, stateDir, pagePort).catch((error: NodeJS.ErrnoException) => {
            log('warn', 'no status page', { code: error.code ?? error.message });
            return null;
          });
    made.page = page?.url ?? null;
    // The address has its key in it, so it goes to a person only, never into a log
    if (page !== null && process.stdout.isTTY) process.stdout.write(`Status page: ${page.url}\n`);
    return async () => {
      made.stop();
      page?.stop();
      await control?.stop();
    };
  };
}

/** Serves metrics, where they are asked for, until the returned function is called. */
async function showMetrics(agent: Agent, port: PagePort, log: AgentLog): Promise<() => void> {
  if (port === null) return () => {};
  try {
    // Not loaded where nobody asks for it
    const { serveAgentMetrics } = await import('./agent-metrics.js');
    const served = await serveAgentMetrics(agent, port);
    log('info', 'metrics', { url: `http://127.0.0.1:${served.port}/metrics` });
    return () => served.stop();
  } catch (error) {
    log('warn', 'no metrics', { code: (error as NodeJS.ErrnoException).code ?? String(error) });
    return () => {};
  }
}

function logFor(output: AgentOutput): AgentLog {
  const write = (line: string) => {
    // A status line stands on the terminal without a line break
    if (output.status && process.stdout.isTTY) process.stdout.write('\r\x1b[K');
    process.stderr.write(line);
  };
  return process.stderr.isTTY ? readableLog(write, output.logLevel) : jsonLog(write, output.logLevel);
}

/** Writes status lines until the returned function is called. */
function showStatus(agent: Agent): () => void {
  const watched = process.stdout.isTTY === true;
  let before: StatusSample | null = null;
  const write = () => {
    const now: StatusSample = { state: agent.state, counters: agent.counters, atMs: performance.now() };
    process.stdout.write(watched ? `\r\x1b[K${readableStatus(before, now)}` : `${jsonStatus(before, now)}\n`);
    before = now;
  };
  const timer = setInterval(write, watched ? STATUS_WATCHED_MS : STATUS_LOGGED_MS);
  write();
  return () => {
    clearInterval(timer);
    write();
    if (watched) process.stdout.write('\n');
  };
}
