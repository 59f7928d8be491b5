import { fork } from 'node:child_process';
import { once } from 'node:events';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A process of the harness. */
export interface Role<Calls> {
  readonly pid: number;
  readonly call: Calls;
  stop(): Promise<void>;
  /** Ends it as a crash would, also when it was stopped by a signal. Harmless when it has ended. */
  kill(): Promise<void>;
}

/** Absolute path of a file of `roles/`: compiled, when this is. */
export function roleFile(name: string): string {
  return fileURLToPath(new URL(`./roles/${name}${extname(import.meta.url)}`, import.meta.url));
}

/** Starts a file of `roles/` in a process of its own; its calls are answered over IPC, errors thrown here. */
export function startRole<Calls extends object>(name: string, args: string[] = []): Role<Calls> {
  const child = fork(roleFile(name), args, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let lastId = 0;
  child.on('message', ({ id, value, error }: { id: number; value: unknown; error?: string }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) call?.resolve(value);
    else call?.reject(new Error(`${name}: ${error}`));
  });
  const killWithUs = () => void child.kill('SIGKILL'); // one that is stopped would not notice that we have ended
  process.once('exit', killWithUs);
  const exited = once(child, 'exit').then(() => {
    process.off('exit', killWithUs);
    for (const call of waiting.values()) call.reject(new Error(`${name} ended`));
  });
  const call = new Proxy({} as Calls, {
    get: (_target, method) => {
      if (method === 'then') return undefined;
      return (...args: unknown[]) =>
        new Promise((resolve, reject) => {
          const id = ++lastId;
          waiting.set(id, { resolve, reject });
          child.send({ id, name: method, args }, (error) => error && reject(error));
        });
    },
  });
  return {
    pid: child.pid as number,
    call,
    async stop() {
      if (child.connected) child.disconnect();
      await exited;
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
