/** The load, in a process of its own. */
import {
  ASIDE,
  type ClientCalls,
  type ConnectResult,
  DOWN,
  type Endpoint,
  HOLD,
  REQUEST,
  RESPONSE,
  type Route,
  UP,
} from '../protocol.js';
import { dial, type Wire } from './dial.js';
import { serveCalls } from './serve-calls.js';

const CHUNK_BYTES = 1 << 20;
const chunk = Buffer.alloc(CHUNK_BYTES, 'u');
const scratch = Buffer.alloc(CHUNK_BYTES);
/** More than any run moves. */
const WITHOUT_END = 1n << 52n;
/** No single request takes this long on loopback: it is lost. */
const REQUEST_TIMEOUT_MS = 15_000;

let open = new Set<Wire>();
let bytesIn = 0;
let broken: string | null = null;

const bulkStart: ClientCalls['bulkStart'] = async (route, origin, direction, streams) => {
  bytesIn = 0;
  broken = null;
  await openAll(route, origin, streams, (wire) => {
    if (direction === 'up') pump(wire);
    else {
      const order = Buffer.alloc(9);
      order[0] = DOWN;
      order.writeBigUInt64BE(WITHOUT_END, 1);
      wire.onBytes = (n) => {
        bytesIn += n;
      };
      wire.socket.write(order);
    }
  });
};

/** Writes without end, as fast as it is taken. */
function pump(wire: Wire): void {
  const more = () => {
    while (wire.socket.write(chunk)) if (wire.socket.destroyed) return;
  };
  // In the next turn: drains of a socket that takes all at once follow each other and let nothing else run
  wire.socket.on('drain', () => setImmediate(more));
  wire.socket.write(Buffer.from([UP]));
  more();
}

/** Opens connections that stay, a few at a time; `begin` is called with each. */
async function openAll(
  route: Route,
  origin: Endpoint,
  count: number,
  begin: (wire: Wire) => void,
): Promise<void> {
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const wire = dial(route, origin, scratch, (ready) => {
        begin(ready);
        resolve();
      });
      open.add(wire);
      wire.onClose = (error) => {
        open.delete(wire);
        broken ??= error?.message ?? 'ended by the other side';
        reject(new Error(`a connection broke: ${broken}`));
      };
    });
  let started = 0;
  const worker = async () => {
    while (started++ < count) await one();
  };
  await Promise.all(Array.from({ length: Math.min(32, count) }, worker));
}

async function closeAll(): Promise<void> {
  const wires = open;
  open = new Set();
  await Promise.all(
    [...wires].map(
      (wire) =>
        new Promise<void>((resolve) => {
          wire.onClose = () => resolve();
          wire.socket.resetAndDestroy();
        }),
    ),
  );
}

const noResult = (): ConnectResult => ({ done: 0, failed: 0, elapsedMs: 0, error: null, latenciesMs: [] });

/** One small request on a connection of its own, timed from `beganMs` and noted in `result`. */
function ask(
  route: Route,
  origin: Endpoint,
  beganMs: number,
  result: ConnectResult,
  onEnd: () => void,
): void {
  let received = 0;
  const wire = dial(route, origin, scratch, () => wire.socket.write(REQUEST));
  wire.socket.setTimeout(REQUEST_TIMEOUT_MS, () => wire.socket.destroy(new Error('no answer')));
  wire.onBytes = (n) => {
    received += n;
    if (received === RESPONSE.length) result.latenciesMs.push(performance.now() - beganMs);
  };
  wire.onClose = (error) => {
    if (received === RESPONSE.length) result.done++;
    else {
      result.failed++;
      result.error ??= error?.message ?? `${received} of ${RESPONSE.length} bytes`;
    }
    onEnd();
  };
}

const requests: ClientCalls['requests'] = (route, origin, { concurrency, durationMs, countMax }) =>
  new Promise<ConnectResult>((resolve) => {
    const result = noResult();
    const startMs = performance.now();
    let started = 0;
    let running = 0;
    const next = () => {
      if (started >= countMax || performance.now() - startMs >= durationMs) {
        if (running > 0) return;
        result.elapsedMs = performance.now() - startMs;
        return resolve(result);
      }
      started++;
      running++;
      ask(route, origin, performance.now(), result, () => {
        running--;
        next();
      });
    };
    for (let i = 0; i < concurrency; i++) next();
  });

const paced: ClientCalls['paced'] = (route, origin, { perSecond, durationMs }) =>
  new Promise<ConnectResult>((resolve) => {
    const result = noResult();
    const startMs = performance.now();
    const count = Math.round((perSecond * durationMs) / 1_000);
    let started = 0;
    let running = 0;
    const finishWhenDone = () => {
      if (started < count || running > 0) return;
      result.elapsedMs = performance.now() - startMs;
      resolve(result);
    };
    const tick = () => {
      for (;;) {
        const dueMs = startMs + (started * 1_000) / perSecond;
        if (started === count || performance.now() < dueMs) break;
        started++;
        running++;
        ask(route, origin, dueMs, result, () => {
          running--;
          finishWhenDone();
        });
      }
      if (started < count) setTimeout(tick, 1);
    };
    tick();
  });

const echoes: ClientCalls['echoes'] = (route, origin, { bytes, durationMs }) =>
  new Promise<number[]>((resolve, reject) => {
    const timesMs: number[] = [];
    const message = Buffer.alloc(bytes);
    let received = 0;
    let startMs = 0;
    let sentMs = 0;
    const send = () => {
      received = 0;
      message.fill(timesMs.length + 1); // an echo of an earlier one would show
      message[0] = ASIDE;
      sentMs = performance.now();
      wire.socket.write(message);
    };
    const wire = dial(route, origin, scratch, send);
    wire.socket.setTimeout(REQUEST_TIMEOUT_MS, () => wire.socket.destroy(new Error('no echo')));
    wire.onBytes = (n) => {
      if (!scratch.subarray(0, n).equals(message.subarray(received, received + n)))
        return wire.socket.destroy(new Error('the echo is not what was sent'));
      received += n;
      if (received < bytes) return;
      const nowMs = performance.now();
      if (startMs === 0) startMs = nowMs;
      else timesMs.push(nowMs - sentMs);
      if (nowMs - startMs < durationMs) return send();
      resolve(timesMs);
      wire.socket.resetAndDestroy();
    };
    wire.onClose = (error) =>
      reject(new Error(`the echo stream broke: ${error?.message ?? 'ended by the other side'}`));
  });

const calls: ClientCalls = {
  bulkStart,
  async bulkCount() {
    if (broken !== null) throw new Error(`a stream broke: ${broken}`);
    return { bytes: bytesIn, atMs: performance.now() };
  },
  bulkStop: closeAll,
  requests,
  paced,
  echoes,
  hold: (route, origin, count) => {
    broken = null;
    return new Promise((resolve, reject) => {
      let answered = 0;
      openAll(route, origin, count, (wire) => {
        wire.onBytes = () => {
          if (++answered === count) resolve();
        };
        wire.socket.write(Buffer.from([HOLD]));
      }).catch(reject);
    });
  },
  release: closeAll,
};
serveCalls({ ...calls });
