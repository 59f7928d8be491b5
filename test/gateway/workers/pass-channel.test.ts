/** Connections that a process gives to another: a real one at the other end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { adoptHandle, createRawServer, listen } from '../../../agent-protocol/raw-server.js';
import type { SocketHandle } from '../../../agent-protocol/raw-socket.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { type LinkHandle, openLink, PassChannel } from '../../../gateway/workers/pass-channel.js';

/** Answers on each connection with the text that came with it; `keeps`: leaves it open. */
const RECEIVER = `
const { adoptHandle } = await import(process.argv[1] + '/agent-protocol/raw-server.js');
const { PassChannel } = await import(process.argv[1] + '/gateway/workers/pass-channel.js');
new PassChannel(3, {
  onPassed(text, connection) {
    const raw = adoptHandle(connection);
    raw.write(Buffer.from(text));
    if (process.argv[2] !== 'keeps') raw.end();
  },
  onClosed() { process.exit(0); },
});
process.stdout.write('ready');
`;

interface Receiver {
  process: ChildProcess;
  channel: PassChannel;
  closed: Promise<unknown>;
}

/** `descriptorsMax`: it may have open. */
async function receiver(
  t: Test,
  { keeps = false, descriptorsMax = 1_024, waitingMax = 1_000 } = {},
): Promise<Receiver> {
  const node = [
    process.execPath,
    '--input-type=module',
    '-e',
    RECEIVER,
    projectPath('dist'),
    keeps ? 'keeps' : '',
  ];
  const limited = ['-c', `ulimit -n ${descriptorsMax}; exec "$@"`, 'sh', ...node];
  const child = spawn('sh', limited, { stdio: ['ignore', 'pipe', 'inherit', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const end = child.stdio[3] as unknown as { _handle: LinkHandle };
  end._handle.readStop?.();
  const channel = await new Promise<PassChannel>((resolve) => {
    const made: PassChannel = new PassChannel(
      end._handle.fd,
      { onPassed: () => {}, onClosed: () => told() },
      waitingMax,
    );
    resolve(made);
  });
  let told = () => {};
  const closed = new Promise<void>((resolve) => {
    told = resolve;
  });
  t.teardown(() => channel.close());
  await once(child.stdout as NonNullable<typeof child.stdout>, 'data');
  return { process: child, channel, closed };
}

/** A client, and its connection at this side as it is passed on. */
type Client = { socket: Socket; handle: SocketHandle; answer: Promise<string> };

async function clients(t: Test, count: number): Promise<Client[]> {
  const handles = new Map<number, SocketHandle>();
  let all = () => {};
  const accepted = new Promise<void>((resolve) => {
    all = resolve;
  });
  const server = createRawServer({
    keepAliveAfterMs: 1_000,
    onAccepted: (one) => {
      const handle = one.adopt().detach() as SocketHandle;
      const peer: { port?: number } = {};
      handle.getpeername?.(peer);
      handles.set(peer.port as number, handle);
      if (handles.size === count) all();
    },
  });
  const { port } = await listen(server, { host: '127.0.0.1', port: 0, backlog: 511 });
  const sockets = Array.from({ length: count }, () => connect(port, '127.0.0.1'));
  await accepted;
  server.close();
  return sockets.map((socket) => {
    t.teardown(() => socket.destroy());
    socket.setEncoding('utf8');
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', () => {});
    const answer = once(socket, 'close').then(() => text);
    return { socket, handle: handles.get(socket.localPort as number) as SocketHandle, answer };
  });
}

/** Of any length up to some reads of the other side. */
const textOf = (n: number) => `${n} ${'ä'.repeat((n * 7_919) % 60_000)}`;

t.test('each connection comes with its own text, however long that is', async (t) => {
  const { channel } = await receiver(t);
  const all = await clients(t, 60);
  const passed = all.map(({ handle }, n) => new Promise((done) => channel.pass(textOf(n), handle, done)));
  t.same(new Set(await Promise.all(passed)), new Set([true]));
  const answers = await Promise.all(all.map(({ answer }) => answer));
  t.ok(answers.every((answer, n) => answer === textOf(n)));
});

t.test(
  'what can not be taken stays with the giver, also when the taker dies; nothing is left open',
  async (t) => {
    const { process: child, channel, closed } = await receiver(t, { waitingMax: 20 });
    const all = await clients(t, 40);
    child.kill('SIGSTOP');
    const outcomes = new Map<Client, boolean>();
    const told: Promise<void>[] = [];
    const refused: Client[] = [];
    for (const client of all) {
      let taken = false;
      const outcome = new Promise<void>((resolve) => {
        taken = channel.pass('x'.repeat(60_000), client.handle, (passed) => {
          outcomes.set(client, passed);
          resolve();
        });
      });
      if (taken) told.push(outcome);
      else refused.push(client);
    }
    t.equal(refused.length, 20, 'no more wait for it than may');
    child.kill('SIGKILL');
    await Promise.all([...told, closed]);
    const passed = [...outcomes].filter(([, passed]) => passed).map(([client]) => client);
    const kept = [...outcomes].filter(([, passed]) => !passed).map(([client]) => client);
    t.ok(passed.length > 0 && kept.length > 0, 'some had left, others not');
    for (const { answer } of passed) t.equal(await answer, '', 'what was on its way is closed');
    for (const { handle, answer } of [...kept, ...refused]) {
      const raw = adoptHandle(handle);
      raw.write(Buffer.from('served by another'));
      raw.destroy();
      t.equal(await answer, 'served by another');
    }
    t.equal(
      channel.pass('late', all[0]?.handle as SocketHandle, () => {}),
      false,
      'nothing goes there any more',
    );
  },
);

t.test('a taker without descriptors loses connections, and never takes one for another', async (t) => {
  const { channel } = await receiver(t, { keeps: true, descriptorsMax: 50 });
  const all = await clients(t, 60);
  for (const [n, { handle }] of all.entries()) channel.pass(textOf(n), handle, () => {});
  const outcomes = await Promise.all(
    all.map(async ({ socket, answer }, n) => {
      const text = textOf(n);
      let got = '';
      const answered = new Promise<string>((resolve) => {
        socket.on('data', (chunk: string) => {
          got += chunk;
          if (got.length >= text.length) resolve(got);
        });
      });
      const outcome = await Promise.race([answered, answer]);
      return outcome === text ? 'own' : outcome === '' ? 'closed' : 'wrong';
    }),
  );
  t.notOk(outcomes.includes('wrong'));
  t.ok(outcomes.includes('own'));
  t.ok(outcomes.includes('closed'));
});

t.test('what is no socket is told', async (t) => {
  t.throws(
    () => new PassChannel(987, { onPassed: () => {}, onClosed: () => {} }),
    /no socket to pass others on/,
  );
  t.throws(() => openLink({ fd: 987 } as LinkHandle, { onPassed: () => {}, onClosed: () => {} }));
});
