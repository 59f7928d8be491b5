import { type Agent, startAgent } from './agent.js';
import { type AgentOutput, readAgentConfig } from './config.js';
import { type AgentLog, jsonLog, readableLog } from './log.js';
import { jsonStatus, readableStatus, type StatusSample } from './status-line.js';

/** A status line is written this often where a person watches, else this often. */
const STATUS_WATCHED_MS = 1_000;
const STATUS_LOGGED_MS = 10_000;

/**
 * Runs the agent until a signal, a final refusal or a replacement; resolves with the process's exit code
 * (see `--help`). `argv` is without node and script. Log goes to standard error, `--status` to standard output.
 * A second signal ends the process at once.
 */
export async function runAgentCli(
  argv: readonly string[],
  env?: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const command = readAgentConfig(argv, env);
  if (command.kind === 'help') {
    process.stdout.write(command.text);
    return 0;
  }
  if (command.kind === 'invalid') {
    const lines = command.problems.map((problem) => `  ${problem}\n`).join('');
    process.stderr.write(`The agent's settings need attention (--help lists them):\n${lines}`);
    return 1;
  }
  const { config, output } = command;
  const log = logFor(output);
  const agent = startAgent(config, log);
  const stopStatus = output.status ? showStatus(agent) : () => {};

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

  const end = await agent.ended;
  stopStatus();
  process.off('SIGINT', onInterrupt);
  process.off('SIGTERM', onTerminate);
  process.off('disconnect', onDisconnect);
  log(end.exitCode === 0 ? 'info' : 'error', 'ended', { code: end.code, text: end.text });
  return end.exitCode;
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
