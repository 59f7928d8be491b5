import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { type DialFailure, type DialSettings, dial } from '../../../agent-protocol/agent/dial.js';
import { cachedResolve, interleaveFamilies, type Resolution } from '../../../agent-protocol/agent/resolve.js';

/** An attempt under the test's control. */
interface FakeSocket {
  address: string;
  destroyed: boolean;
  destroy(): void;
  finish(code: string | null): void;
}

/** A network where each address answers as the test says, when the test says. */
function fakeNetwork(names: Record<string, string[] | 'ENOTFOUND'>) {
  const attempts: FakeSocket[] = [];
  const waiting: (() => void)[] = [];
  const settings: DialSettings<FakeSocket> = {
    resolve: async (name): Promise<Resolution> => {
      const found = names[name] ?? 'ENOTFOUND';
      return found === 'ENOTFOUND' ? { ok: false, code: found } : { ok: true, addresses: found };
    },
    resolveExempt: async () => ({ ok: true, addresses: ['127.0.0.1'] }),
    attempt: (address, _port, onResult) => {
      const socket: FakeSocket = {
        address,
        destroyed: false,
        destroy() {
          this.destroyed = true;
        },
        finish: (code) => onResult(code === null ? null : Object.assign(new Error(code), { code })),
      };
      attempts.push(socket);
      for (const wake of waiting.splice(0)) wake();
      return socket;
    },
    isExempt: (host, port) => host === 'dev.local' && port === 8080,
    isBlockedAddress: (address) => address === '9.9.9.9',
    timeoutMs: 2_000,
    attemptDelayMs: 30,
  };
  const attempt = async (index: number): Promise<FakeSocket> => {
    while (attempts[index] === undefined) await new Promise<void>((wake) => waiting.push(wake));
    return attempts[index] as FakeSocket;
  };
  const run = (host: string, port = 443, overrides: Partial<DialSettings<FakeSocket>> = {}) => {
    let cancel = () => {};
    const outcome = new Promise<FakeSocket | DialFailure>((resolve) => {
      const underWay = dial<FakeSocket>({ ...settings, ...overrides }, host, port, {
        onConnected: resolve,
        onFailed: resolve,
      });
      cancel = () => underWay.cancel();
    });
    return { outcome, cancel };
  };
  return { attempts, attempt, run };
}

t.test('dials only what is global, and never resolves twice', async (t) => {
  const network = fakeNetwork({
    'mixed.example': ['::1', '10.0.0.1', '8.8.8.8', '169.254.169.254'],
    'inside.example': ['127.0.0.1', '::ffff:192.168.0.1', 'fd00::1', '64:ff9b::a00:1'],
    'blocked.example': ['9.9.9.9'],
    'half-blocked.example': ['9.9.9.9', '8.8.4.4'],
  });
  const mixed = network.run('mixed.example');
  (await network.attempt(0)).finish(null);
  t.equal(((await mixed.outcome) as FakeSocket).address, '8.8.8.8');
  t.equal(network.attempts.length, 1, 'the private addresses were not even tried');

  for (const host of [
    'inside.example',
    '127.0.0.1',
    '10.1.2.3',
    '0x7f.1',
    '2130706433',
    '::1',
    '::ffff:127.0.0.1',
    'fe80::1%lo',
    '168.63.129.16',
    'localhost',
    'router',
    'x.internal',
    '%31.example',
    '',
  ])
    t.equal(await network.run(host).outcome, 'PROHIBITED', `${host} is prohibited`);
  t.equal(await network.run('blocked.example').outcome, 'BLOCKED');
  t.equal(network.attempts.length, 1, 'none of them was tried');

  const half = network.run('half-blocked.example');
  (await network.attempt(1)).finish(null);
  t.equal(((await half.outcome) as FakeSocket).address, '8.8.4.4');
  t.equal(await network.run('nowhere.example').outcome, 'DNS_FAIL');

  const decimal = network.run('134744072');
  (await network.attempt(2)).finish(null);
  t.equal(((await decimal.outcome) as FakeSocket).address, '8.8.8.8', 'the usual spelling is dialled');
});

t.test('an exemption holds for the very host and port only', async (t) => {
  const network = fakeNetwork({});
  const exempt = network.run('dev.local', 8080);
  (await network.attempt(0)).finish(null);
  t.equal(((await exempt.outcome) as FakeSocket).address, '127.0.0.1');
  t.equal(await network.run('dev.local', 8081).outcome, 'PROHIBITED');
  t.equal(await network.run('127.0.0.1', 8080).outcome, 'PROHIBITED');
});

t.test('Happy Eyeballs', async (t) => {
  t.same(interleaveFamilies(['a6', 'b6', 'c6'], ['a4']), ['a6', 'a4', 'b6', 'c6']);
  t.same(interleaveFamilies([], ['a4', 'b4']), ['a4', 'b4']);

  await t.test('a silent first address costs one head start', async (t) => {
    const network = fakeNetwork({ 'two.example': ['2606:4700::1', '8.8.8.8'] });
    const startedMs = performance.now();
    const { outcome } = network.run('two.example');
    const silent = await network.attempt(0);
    const second = await network.attempt(1);
    t.ok(performance.now() - startedMs >= 25, 'the second one waited for its turn');
    second.finish(null);
    t.equal(await outcome, second);
    t.ok(silent.destroyed, 'the loser is closed');
    t.notOk(second.destroyed);
  });
  await t.test('a failed first address costs nothing', async (t) => {
    const network = fakeNetwork({ 'two.example': ['2606:4700::1', '8.8.8.8'] });
    const { outcome } = network.run('two.example', 443, { attemptDelayMs: 60_000 });
    (await network.attempt(0)).finish('ENETUNREACH');
    (await network.attempt(1)).finish(null);
    t.equal(((await outcome) as FakeSocket).address, '8.8.8.8');
  });
  await t.test('the first one may still win after the second one began', async (t) => {
    const network = fakeNetwork({ 'two.example': ['2606:4700::1', '8.8.8.8'] });
    const { outcome } = network.run('two.example');
    const first = await network.attempt(0);
    const second = await network.attempt(1);
    first.finish(null);
    t.equal(await outcome, first);
    t.ok(second.destroyed);
  });
  await t.test('the failure that says most is told', async (t) => {
    const cases: readonly (readonly [string[], DialFailure])[] = [
      [['ENETUNREACH', 'ECONNREFUSED'], 'REFUSED'],
      [['ECONNREFUSED', 'ENETUNREACH'], 'REFUSED'],
      [['ETIMEDOUT', 'EHOSTUNREACH'], 'TIMEOUT'],
      [['EHOSTUNREACH', 'EADDRNOTAVAIL'], 'UNREACHABLE'],
      [['EMFILE', 'EMFILE'], 'INTERNAL'],
      [['EMFILE', 'ENETUNREACH'], 'UNREACHABLE'],
    ];
    for (const [codes, expected] of cases) {
      const network = fakeNetwork({ 'two.example': ['2606:4700::1', '8.8.8.8'] });
      const { outcome } = network.run('two.example');
      for (const [index, code] of codes.entries()) (await network.attempt(index)).finish(code);
      t.equal(await outcome, expected, codes.join(' + '));
    }
  });
  await t.test('time-out and cancelling close every attempt', async (t) => {
    const network = fakeNetwork({ 'two.example': ['2606:4700::1', '8.8.8.8'] });
    const late = network.run('two.example', 443, { timeoutMs: 80 });
    t.equal(await late.outcome, 'TIMEOUT');
    t.ok(network.attempts.length === 2 && network.attempts.every((a) => a.destroyed));

    const hung = network.run('slow.example', 443, { timeoutMs: 30, resolve: () => new Promise(() => {}) });
    t.equal(await hung.outcome, 'TIMEOUT', 'resolving counts too');

    const cancelled = network.run('two.example');
    const socket = await network.attempt(2);
    cancelled.cancel();
    t.ok(socket.destroyed);
    socket.finish(null);
    const winner = await Promise.race([
      cancelled.outcome,
      new Promise((r) => setImmediate(() => r('silence'))),
    ]);
    t.equal(winner, 'silence', 'a cancelled dial says nothing more');
  });
});

t.test('against the real network stack', async (t) => {
  const server = createServer((socket) => socket.end('hello'));
  server.listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const attempt: DialSettings<Socket>['attempt'] = (address, port, onResult) => {
    const socket = connect({ host: address, port });
    socket.once('connect', () => onResult(null));
    socket.on('error', onResult);
    return socket;
  };
  const go = (addresses: string[], port: number) =>
    new Promise<Socket | DialFailure>((resolve) => {
      const settings: DialSettings<Socket> = {
        resolve: async () => ({ ok: false, code: 'ENOTFOUND' }),
        resolveExempt: async () => ({ ok: true, addresses }),
        attempt,
        isExempt: () => true,
        isBlockedAddress: () => false,
        timeoutMs: 3_000,
        attemptDelayMs: 50,
      };
      dial<Socket>(settings, 'here', port, { onConnected: resolve, onFailed: resolve });
    });
  const socket = await go(['127.0.0.2', '127.0.0.1'], port);
  t.ok(
    typeof socket === 'object' && socket.remoteAddress === '127.0.0.1',
    'a refusing address is passed over',
  );
  if (typeof socket === 'object') {
    const [data] = (await once(socket, 'data')) as [Buffer];
    t.equal(data.toString(), 'hello');
    socket.destroy();
  }
  server.close();
  t.equal(await go(['127.0.0.1'], port), 'REFUSED');
});

t.test('the cache asks once, forgets in time and stays small', async (t) => {
  let nowMs = 0;
  const asked: string[] = [];
  const resolve = cachedResolve(
    async (name) => {
      asked.push(name);
      await new Promise((r) => setImmediate(r));
      return name.startsWith('bad') ? { ok: false, code: 'ENOTFOUND' } : { ok: true, addresses: ['8.8.8.8'] };
    },
    () => nowMs,
    { positiveMs: 30_000, negativeMs: 5_000, namesMax: 2 },
  );
  const together = await Promise.all([resolve('a'), resolve('a'), resolve('a')]);
  t.same(together, Array(3).fill({ ok: true, addresses: ['8.8.8.8'] }));
  t.same(asked, ['a'], 'one question for three streams');
  nowMs = 29_999;
  await resolve('a');
  t.same(asked, ['a']);
  nowMs = 30_000;
  await resolve('a');
  t.same(asked, ['a', 'a'], 'asked again when it is old');
  await resolve('bad');
  await resolve('bad');
  nowMs += 5_000;
  await resolve('bad');
  t.same(asked, ['a', 'a', 'bad', 'bad'], 'a failure is forgotten sooner');
  await resolve('c');
  await resolve('a');
  t.same(asked.slice(4), ['c', 'a'], 'the oldest name made room');
});
