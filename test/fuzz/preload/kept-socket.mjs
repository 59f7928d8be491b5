// Loaded into a gateway by the fuzzer's own test (`node --import`): breaks it as a forgotten close would. A socket on
// which no more than a greeting came is never closed.
import { Socket } from 'node:net';

const GREETING_BYTES_MAX = 3;
const kept = new Set();
const realDestroy = Socket.prototype.destroy;

Socket.prototype.destroy = function destroy(...args) {
  const isGreeting = this.bytesRead > 0 && this.bytesRead <= GREETING_BYTES_MAX;
  if (!isGreeting) return realDestroy.apply(this, args);
  kept.add(this);
  return this;
};
