/** Many streams with mixed traffic, in a process of its own. */
import { createHistogram } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Mix } from '../load/load-options.js';
import {
  DOWN,
  ECHO,
  type Endpoint,
  HOLD,
  type Payload,
  REQUEST,
  RESPONSE,
  type Route,
  UP,
} from '../protocol.js';
import { dial, type Wire } from './dial.js';
import { serveCalls } from './serve-calls.js';

/** What the streams do. */
export interface MixedTraffic {
  mix: Mix;
  /** Proxy usernames; the streams take them in turn. */
  usernames: string[];
  /** A trickling stream sends so many bytes, which come back, so often. */
  trickleBytes: number;
  trickleEveryMs: number;
  /** A requesting stream asks again so long after an answer, on a new connection. */
  requestEveryMs: number;
  /** A bulk stream moves so many bytes down, then up, and so on, each on a connection of its own, so often at most. */
  bulkBytes: number;
  bulkEveryMs: number;
}

/** What came of it so far. */
export interface MixedFigures extends Payload {
  /** Streams that broke, or brought another number of bytes than they should. */
  errors: number;
  firstError: string | null;
  /** Connections that did not become a stream: turned away, or not served in time. */
  refused: number;
  firstRefusal: string | null;
  requests: number;
  transfers: number;
  echoes: number;
  /** Time a trickling stream waits for its bytes to come back, ms. */
  echoP99Ms: number;
  echoMaxMs: number;
}

export interface MixedCalls {
  /** Opens the streams that stay; resolves when the origin has answered on each, and all are at work. */
  start(route: Route, origin: Endpoint, traffic: MixedTraffic): Promise<void>;
  figures(): Promise<MixedFigures>;
  /** Lets everything under way come to its end, then ends all streams in order. */
  finish(): Promise<MixedFigures>;
}

const CHUNK_BYTES = 1 << 18;
const scratch = Buffer.alloc(1 << 20);
const chunk = Buffer.alloc(CHUNK_BYTES, 'm');
/** Connections being opened at once. */
const AT_ONCE = 64;
/** Nothing takes this long on loopback: it is lost. */
const PATIENCE_MS = 30_000;
/** Trickling streams are written to in groups, one each so often. */
const TICK_MS = 25;

/** A stream that stays; `owedBytes` have been sent and have not come back. */
interface Held {
  wire: Wire;
  owedBytes: number;
  sentAtMs: number;
}

const figures = { bytesUp: 0, bytesDown: 0, errors: 0, refused: 0, requests: 0, transfers: 0, echoes: 0 };
const echoMicros = createHistogram();
let firstError: string | null = null;
let firstRefusal: string | null = null;
let stopping = false;
/** Streams that stay, requests and transfers under way. */
const held = new Set<Held>();
const underWay = new Set<Promise<void>>();
const timers: NodeJS.Timeout[] = [];

function failed(text: string): void {
  figures.errors++;
  firstError ??= text;
}

function refused(error: Error | null): void {
  figures.refused++;
  firstRefusal ??= error?.message ?? 'closed before it was a stream';
}

/** How a conversation went: null was refused, and noted as such. */
interface Conversation {
  received: number;
  error: Error | null;
}

/** Dials; `begin` writes, and each byte that comes is counted. Resolves when it is over. */
function converse(route: Route, origin: Endpoint, begin: (wire: Wire) => void): Promise<Conversation | null> {
  return new Promise((resolve) => {
    let received = 0;
    let isStream = false;
    const wire = dial(route, origin, scratch, () => {
      isStream = true;
      begin(wire);
    });
    wire.socket.setTimeout(PATIENCE_MS, () => wire.socket.destroy(new Error('nothing moved')));
    wire.onBytes = (n) => {
      figures.bytesDown += n;
      received += n;
    };
    wire.onClose = (error) => {
      if (isStream) return resolve({ received, error });
      refused(error);
      resolve(null);
    };
  });
}

function write(wire: Wire, bytes: Buffer): boolean {
  figures.bytesUp += bytes.length;
  return wire.socket.write(bytes);
}

/** Opens a stream that stays, by its first byte; resolves when the origin has answered. */
function hold(route: Route, origin: Endpoint, mode: number): Promise<Held | null> {
  return new Promise((resolve) => {
    const stream: Held = {
      wire: dial(route, origin, scratch, () => write(wire, Buffer.of(mode))),
      owedBytes: 1,
      sentAtMs: performance.now(),
    };
    const { wire } = stream;
    held.add(stream);
    wire.onBytes = (n) => {
      figures.bytesDown += n;
      stream.owedBytes -= n;
      if (stream.owedBytes > 0) return;
      if (stream.owedBytes < 0) failed('more bytes came back than were sent');
      wire.onBytes = (n) => onEcho(stream, n);
      resolve(stream);
    };
    wire.onClose = (error) => {
      if (held.delete(stream)) failed(`a stream broke: ${error?.message ?? 'ended by the other side'}`);
      resolve(null);
    };
  });
}

function onEcho(stream: Held, n: number): void {
  figures.bytesDown += n;
  stream.owedBytes -= n;
  if (stream.owedBytes < 0) failed('more bytes came back than were sent');
  if (stream.owedBytes !== 0) return;
  figures.echoes++;
  echoMicros.record(Math.max(1, Math.round((performance.now() - stream.sentAtMs) * 1_000)));
}

/** Writes to a group of the streams each tick, so that each is written to once every `everyMs`. */
function trickle(streams: Held[], bytes: Buffer, everyMs: number): void {
  const groups: Held[][] = Array.from({ length: Math.max(1, Math.round(everyMs / TICK_MS)) }, () => []);
  for (const [n, stream] of streams.entries()) groups[n % groups.length]?.push(stream);
  let next = 0;
  timers.push(
    setInterval(() => {
      for (const stream of groups[next++ % groups.length] ?? []) {
        if (stream.owedBytes !== 0 || !held.has(stream)) continue; // its last bytes are not back yet
        stream.owedBytes = bytes.length;
        stream.sentAtMs = performance.now();
        write(stream.wire, bytes);
      }
    }, everyMs / groups.length),
  );
}

/** Does the same again and again, at most once every `everyMs`, until the end. */
function repeat(everyMs: number, firstAfterMs: number, act: (turn: number) => Promise<void>): void {
  const loop = async () => {
    await delay(firstAfterMs);
    for (let turn = 0; !stopping; turn++) {
      const begunMs = performance.now();
      const one = act(turn);
      underWay.add(one);
      await one;
      underWay.delete(one);
      await delay(Math.max(0, begunMs + everyMs - performance.now()));
    }
  };
  loop().catch((error: Error) => failed(error.message));
}

async function request(route: Route, origin: Endpoint): Promise<void> {
  const talk = await converse(route, origin, (wire) => write(wire, REQUEST));
  if (talk === null) return;
  if (talk.error === null && talk.received === RESPONSE.length) figures.requests++;
  else failed(`a request: ${talk.error?.message ?? `${talk.received} of ${RESPONSE.length} bytes`}`);
}

async function transfer(
  route: Route,
  origin: Endpoint,
  direction: 'down' | 'up',
  bytes: number,
): Promise<void> {
  const talk = await converse(route, origin, (wire) =>
    direction === 'up' ? upload(wire, bytes) : write(wire, downloadOrder(bytes)),
  );
  if (talk === null) return;
  if (talk.error === null && talk.received === (direction === 'down' ? bytes : 0)) figures.transfers++;
  else failed(`a transfer ${direction}: ${talk.error?.message ?? `${talk.received} bytes came`}`);
}

function downloadOrder(bytes: number): Buffer {
  const order = Buffer.alloc(9);
  order[0] = DOWN;
  order.writeBigUInt64BE(BigInt(bytes), 1);
  return order;
}

function upload(wire: Wire, bytes: number): void {
  let left = bytes;
  const more = () => {
    while (left > 0) {
      const piece = left >= CHUNK_BYTES ? chunk : chunk.subarray(0, left);
      left -= piece.length;
      if (!write(wire, piece)) return;
    }
    wire.socket.end();
  };
  wire.socket.on('drain', more);
  write(wire, Buffer.of(UP));
  more();
}

const start: MixedCalls['start'] = async (route, origin, traffic) => {
  const { mix, usernames } = traffic;
  let taken = 0;
  const nextRoute = (): Route => ({
    ...route,
    username: usernames[taken++ % usernames.length] ?? route.username,
  });
  const trickling: Held[] = [];
  const modes = [...Array<number>(mix.idle).fill(HOLD), ...Array<number>(mix.trickle).fill(ECHO)].values();
  const worker = async () => {
    for (const mode of modes) {
      const stream = await hold(nextRoute(), origin, mode);
      if (stream !== null && mode === ECHO) trickling.push(stream);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  trickle(trickling, Buffer.alloc(traffic.trickleBytes, 't'), traffic.trickleEveryMs);
  for (let n = 0; n < mix.request; n++) {
    const to = nextRoute();
    repeat(traffic.requestEveryMs, (traffic.requestEveryMs * n) / mix.request, () => request(to, origin));
  }
  for (let n = 0; n < mix.bulk; n++) {
    const to = nextRoute();
    repeat(traffic.bulkEveryMs, (traffic.bulkEveryMs * n) / mix.bulk, (turn) =>
      transfer(to, origin, (turn + n) % 2 === 0 ? 'down' : 'up', traffic.bulkBytes),
    );
  }
};

const now = (): MixedFigures => ({
  ...figures,
  firstError,
  firstRefusal,
  echoP99Ms: echoMicros.count === 0 ? 0 : echoMicros.percentile(99) / 1_000,
  echoMaxMs: echoMicros.count === 0 ? 0 : echoMicros.max / 1_000,
});

/** Each echo that is owed has come, or its stream is gone, or patience is over. */
async function settled(): Promise<void> {
  const untilMs = performance.now() + PATIENCE_MS;
  while ([...held].some(({ owedBytes }) => owedBytes !== 0) && performance.now() < untilMs)
    await delay(TICK_MS);
  const late = [...held].filter(({ owedBytes }) => owedBytes !== 0).length;
  if (late > 0) failed(`${late} streams wait for their bytes`);
}

const calls: MixedCalls = {
  start,
  figures: async () => now(),
  async finish() {
    stopping = true;
    for (const timer of timers) clearInterval(timer);
    await Promise.all(underWay);
    await settled();
    const streams = [...held];
    held.clear();
    await Promise.all(
      streams.map(
        ({ wire }) =>
          new Promise<void>((resolve) => {
            wire.socket.setTimeout(PATIENCE_MS, () => wire.socket.destroy(new Error('not ended')));
            wire.onBytes = () => failed('bytes came after the end');
            wire.onClose = (error) => {
              if (error !== null) failed(`a stream did not end well: ${error.message}`);
              resolve();
            };
            wire.socket.end();
          }),
      ),
    );
    return now();
  },
};
serveCalls({ ...calls });
