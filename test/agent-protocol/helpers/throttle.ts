import { connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import { listen } from './relay.js';

/** A TCP hop that can stand still, so that what is sent through it piles up at the sender. */
export interface Throttle {
  port: number;
  stall(): void;
  flow(): void;
}

/** Passes connections on to `port` of loopback. */
export async function startThrottle(t: Test, port: number): Promise<Throttle> {
  const sockets = new Set<Socket>();
  let flowing = true;
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('error', () => {});
      from.on('close', () => to.destroy());
      from.on('data', (piece) => {
        to.write(piece);
      });
      if (!flowing) from.pause();
    }
  });
  return {
    port: await listen(t, server),
    stall: () => {
      flowing = false;
      for (const socket of sockets) socket.pause();
    },
    flow: () => {
      flowing = true;
      for (const socket of sockets) socket.resume();
    },
  };
}
