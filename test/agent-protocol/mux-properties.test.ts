import fc from 'fast-check';
import t from 'tap';
import { RESET_TUNNEL_LOST } from '../../agent-protocol/frame.js';
import type { MuxSession } from '../../agent-protocol/session.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { openTunnel } from './helpers/tunnel.js';

/** Byte `index` of what end `end` sends on stream `id`: any loss, repeat or mix-up shows. */
const byteAt = (end: number, id: number, index: number): number => (index * 31 + id * 7 + end * 131) & 0xff;

/** One end of a stream under test: sends what it is told, consumes when it is told, checks what comes. */
class End implements StreamHandler {
  stream!: MuxStream;
  receivedBytes = 0;
  unconsumedBytes = 0;
  sentBytes = 0;
  wantedBytes = 0;
  finWanted = false;
  finSent = false;
  finReceived = false;
  resetCode: number | null = null;
  resetSent = false;
  fault: string | null = null;
  readonly #end: number;
  readonly #onOpened: (() => void) | undefined;

  constructor(end: number, onOpened?: () => void) {
    this.#end = end;
    this.#onOpened = onOpened;
  }

  onOpened(): void {
    this.#onOpened?.();
    this.pump();
  }

  onData(stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    for (let at = start; at < end; at++) {
      if (buffer[at] !== byteAt(1 - this.#end, stream.id, this.receivedBytes++)) this.fault ??= 'wrong byte';
    }
    this.unconsumedBytes += end - start;
    if (this.unconsumedBytes > stream.windowBytes) this.fault ??= 'more than the window';
    if (this.finReceived) this.fault ??= 'data after fin';
  }

  onFin(): void {
    this.finReceived = true;
  }

  onReset(_stream: MuxStream, code: number): void {
    if (this.resetCode !== null) this.fault ??= 'reset twice';
    this.resetCode = code;
  }

  onWritable(): void {
    this.pump();
  }

  /** Sends as the bridge does: slices to the window, stops on false. */
  pump(): void {
    const { stream } = this;
    if (stream.state === 'opening' || this.resetCode !== null || this.resetSent || this.finSent) return;
    let writable = true;
    while (writable && this.wantedBytes > 0 && stream.sendWindowBytes > 0) {
      const bytes = Math.min(this.wantedBytes, stream.sendWindowBytes);
      const buffer = Buffer.alloc(bytes + 64);
      for (let at = 0; at < bytes; at++) buffer[at + 64] = byteAt(this.#end, stream.id, this.sentBytes + at);
      this.wantedBytes -= bytes;
      this.sentBytes += bytes;
      // Every other time with headroom, so that both ways of writing are used.
      writable = stream.send(buffer, 64, 64 + bytes, this.sentBytes % 2 === 0 ? 64 : 0);
    }
    if (this.finWanted && this.wantedBytes === 0) {
      this.finSent = true;
      stream.fin();
    }
  }

  consume(part: number): void {
    const bytes = Math.ceil(this.unconsumedBytes * part);
    this.unconsumedBytes -= bytes;
    this.stream.consumed(bytes);
  }
}

interface Pair {
  gateway: End;
  agent: End;
}

type Step =
  | { do: 'open' }
  | { do: 'send'; pair: number; end: number; bytes: number }
  | { do: 'consume'; pair: number; end: number; part: number }
  | { do: 'fin'; pair: number; end: number }
  | { do: 'reset'; pair: number; end: number }
  | { do: 'turn'; turns: number };

const pair = fc.nat(11);
const end = fc.nat(1);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.constant<Step>({ do: 'open' }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('send' as const),
      pair,
      end,
      bytes: fc.oneof(fc.nat(40), fc.nat(60_000)),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('consume' as const),
      pair,
      end,
      part: fc.constantFrom(0.1, 0.5, 1),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fin' as const), pair, end }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reset' as const), pair, end }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('turn' as const), turns: fc.integer({ min: 1, max: 4 }) }),
  },
);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('any schedule: all bytes in order, windows kept, every stream freed', async (t) => {
  const agentEnds = new Map<number, End>();
  let agentSessions = 0;
  const { gateway, agent, gatewayHandler, agentHandler } = await openTunnel(t, {
    limits: {
      streamWindowBytes: 16 * 1024,
      streamWindowBytesMax: 64 * 1024,
      tunnelWindowBytesMax: 256 * 1024,
    },
    agent: {
      onOpen: (_session, stream) => {
        agentSessions++;
        const handler = new End(1);
        handler.stream = stream;
        stream.handler = handler;
        agentEnds.set(stream.id, handler);
        stream.opened(0);
      },
    },
  });

  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const pairs: Pair[] = [];
      for (const one of steps) {
        if (one.do === 'open') {
          if (pairs.length >= 12) continue;
          let opened!: () => void;
          const open = new Promise<void>((resolve) => {
            opened = resolve;
          });
          const near = new End(0, opened);
          near.stream = gateway.open({ host: 'example.com', port: 80, network: 'tcp' }, near);
          await open;
          pairs.push({ gateway: near, agent: agentEnds.get(near.stream.id) as End });
          continue;
        }
        if (one.do === 'turn') {
          for (let i = 0; i < one.turns; i++) await turn();
          continue;
        }
        if (pairs.length === 0) continue;
        const chosen = pairs[one.pair % pairs.length] as Pair;
        const side = one.end === 0 ? chosen.gateway : chosen.agent;
        if (one.do === 'send' && !side.finWanted) side.wantedBytes += one.bytes;
        if (one.do === 'consume') side.consume(one.part);
        if (one.do === 'fin') side.finWanted = true;
        if (one.do === 'reset' && side.stream.state !== 'closed') {
          side.resetSent = true;
          side.stream.reset(3);
        }
        side.pump();
      }
      // Let everything finish.
      const ends = pairs.flatMap(({ gateway: near, agent: far }) => [near, far]);
      for (const side of ends) {
        side.finWanted = true;
        side.pump();
      }
      for (let i = 0; i < 3_000 && (gateway.streamCount > 0 || agent.streamCount > 0); i++) {
        for (const side of ends) side.consume(1);
        await turn();
      }
      for (const [index, { gateway: near, agent: far }] of pairs.entries()) {
        const cut = near.resetSent || far.resetSent;
        for (const [one, other] of [
          [near, far],
          [far, near],
        ] as const) {
          if (one.fault !== null) throw new Error(`stream ${index}: ${one.fault}`);
          if (cut) {
            if (one.receivedBytes > other.sentBytes) throw new Error('more came than was sent');
            if (!one.resetSent && one.stream.state !== 'closed') throw new Error('a reset did not arrive');
          } else {
            if (one.receivedBytes !== other.sentBytes || other.wantedBytes !== 0)
              throw new Error(`stream ${index}: ${one.receivedBytes} of ${other.sentBytes} arrived`);
            if (!one.finReceived || one.resetCode !== null) throw new Error('not finished in order');
          }
        }
      }
      if (gateway.streamCount !== 0 || agent.streamCount !== 0) throw new Error('streams are left');
      if (gateway.state !== 'open') throw new Error(JSON.stringify(await gatewayHandler.closed));
    }),
    { numRuns: 300, interruptAfterTimeLimit: 15_000 },
  );
  t.ok(agentSessions > 50, `${agentSessions} streams`);

  const left = new End(0);
  left.stream = gateway.open({ host: 'example.com', port: 80, network: 'tcp' }, left);
  gateway.close({ code: 'shutting_down', reason: 'test over' });
  t.equal(left.resetCode, RESET_TUNNEL_LOST, 'streams hear of the end in the same tick');
  t.equal(left.stream.state, 'closed');
  t.match(await agentHandler.closed, { code: 'shutting_down', byPeer: true });
  const late = new End(0);
  late.stream = gateway.open({ host: 'example.com', port: 80, network: 'tcp' }, late);
  t.equal(late.stream.state, 'closed');
  await turn();
  t.equal(late.resetCode, RESET_TUNNEL_LOST);
});

t.test('windows grow with traffic up to the limits of stream and tunnel', async (t) => {
  const received: End[] = [];
  const limits = {
    streamWindowBytes: 16 * 1024,
    streamWindowBytesMax: 128 * 1024,
    tunnelWindowBytesMax: 168 * 1024,
  };
  const { gateway } = await openTunnel(t, {
    limits,
    agent: {
      onOpen: (_session, stream) => {
        const handler = new End(1);
        handler.stream = stream;
        received.push(handler);
        stream.handler = {
          onData: (s, _buffer, start, endOf) => s.consumed(endOf - start),
          onFin: () => {},
          onReset: () => {},
          onWritable: () => {},
        };
        stream.opened(0);
      },
    },
  });
  const chunk = Buffer.alloc(8 * 1024 + 64);
  const sendAll = (session: MuxSession, totalBytes: number): Promise<MuxStream> =>
    new Promise((resolve) => {
      let left = totalBytes;
      const go = (stream: MuxStream): void => {
        while (left > 0) {
          const bytes = Math.min(left, stream.sendWindowBytes, 8 * 1024);
          if (bytes === 0) return;
          left -= bytes;
          if (!stream.send(chunk, 64, 64 + bytes, 0)) return;
        }
        resolve(stream);
      };
      session.open(
        { host: 'h', port: 1, network: 'tcp' },
        { onOpened: go, onData: () => {}, onFin: () => {}, onReset: () => {}, onWritable: go },
      );
    });
  await sendAll(gateway, 8 * 1024 * 1024);
  t.equal(received[0]?.stream.windowBytes, limits.streamWindowBytesMax);
  await sendAll(gateway, 8 * 1024 * 1024);
  const second = received[1]?.stream.windowBytes as number;
  t.ok(second < limits.streamWindowBytesMax, 'the tunnel had no room for a second large window');
  const grownBytes = limits.streamWindowBytesMax + second - 2 * limits.streamWindowBytes;
  t.ok(grownBytes <= limits.tunnelWindowBytesMax, 'first windows do not count');
});

t.test('both ends count each time that a window is used up', async (t) => {
  const bytes = 16 * 1024;
  let stream: MuxStream | null = null;
  let heldBytes = 0;
  const { gateway, agent } = await openTunnel(t, {
    limits: { streamWindowBytes: bytes, streamWindowBytesMax: bytes },
    agent: {
      onOpen: (_session, opened) => {
        stream = opened;
        opened.handler = {
          onData: (_stream, _buffer, start, endOf) => {
            heldBytes += endOf - start;
          },
          onFin: () => {},
          onReset: () => {},
          onWritable: () => {},
        };
        opened.opened(0);
      },
    },
  });
  const chunk = Buffer.alloc(bytes + 64);
  let writable = 0;
  const send = (sending: MuxStream) => sending.send(chunk, 64, 64 + bytes, 0);
  const stalls = () => [gateway, agent].flatMap(({ stalls: { send, receive } }) => [send, receive]);
  const sending = gateway.open(
    { host: 'h', port: 1, network: 'tcp' },
    {
      onOpened: send,
      onData: () => {},
      onFin: () => {},
      onReset: () => {},
      onWritable: (again) => {
        writable++;
        if (writable === 1) send(again);
      },
    },
  );
  while (heldBytes < bytes) await turn();
  t.same(stalls(), [1, 0, 0, 1]);
  sending.send(chunk, 64, 64, 0);
  t.same(stalls(), [1, 0, 0, 1], 'who tries again meanwhile has not come to a new end');
  heldBytes = 0;
  (stream as MuxStream | null)?.consumed(bytes);
  while (heldBytes < bytes) await turn();
  t.same(stalls(), [2, 0, 0, 2]);
});
