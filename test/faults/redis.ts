import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type RunningRedis, redisKinds, startRedis } from '../../deploy/standalone/services/redis.js';
import { startServerProcess } from '../../deploy/standalone/services/server-process.js';

/** A Redis that faults may kill. */
export type RedisServer = Pick<RunningRedis, 'pid' | 'exited' | 'stop'>;

/** With what is in the folder's snapshot file, if there is one. Without redis-server the embedded Valkey does, for all but snapshots. */
export async function launchRedis(folder: string, port: number): Promise<RedisServer> {
  if (!redisKinds().includes('redis-server')) return startRedis({ prefer: 'auto', port });
  const server = await startServerProcess(
    [
      ...['redis-server', '--port', String(port), '--bind', '127.0.0.1'],
      ...['--save', '', '--appendonly', 'no', '--dir', folder],
    ],
    { stopSignal: 'KILL' },
  );
  const until = performance.now() + 10_000;
  while (!(await answersPing(port))) {
    if (performance.now() > until) throw new Error(`redis-server did not start: ${server.output()}`);
    await delay(20);
  }
  return server;
}

/** Whether a Redis that has loaded its data is there. */
function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.once('data', (data) => {
      resolve(data.toString('latin1').startsWith('+PONG'));
      socket.destroy();
    });
    socket.once('error', () => {});
    socket.once('close', () => resolve(false));
  });
}
