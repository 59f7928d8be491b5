import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** How long a server may take to end before it is killed. */
const STOP_GRACE_MS = 30_000;
/** How much of a server's output is kept for the error text of a failed start. */
const OUTPUT_LINES_MAX = 40;

/**
 * Runs "$@" and prints its pid. The server gets $STOP_SIGNAL when standard input ends, which it does when the parent
 * goes, however it goes: a kill -9 leaves no orphan behind. The watcher must not hold the server's output open.
 */
const SUPERVISE = `
exec 3<&0 </dev/null
"$@" 3<&- 1>&2 &
server=$!
echo $server
( read -r _ <&3; kill -s "$STOP_SIGNAL" $server ) >/dev/null 2>&1 &
exec 3<&- >&-
wait $server
`;

export interface ServerProcessOptions {
  /** The command that asks the server to end in good order; sent as well when this process is gone. */
  stopSignal: 'INT' | 'TERM' | 'QUIT' | 'KILL';
  /** Words put before the command, `setpriv …` for example. */
  prefix?: readonly string[];
  /** Whom to run as (root only). */
  user?: { uid: number; gid: number } | null;
  env?: Readonly<Record<string, string>>;
}

/** A server in a process (group) of its own: a Ctrl-C at the terminal does not reach it, only `stop` does. */
export interface ServerProcess {
  /** The server itself, not its supervisor. */
  readonly pid: number;
  readonly running: boolean;
  /** Resolves when the server has ended, for whatever reason. */
  readonly exited: Promise<void>;
  /** The last lines it wrote. */
  output(): string;
  /** Asks it to end and waits; kills it after 30 s. Harmless when it has ended already. */
  stop(): Promise<void>;
}

/** Starts a server under a supervising shell; resolves when it has a pid, which says nothing about readiness. */
export async function startServerProcess(
  command: readonly string[],
  options: ServerProcessOptions,
): Promise<ServerProcess> {
  const words = [...(options.prefix ?? []), '/bin/sh', '-c', SUPERVISE, 'sh', ...command];
  const shell = spawn(words[0] as string, words.slice(1), {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, LC_ALL: 'C', ...options.env, STOP_SIGNAL: options.stopSignal },
    ...(options.user ?? {}),
  });
  const lines: string[] = [];
  createInterface(shell.stderr).on('line', (line) => {
    lines.push(line);
    if (lines.length > OUTPUT_LINES_MAX) lines.shift();
  });
  shell.stdin.on('error', () => {}); // the supervisor may be gone already
  let running = true;
  const exited = new Promise<void>((resolve) => {
    shell.once('exit', () => {
      running = false;
      shell.stdin.destroy(); // lets the watcher go
      resolve();
    });
  });
  const pid = await new Promise<number>((resolve, reject) => {
    shell.once('error', reject);
    createInterface(shell.stdout).once('line', (line) => resolve(Number(line)));
    shell.once('exit', () => reject(new Error(`${command[0]} did not start: ${lines.join('\n')}`)));
  });
  return {
    pid,
    exited,
    get running() {
      return running;
    },
    output: () => lines.join('\n'),
    async stop() {
      if (!running) return;
      shell.stdin.end();
      const timer = setTimeout(() => signalProcess(pid, 'SIGKILL'), STOP_GRACE_MS);
      await exited;
      clearTimeout(timer);
    },
  };
}

/** Sends a signal; false when there is no such process. */
export function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When a process began, in whatever unit the system has; null when there is none or it does not say. */
export function startedAt(pid: number): string | null {
  try {
    if (process.platform !== 'linux')
      return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    const line = readFileSync(`/proc/${pid}/stat`, 'utf8'); // proc(5): field 22, counted behind the name in brackets
    return line.slice(line.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
