// Loaded into a gateway by the fuzzer's own test (`node --import`): breaks it as a forgotten close would. A socket on
// which no more than a greeting came is never closed. Below node:net, where the gateway's own sockets are.
const GREETING_BYTES_MAX = 3;
const kept = new Set();
const { TCP } = process.binding('tcp_wrap');

for (const how of ['close', 'reset']) {
  const really = TCP.prototype[how];
  TCP.prototype[how] = function (...args) {
    const isGreeting = this.bytesRead > 0 && this.bytesRead <= GREETING_BYTES_MAX;
    if (!isGreeting) return really.apply(this, args);
    kept.add(this);
    return 0;
  };
}
