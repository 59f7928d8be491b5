import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t, { type Test } from 'tap';
import type { Accepted } from '../../../agent-protocol/raw-server.js';
import { ListeningPort } from '../../../gateway/listeners/listening-port.js';
import { WaitingRoom } from '../../../gateway/listeners/waiting-room.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { eventually, startListener } from './fake-pipeline.js';

/** A room whose visitors are numbers. */
function room({ waitMsMax = 1_000, waitingMax = 1_000 }: { waitMsMax?: number; waitingMax?: number } = {}) {
  const clock = new ManualClock();
  const served: number[] = [];
  const doors: string[] = [];
  const it = new WaitingRoom({
    waitMsMax,
    waitingMax,
    nowMs: () => clock.monotonicMs(),
    serve: (accepted) => served.push(accepted as unknown as number),
    closeDoor: () => doors.push('closed'),
    openDoor: () => doors.push('open'),
  });
  let last = 0;
  /** Turns in each of which one comes. */
  const turns = async (count: number) => {
    for (let turn = 0; turn < count; turn++) {
      it.enter(++last as unknown as Accepted);
      await nextTurn();
    }
  };
  const rest = async () => {
    while (it.count > 0) await nextTurn();
  };
  return { it, clock, served, doors, turns, rest };
}

t.test('who comes alone is served in the same turn', async (t) => {
  const { it, served, turns } = room();
  for (let n = 1; n <= 3; n++) {
    await turns(1);
    t.equal(served.length, n);
    t.equal(it.count, 0);
    await nextTurn();
  }
});

t.test('while one comes in every turn nobody is served; then all, in order, four a turn', async (t) => {
  const { it, served, doors, turns, rest } = room();
  await turns(10);
  t.same(served, [1], 'the first came alone');
  t.equal(it.count, 9);
  await nextTurn();
  t.same(served, [1, 2, 3, 4, 5]);
  await rest();
  t.same(served, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  t.same(doors, []);
});

t.test('the door is closed when the first has waited too long, and opened with a quarter left', async (t) => {
  const { it, clock, served, doors, turns } = room({ waitMsMax: 100 });
  await turns(101);
  clock.advance(99);
  await turns(1);
  t.same(doors, []);
  t.equal(served.length, 5, 'some after a long turn');
  clock.advance(1);
  await turns(1);
  t.same(doors, ['closed']);
  const waited = it.count + 4;
  for (let more = 0; more < 3; more++) await turns(1);
  t.equal(served.length, 21, 'served, though more came in every turn');
  while (doors.length === 1) {
    t.ok(it.count > waited / 4);
    await nextTurn();
  }
  t.same(doors, ['closed', 'open']);
  t.ok(it.count > waited / 4 - 4, `${it.count} left of ${waited}`);
});

t.test('few who wait are no reason to close it', async (t) => {
  const { it, clock, doors, turns } = room({ waitMsMax: 100 });
  await turns(60);
  clock.advance(1_000);
  await turns(1);
  t.same(doors, []);
  t.equal(it.count, 56);
});

t.test('the same when too many wait', async (t) => {
  const { served, doors, turns, rest } = room({ waitingMax: 20 });
  await turns(20);
  t.same(doors, []);
  await turns(1);
  t.same(doors, ['closed']);
  await rest();
  t.same(doors, ['closed', 'open']);
  t.equal(served.length, 21);
});

t.test('who was served is forgotten, though somebody always waits', async (t) => {
  const { it, clock, served, turns } = room();
  const visitors = Array.from({ length: 10_000 }, (_, n) => ({ n }));
  const lost = new WeakRef(visitors[0] as object);
  for (const visitor of visitors.splice(0)) it.enter(visitor as unknown as Accepted);
  while (it.count > 5_000) {
    clock.advance(1);
    await turns(1);
  }
  served.length = 0;
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  await nextTurn();
  collect();
  t.equal(lost.deref(), undefined);
  t.ok(it.count > 4_000, 'others wait yet');
});

t.test('emptied: all are served at once', async (t) => {
  const { it, served, turns } = room();
  await turns(10);
  it.empty();
  t.equal(served.length, 10);
  t.equal(it.count, 0);
  for (let turn = 0; turn < 2; turn++) await nextTurn();
  await turns(1);
  t.equal(served.length, 11);
});

/** Clients that dial in the same moment; resolves to what became of each: its first answer, or its error's code. */
function dialAtOnce(t: Test, port: number, count: number, host = '127.0.0.1'): Promise<string[]> {
  const one = async (): Promise<string> => {
    const socket = connect(port, host);
    t.teardown(() => socket.destroy());
    socket.on('connect', () => socket.write(Buffer.from([5, 1, 2])));
    try {
      const [answer] = (await once(socket, 'data')) as [Buffer];
      return answer.toString('hex');
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  };
  return Promise.all(Array.from({ length: count }, one));
}

t.test(
  'more at once than can be served in time: some are refused, nobody hangs, and the port is open again',
  async (t) => {
    const { listener, port } = await startListener(t, { settings: { acceptWaitMsMax: 2 } });
    const outcomes = await dialAtOnce(t, port, 800);
    const answered = outcomes.filter((outcome) => outcome === '0502').length;
    const refused = outcomes.filter((outcome) =>
      ['ECONNRESET', 'ECONNREFUSED', 'EPIPE'].includes(outcome),
    ).length;
    t.equal(answered + refused, 800);
    t.ok(answered > 0, `${answered} answered`);
    t.ok(refused > 0, `${refused} refused`);
    t.ok(listener.counts.portClosures > 0);
    await eventually(() => listener.waitingCount === 0);
    while ((await dialAtOnce(t, port, 1))[0] !== '0502') t.comment('not open yet');
  },
);

t.test(
  'a host that is a name: looked up again each time, it is open in the end, and nothing failed',
  async (t) => {
    const errors: object[] = [];
    const log = Object.assign(Object.create(silentLog), { error: (fields: object) => errors.push(fields) });
    let closures = 0;
    const port = new ListeningPort({
      host: 'localhost',
      port: 0,
      waitMsMax: 25,
      onAccepted: (accepted) => {
        // Slow once some wait, so that those who are left when the door is opened have waited too long already.
        const untilMs = performance.now() + (closures > 0 ? 0.2 : 0);
        while (performance.now() < untilMs);
        accepted.close();
      },
      onFull: () => {
        closures++;
      },
      log,
    });
    const { port: number, address } = await port.open();
    t.teardown(() => port.close());
    await dialAtOnce(t, number, 2_000, address);
    await eventually(() => port.waitingCount === 0);
    t.ok(closures > 0, `${closures} closures`);
    while ((await dialAtOnce(t, number, 1, address))[0] === 'ECONNREFUSED') await nextTurn();
    t.same(errors, []);
  },
);

t.test('without a bound all of them are served', async (t) => {
  const { listener, port } = await startListener(t, { settings: { acceptWaitMsMax: 0 } });
  t.same(new Set(await dialAtOnce(t, port, 800)), new Set(['0502']));
  t.equal(listener.counts.portClosures, 0);
});

t.test('closed while its door is closed: it stays so', async (t) => {
  let closures = 0;
  const served: Accepted[] = [];
  const port = new ListeningPort({
    host: '127.0.0.1',
    port: 0,
    waitMsMax: 2,
    onAccepted: (accepted) => {
      served.push(accepted);
      accepted.close();
    },
    onFull: () => {
      closures++;
      queueMicrotask(() => port.close());
    },
    log: silentLog,
  });
  const address = await port.open();
  await dialAtOnce(t, address.port, 800);
  t.equal(closures, 1);
  t.equal(port.waitingCount, 0, 'who waited was served');
  for (let turn = 0; turn < 10; turn++) await nextTurn();
  t.same(await dialAtOnce(t, address.port, 1), ['ECONNREFUSED']);
});

t.test('a port that somebody else took while it was closed is tried again', async (t) => {
  const errors: object[] = [];
  const log = Object.assign(Object.create(silentLog), { error: (fields: object) => errors.push(fields) });
  const thief = createServer();
  let stolen: Promise<unknown> | null = null;
  const port = new ListeningPort({
    host: '127.0.0.1',
    port: 0,
    waitMsMax: 2,
    onAccepted: (accepted) => accepted.close(),
    onFull: () => {
      stolen ??= once(thief.listen(address.port, '127.0.0.1'), 'listening');
    },
    log,
  });
  const address = await port.open();
  t.teardown(() => port.close());
  void dialAtOnce(t, address.port, 800);
  await eventually(() => errors.length > 0);
  await stolen;
  t.match(errors[0], { err: { code: 'EADDRINUSE' } });
  thief.close();
  while ((await dialAtOnce(t, address.port, 1))[0] === 'ECONNREFUSED') await nextTurn();
});
