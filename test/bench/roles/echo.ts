/** Answers connections that the origin hands on, in a process of its own: whatever comes goes back. */
import type { Socket } from 'node:net';

process.on('message', (first: Uint8Array, socket: Socket) => {
  socket.on('error', () => socket.destroy());
  socket.on('data', (bytes) => socket.write(bytes));
  socket.write(first);
});
process.on('disconnect', () => process.exit(0));
