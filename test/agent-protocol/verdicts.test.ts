/** GO, WAIT and REFUSE at the bridge: what waits stays where it is, in order, whatever happens meanwhile. */
import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { ResetCode } from '../../agent-protocol/frame.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import { type Counter, readAll, startRelay } from './helpers/relay.js';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Resolves when the counter was told to hold bytes of the direction back; from then on it says WAIT to all. */
function heldBack(counter: Counter, direction: 'out' | 'in'): Promise<number> {
  return new Promise((resolve) => {
    counter.verdict = (asked, bytes) => {
      if (asked === direction) resolve(bytes);
      return Verdict.WAIT;
    };
  });
}

function release(counter: Counter): void {
  counter.verdict = () => Verdict.GO;
  counter.bridge?.retry();
}

t.test('an observer that says WAIT at random: everything arrives, in order, counted once', async (t) => {
  let waits = 0;
  const relay = await startRelay(t, (socket) => socket.pipe(socket), {
    head: Buffer.from('the head'),
    onStream: (counter) => {
      let seed = waits + 1;
      const random = (): number => {
        seed = (seed * 48_271) % 0x7fffffff;
        return seed / 0x7fffffff;
      };
      counter.verdict = () => {
        if (random() < 0.6) return Verdict.GO;
        waits++;
        // Sometimes more than once, and also when nothing waits any more.
        setTimeout(() => counter.bridge?.retry(), random() * 3);
        return Verdict.WAIT;
      };
    },
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 400_000 }), { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      async (sizes, restBetween) => {
        const pieces = sizes.map((bytes) => randomBytes(bytes));
        const client = await relay.connect();
        const answer = readAll(client);
        for (const piece of pieces) {
          client.write(piece);
          if (restBetween) await soon();
        }
        client.end();
        const all = Buffer.concat([Buffer.from('the head'), ...pieces]);
        const counter = relay.counters.at(-1) as Counter;
        return (
          sha256(await answer) === sha256(all) &&
          (await counter.ended) === 'finished' &&
          counter.bytesOut === all.length &&
          counter.bytesIn === all.length
        );
      },
    ),
    { numRuns: 25 },
  );
  t.ok(waits > 50, `${waits} times WAIT`);
});

t.test('WAIT holds the bytes, what comes behind them, and the end', async (t) => {
  for (const direction of ['out', 'in'] as const) {
    const bytes = randomBytes(150_000);
    let waited: Promise<number> | undefined;
    let received: Promise<Buffer> | undefined;
    const relay = await startRelay(
      t,
      (socket: Socket) => {
        received = readAll(socket);
        socket.end(direction === 'in' ? bytes : '');
      },
      {
        onStream: (counter) => {
          waited = heldBack(counter, direction);
        },
      },
    );
    const client = await relay.connect();
    const answer = readAll(client);
    let answered = false;
    void answer.then(() => {
      answered = true;
    });
    client.end(direction === 'out' ? bytes : '');
    while (waited === undefined) await soon();
    await waited;
    // The other direction has nothing but its end to pass on, and does.
    if (direction === 'out') t.equal((await answer).length, 0);
    else t.equal((await received)?.length, 0);
    for (let i = 0; i < 20; i++) await soon();
    const counter = relay.counters[0] as Counter;
    t.equal(counter.bytesOut + counter.bytesIn, 0, 'nothing is counted');
    t.same(counter.ends, []);
    if (direction === 'in') t.notOk(answered, 'the end waits, too');
    counter.bridge?.retry();
    t.equal(counter.bytesOut + counter.bytesIn, 0, 'asked again, and told again to wait');
    release(counter);
    const got = direction === 'out' ? await received : await answer;
    t.ok(got?.equals(bytes));
    t.equal(await counter.ended, 'finished');
    t.equal(direction === 'out' ? counter.bytesOut : counter.bytesIn, bytes.length);
    release(counter);
  }
});

t.test('a head larger than anything waits as well', async (t) => {
  const head = randomBytes(400_000);
  let waited: Promise<number> | undefined;
  const relay = await startRelay(t, (socket) => socket.pipe(socket), {
    head,
    onStream: (counter) => {
      waited = heldBack(counter, 'out');
    },
  });
  const client = await relay.connect();
  client.end('behind it');
  const answer = readAll(client);
  while (waited === undefined) await soon();
  await waited;
  for (let i = 0; i < 20; i++) await soon();
  t.equal(relay.counters[0]?.bytesOut, 0);
  release(relay.counters[0] as Counter);
  t.ok((await answer).equals(Buffer.concat([head, Buffer.from('behind it')])));
});

t.test('no credit goes back for what waits: the sender is held by the window', async (t) => {
  let waited: Promise<number> | undefined;
  const windowBytes = 128 * 1024;
  const bytes = randomBytes(1_000_000);
  const relay = await startRelay(t, (socket) => socket.end(bytes), {
    limits: { streamWindowBytes: windowBytes },
    onStream: (counter, stream) => {
      waited = heldBack(counter, 'in');
      stream.consumed = ((consumed) => (given: number) => {
        counted.push(given);
        consumed.call(stream, given);
      })(stream.consumed);
    },
  });
  const counted: number[] = [];
  const client = await relay.connect();
  const answer = readAll(client);
  while (waited === undefined) await soon();
  await waited;
  for (let i = 0; i < 50; i++) await soon();
  t.same(counted, []);
  t.ok(relay.gateway.bytesIn < windowBytes + 10_000, `${relay.gateway.bytesIn} bytes came`);
  release(relay.counters[0] as Counter);
  t.ok((await answer).equals(bytes));
});

t.test('who waits can be cut, refused, and lost', async (t) => {
  const cases = [
    ['in', 'client'],
    ...(['bridge', 'refuse', 'tunnel', 'destination'] as const).flatMap(
      (how) =>
        [
          ['in', how],
          ['out', how],
        ] as const,
    ),
  ] as const;
  for (const [direction, how] of cases) {
    let waited: Promise<number> | undefined;
    let destination: Socket | undefined;
    const relay = await startRelay(
      t,
      (socket) => {
        destination = socket;
        if (direction === 'in') socket.write(randomBytes(100_000));
      },
      {
        onStream: (counter) => {
          waited = heldBack(counter, direction);
        },
      },
    );
    const client = await relay.connect();
    const closed = new Promise((resolve) => client.on('error', () => {}).once('close', resolve));
    client.resume();
    if (direction === 'out') client.write(randomBytes(100_000));
    while (waited === undefined) await soon();
    await waited;
    const counter = relay.counters[0] as Counter;
    if (how === 'client') client.resetAndDestroy();
    else if (how === 'destination') destination?.resetAndDestroy();
    else if (how === 'tunnel') relay.agent.destroy();
    else if (how === 'bridge') counter.bridge?.reset(ResetCode.CANCELLED);
    else {
      counter.verdict = () => Verdict.REFUSE;
      counter.bridge?.retry();
    }
    t.equal(await counter.ended, how === 'refuse' ? 'refused' : 'reset', `${direction} ${how}`);
    release(counter);
    t.equal(counter.bytesOut + counter.bytesIn, 0, 'nothing is counted after the end');
    t.equal(counter.ends.length, 1);
    t.equal(relay.gateway.streamCount, 0);
    await closed;
  }
});
