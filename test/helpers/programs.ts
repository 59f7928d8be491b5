import { execFile, spawn } from 'node:child_process';
import type { Test } from 'tap';

/** What a program did. */
export interface ProgramResult {
  code: number | null;
  out: string;
  err: string;
}

/** Time a program has; then it is killed and its code is null. */
const PROGRAM_TIMEOUT_MS = 30_000;

/**
 * Whether a program is installed; `probe`, a command and its arguments, must succeed as well when it is given. Where it
 * is not the test says so and goes on without it; where the environment promises it (`TS_TEST_PROGRAMS`, set by
 * `.ci/run`), that is a failure.
 */
export async function hasProgram(t: Test, name: string, probe?: readonly string[]): Promise<boolean> {
  const [command = name, ...args] = probe ?? [name, '--version'];
  const found = await new Promise<boolean>((resolve) => {
    execFile(command, args, { timeout: PROGRAM_TIMEOUT_MS }, (error) =>
      resolve(probe ? error === null : error?.code !== 'ENOENT'),
    );
  });
  if (found) return true;
  const promised = (process.env.TS_TEST_PROGRAMS ?? '').split(/\s+/).includes(name);
  t.notOk(promised, `${name} is installed where it must be`);
  t.comment(`${name} is not installed: not tried with it`);
  return false;
}

/** Runs a program to its end with nothing of this process's environment but PATH. Rejects only when it can not start. */
export function runProgram(
  name: string,
  args: string[],
  options: { env?: Record<string, string>; input?: string | Buffer; cwd?: string; timeoutMs?: number } = {},
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(name, args, {
      env: { PATH: process.env.PATH ?? '', ...options.env },
      cwd: options.cwd,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? PROGRAM_TIMEOUT_MS);
    let out = '';
    let err = '';
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('latin1').on('data', (text: string) => {
      err += text;
    });
    child.stdin.on('error', () => {}); // it may end before it has read everything
    child.stdin.end(options.input ?? '');
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, out, err });
    });
  });
}
