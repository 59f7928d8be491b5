/** What one association may have counted and not sent, and what becomes of each verdict. */
import t from 'tap';
import { decodeDatagram, encodeDatagram } from '../../../agent-protocol/datagram.js';
import type { MuxStream } from '../../../agent-protocol/stream.js';
import { Verdict } from '../../../agent-protocol/verdict.js';
import type { MeterBinding, MeterWaiter } from '../../../gateway/metering/meter.js';
import { Association, type AssociationClient } from '../../../gateway/relay/association.js';
import { ASSOCIATION_DESTINATIONS_MAX, AssociationUsage } from '../../../gateway/relay/association-usage.js';
import { BandwidthLimits } from '../../../gateway/relay/bandwidth.js';
import { DatagramTotals } from '../../../gateway/relay/datagram-totals.js';
import { Splice } from '../../../gateway/relay/splice.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { OTHER, type UsageSource } from '../../../gateway/usage/usage-book.js';

/** A stream, meter and client of which the test says how they are. */
function setUp(t: { teardown(f: () => void): void }, perSecond = 1_000) {
  const state = {
    verdict: Verdict.GO as Verdict,
    tunnelTakes: true,
    tunnelUnsent: 0,
    clientUnsent: 0,
    clientTakes: true,
    nowMs: 0,
    up: 0,
    down: 0,
    waiters: new Set<MeterWaiter>(),
    sent: [] as Buffer[],
    delivered: [] as Buffer[],
    resets: [] as number[],
    ended: [] as string[],
    clientEnds: 0,
  };
  const count = (direction: 'up' | 'down') => (bytes: number) => {
    if (state.verdict === Verdict.GO) state[direction] += bytes;
    return state.verdict;
  };
  const binding = {
    countUp: count('up'),
    countDown: count('down'),
    wait: (waiter: MeterWaiter) => state.waiters.add(waiter),
    unwait: (waiter: MeterWaiter) => state.waiters.delete(waiter),
  } as unknown as MeterBinding;
  const stream = {
    network: 'udp',
    takesDatagram: () => state.tunnelTakes,
    get unsentDatagramBytes() {
      return state.tunnelUnsent;
    },
    sendDatagram: (head: Buffer, bytes: Buffer) => {
      state.sent.push(Buffer.concat([head, bytes]));
      return true;
    },
    reset: (code: number) => state.resets.push(code),
  } as unknown as MuxStream;
  const splice = new Splice(
    stream,
    {
      sessionId: 's',
      deviceId: 'd',
      buyerId: 'b',
      account: 'acme',
      destinationHost: '*',
      destinationPort: 0,
      network: 'udp',
      access: { clientAddress: '127.0.0.1', proof: 'address', tokenId: null },
      bandwidth: new BandwidthLimits(systemClock).acquire('b', 'acme', {
        buyerBytesPerSecond: null,
        accountBytesPerSecond: null,
      }),
      allowance: { allocationId: 'a', sizeBytes: 1_000_000, bytesUsed: 0 },
      binding,
    },
    { totals: { bytesUp: 0, bytesDown: 0 }, ended: (_splice, how) => state.ended.push(how) },
    () => {},
  );
  const client: AssociationClient = {
    isReachable: true,
    get unsentBytes() {
      return state.clientUnsent;
    },
    takes: () => state.clientTakes,
    deliver: (payload) => state.delivered.push(Buffer.from(payload)),
    onAssociationEnd: () => {
      state.clientEnds++;
    },
  };
  const totals = new DatagramTotals();
  const flows: Record<string, { source: UsageSource; ended: boolean }> = {};
  const usage = new AssociationUsage((host, port, source) => {
    const flow = { source, ended: false };
    flows[`${host}:${port}`] = flow;
    return {
      end: () => {
        flow.ended = true;
      },
    };
  });
  const association = new Association(
    stream,
    splice,
    {
      settings: { idleMs: 60_000, datagramsPerSecondMax: perSecond },
      totals,
      usage,
      clock: { monotonicMs: () => state.nowMs },
      mayReach: (host) => (host === 'bad.example' ? null : host),
    },
    client,
  );
  t.teardown(() => association.close());
  const down = (bytes: number) =>
    association.onDatagram(stream, encodeDatagram({ host: '8.8.8.8', port: 53, bytes: Buffer.alloc(bytes) }));
  const up = (bytes: number, host = 'a.example') => association.send(host, 53, Buffer.alloc(bytes));
  return { state, association, splice, totals, usage, flows, up, down };
}

t.test('of both directions together at most 64 KiB are counted and not sent', async (t) => {
  const { state, totals, up, down } = setUp(t);
  state.tunnelUnsent = 40_000;
  state.clientUnsent = 20_000;
  up(5_537);
  down(5_537);
  t.same([state.up, state.down, totals.dropped.backlog], [0, 0, 2], 'one byte too many, either way');
  up(5_536);
  down(5_536);
  t.same([state.up, state.down, totals.dropped.backlog], [5_536, 5_536, 2]);
  t.same([state.sent.length, state.delivered.length], [1, 1]);
  t.same(decodeDatagram(state.sent[0] as Buffer), {
    host: 'a.example',
    port: 53,
    bytes: Buffer.alloc(5_536),
  });
  state.tunnelTakes = false;
  up(1);
  t.equal(totals.dropped.backlog, 3, 'what the tunnel does not take is not counted');
  t.equal(state.up, 5_536);
});

t.test('WAIT drops and asks for more; REFUSE ends it', async (t) => {
  const { state, totals, up, down } = setUp(t);
  state.verdict = Verdict.WAIT;
  up(10);
  down(10);
  up(10);
  t.equal(totals.dropped.balance, 3);
  t.equal(state.waiters.size, 1, 'the wallet knows one waiter');
  for (const waiter of state.waiters) waiter.retry();
  t.same([state.sent.length, state.delivered.length, state.ended.length], [0, 0, 0], 'nothing was kept');
  state.verdict = Verdict.GO;
  up(10);
  t.equal(state.up, 10, 'it goes on');
  state.verdict = Verdict.REFUSE;
  down(10);
  t.same([state.ended, state.clientEnds, state.resets], [['refused'], 1, [2]]);
  t.equal(totals.associations, 0);
  state.verdict = Verdict.GO;
  up(10);
  down(10);
  t.same([state.up, state.down], [10, 0], 'nothing is counted any more');
});

t.test('a cut while the wallet is waited for ends it once', async (t) => {
  const { state, association, splice, up } = setUp(t);
  state.verdict = Verdict.WAIT;
  up(10);
  splice.cut();
  splice.cut();
  association.onReset();
  association.close();
  t.same([state.ended, state.clientEnds, state.waiters.size], [['refused'], 1, 0]);
});

t.test('so many a second in each direction, refilled evenly; policy; destinations for kill', async (t) => {
  const { state, totals, splice, up, down } = setUp(t, 4);
  for (let i = 0; i < 6; i++) {
    up(1);
    down(1);
  }
  t.same([totals.up, totals.down, totals.dropped.rate], [4, 4, 4]);
  state.nowMs = 500;
  for (let i = 0; i < 3; i++) up(1);
  t.same([totals.up, totals.dropped.rate], [6, 5]);
  state.nowMs = 10_000;
  up(1, 'bad.example');
  t.equal(totals.dropped.policy, 1);
  t.notOk(splice.reaches('bad.example'));
  t.ok(splice.reaches('a.example'));
  for (let i = 0; i < 1_024; i++) {
    state.nowMs += 1_000;
    up(1, `h${i}.example`);
  }
  t.notOk(splice.reaches('a.example'), 'the longest unused is forgotten');
  t.ok(splice.reaches('h0.example'));
});

t.test('each byte is used by one destination', async (t) => {
  const { state, association, usage, flows, up, down } = setUp(t);
  const told = () => Object.entries(flows).map(([to, { source }]) => [to, source.bytesUp, source.bytesDown]);
  up(100);
  up(50, '8.8.8.8');
  down(700);
  down(30);
  up(1);
  up(5, 'bad.example');
  t.same(
    told(),
    [
      ['a.example:53', 101, 0],
      ['8.8.8.8:53', 50, 730],
    ],
    'what was dropped is in none',
  );
  state.verdict = Verdict.WAIT;
  up(9);
  down(9);
  t.same(told()[0], ['a.example:53', 101, 0], 'nor what was not counted');
  state.verdict = Verdict.GO;
  const from = (host: string, bytes: number) =>
    association.onDatagram({} as MuxStream, encodeDatagram({ host, port: 443, bytes: Buffer.alloc(bytes) }));
  from('2001:db8::1', 10);
  from('192.0.2.7', 20);
  from('2001:db8::1', 30);
  t.match(told().slice(2), [
    ['2001:db8::1:443', 0, 40],
    ['192.0.2.7:443', 0, 20],
  ]);

  for (let i = 0; i < ASSOCIATION_DESTINATIONS_MAX; i++) up(1, `host-${i}.example`);
  t.equal(Object.keys(flows).length, ASSOCIATION_DESTINATIONS_MAX + 1);
  const folded = 4;
  t.same(told().at(-1), [`${OTHER}:0`, folded, 0], 'those after the most that are told apart');
  const sum = (direction: 'bytesUp' | 'bytesDown') =>
    Object.values(flows).reduce((n, { source }) => n + source[direction], 0);
  t.same([sum('bytesUp'), sum('bytesDown')], [state.up, state.down], 'together what was counted');

  usage.end();
  t.ok(Object.values(flows).every(({ ended }) => ended));
  usage.up('late.example', 1, 1);
  t.equal(Object.keys(flows).length, ASSOCIATION_DESTINATIONS_MAX + 1, 'nothing is opened afterwards');
});
