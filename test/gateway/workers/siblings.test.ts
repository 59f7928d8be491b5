/** What a worker does with connections for others, and with those that come: channels and parts are stand-ins. */
import t from 'tap';
import type { SocketHandle } from '../../../agent-protocol/raw-socket.js';
import type { Authenticated } from '../../../gateway/listeners/connect-pipeline.js';
import type { HandedRequest } from '../../../gateway/listeners/hand-over.js';
import { TunnelRegistry } from '../../../gateway/tunnels/registry.js';
import type { FromWorker } from '../../../gateway/workers/messages.js';
import type { PassChannelEvents } from '../../../gateway/workers/pass-channel.js';
import { type OwnParts, WorkerSiblings } from '../../../gateway/workers/siblings.js';

const connection: SocketHandle = { close() {} };

const request: HandedRequest = {
  asks: { answer: 'connect', destination: { host: 'example.org', port: 443 } },
  requestId: 'r1',
  credentials: { username: 'someone', password: 'secret' },
  clientAddress: '192.0.2.1',
  localAddress: '192.0.2.2',
  head: '',
  tried: [],
};

/** A channel as far as the siblings know it. */
class FakeChannel {
  readonly passed: HandedRequest[] = [];
  closed = false;
  done: (passed: boolean) => void = () => {};
  takes = true;

  constructor(readonly events: PassChannelEvents) {}

  pass(text: string, _connection: SocketHandle, done: (passed: boolean) => void): boolean {
    if (!this.takes) return false;
    this.passed.push(JSON.parse(text) as HandedRequest);
    this.done = done;
    return true;
  }

  close(): void {
    this.closed = true;
    this.events.onClosed();
  }
}

/** Worker 1 of three; channels by worker. */
function make() {
  const sent: FromWorker[] = [];
  const siblings = new WorkerSiblings(1, 3, (message) => sent.push(message));
  const own = {
    served: [] as HandedRequest[],
    retried: [] as string[],
    moved: null as Promise<void> | null,
    draining: false,
  };
  siblings.attach({
    registry: new TunnelRegistry(),
    index: { byExit: () => undefined },
    allocator: {
      deviceMoved: () => own.moved,
      heldNoMore: ({ epoch }) => own.retried.push(epoch),
    },
    takeOver: (taken: HandedRequest) => own.served.push(taken),
    isDraining: () => own.draining,
  } satisfies OwnParts);
  const link = (worker: number) => {
    let made: FakeChannel | undefined;
    siblings.link(worker, (events) => {
      made = new FakeChannel(events);
      return made;
    });
    return made as FakeChannel;
  };
  return { siblings, own, link, sent };
}

t.test('a request goes with its connection; only what has left counts', async (t) => {
  const { siblings, own, link } = make();
  const second = link(2);
  siblings.onServing([1, 2, 3]);
  siblings.pass(2, request, connection);
  t.same(second.passed, [request]);
  t.equal(siblings.passed, 0);
  second.done(true);
  t.equal(siblings.passed, 1);
  t.same(own.served, []);
});

t.test('what does not reach the other is served here, and the other is not asked again', async (t) => {
  const { siblings, own, link } = make();
  const second = link(2);
  siblings.onServing([1, 2, 3]);
  siblings.pass(2, request, connection);
  second.done(false);
  second.takes = false;
  siblings.pass(2, request, connection);
  siblings.pass(3, { ...request, tried: [2] }, connection);
  t.same(
    own.served.map(({ tried, stays }) => [tried, stays]),
    [
      [[2], true],
      [[2], true],
      [[2, 3], true],
    ],
    'it broke off, it is full, there is no way to it',
  );
  t.equal(siblings.passed, 0);
});

t.test('what one with devices can not serve goes to others that have some, and to nobody else', async (t) => {
  const { siblings, link } = make();
  [link(2), link(3)];
  siblings.onServing([1, 2, 3]);
  t.equal(siblings.nextWithDevices([1]), null);
  siblings.onDevices(3, { came: [['d1', 'p|192.0.2.1', 5]], gone: [] } as never);
  t.equal(siblings.nextWithDevices([1]), 3);
  t.equal(siblings.nextWithDevices([1, 3]), null);
  siblings.onDevices(2, { came: [['d1', 'p|192.0.2.1', 9]], gone: [] } as never);
  t.equal(siblings.nextWithDevices([1]), 2, 'a device that moves is counted once');
  siblings.onDevices(2, { came: [], gone: ['d1'] } as never);
  t.equal(siblings.nextWithDevices([1]), null);
});

t.test('nobody is sent to a worker that is gone before it is told that it is', async (t) => {
  const { siblings, link } = make();
  const [second] = [link(2), link(3)];
  siblings.onServing([1, 2, 3]);
  t.equal(siblings.next([1]), 2);
  second?.close();
  t.equal(siblings.next([1]), 3);
  const named = (session: string) =>
    siblings.homeOf({ params: { packageId: null, session }, buyer: { account: 'a' } } as Authenticated);
  const homes = new Set(Array.from({ length: 30 }, (_, n) => named(`s${n}`)));
  t.same(homes, new Set([null, 3]));
});

t.test('a worker without devices asks one that has some at once', async (t) => {
  const { siblings, link } = make();
  for (const worker of [2, 3]) link(worker);
  siblings.onServing([1, 2, 3]);
  const anyExit = { params: { session: null, packageId: null } } as unknown as Authenticated;
  t.equal(siblings.homeOf(anyExit), null, 'nobody has any');
  siblings.onDevices(3, { kind: 'devices', came: [['device', 'exit', 1]], gone: [] });
  t.equal(siblings.homeOf(anyExit), 3);
  siblings.onServing([1, 2]);
  t.equal(siblings.homeOf(anyExit), null, 'it has gone');
});

t.test('the one that comes after it has a channel of its own', async (t) => {
  const { siblings, link } = make();
  const before = link(2);
  siblings.onServing([1, 2]);
  const after = link(2);
  t.ok(before.closed);
  t.equal(siblings.next([1]), 2, 'the end of the old one is not that of the new one');
  siblings.pass(2, request, connection);
  t.equal(after.passed.length, 1);
  siblings.close();
  t.ok(after.closed);
  t.equal(siblings.next([1]), null);
});

t.test(
  'a request that reaches a worker that drains goes on to another, or is served its refusal',
  async (t) => {
    const { siblings, own, link } = make();
    const [second, third] = [link(2), link(3)];
    siblings.onServing([1, 2, 3]);
    own.draining = true;
    second?.events.onPassed(JSON.stringify(request), connection);
    t.match(second?.passed, [{ tried: [1], stays: true }], 'also back to who passed it, who is told');
    second?.events.onPassed(JSON.stringify({ ...request, tried: [2] }), connection);
    t.match(third?.passed, [{ tried: [2, 1], stays: true }]);
    second?.events.onPassed(JSON.stringify({ ...request, tried: [2, 3] }), connection);
    t.equal(own.served.length, 1);
  },
);

t.test('before it serves nothing is taken', async (t) => {
  const siblings = new WorkerSiblings(1, 2, () => {});
  let events: PassChannelEvents | undefined;
  siblings.link(2, (given) => {
    events = given;
    return new FakeChannel(given);
  });
  let closed = 0;
  events?.onPassed(JSON.stringify(request), { close: () => closed++ });
  t.equal(closed, 1);
});

t.test('a worker that has ended is known by its run, and what it held is free', async (t) => {
  const { siblings, own } = make();
  const run = { gatewayId: 'duo-w2', epoch: 'e1' };
  t.notOk(siblings.isOver(run));
  siblings.onOver(run);
  t.ok(siblings.isOver(run));
  t.notOk(siblings.isOver({ ...run, epoch: 'e2' }), 'the one that took its place lives');
  t.same(own.retried, ['e1']);
});

t.test('where a device went is told when what it served here is free', async (t) => {
  const { siblings, own, sent } = make();
  const came = (deviceId: string) =>
    siblings.onDevices(3, { kind: 'devices', came: [[deviceId, 'exit', 1]], gone: [] });
  came('one that served nobody');
  let release: () => void = () => {};
  own.moved = new Promise((resolve) => {
    release = resolve;
  });
  came('one that served somebody');
  t.same(sent, [], 'not before');
  release();
  await own.moved;
  t.same(sent, [{ kind: 'freed', to: 3 }], 'once');
  siblings.onFreed({ gatewayId: 'duo-w3', epoch: 'e3' });
  t.same(own.retried, ['e3'], 'and there it is asked for again');
});
