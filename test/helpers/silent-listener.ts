import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** A loopback port on which a connection attempt gets no answer at all, as at a host that drops packets. */
export interface SilentListener {
  port: number;
  stop: () => void;
}

/**
 * A process that listens with a queue of one and is then stopped (SIGSTOP): once its queue is full, the kernel drops
 * every further SYN. Linux only.
 */
export async function startSilentListener(): Promise<SilentListener> {
  const program = `require('net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, function () {
    console.log(this.address().port);
  });`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(line.toString());
  child.kill('SIGSTOP');
  const fillers = Array.from({ length: 4 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  // Those that the queue took are connected at once; the others never will be.
  await delay(100);
  return {
    port,
    stop: () => {
      for (const filler of fillers) filler.destroy();
      child.kill('SIGKILL');
    },
  };
}
