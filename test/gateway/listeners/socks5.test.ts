import t from 'tap';
import { proxyErrors } from '../../../gateway/errors.js';
import {
  ACCOUNT,
  eventually,
  FakePipeline,
  PASSWORD,
  startEchoServer,
  startListener,
  TestClient,
} from './fake-pipeline.js';

const greeting = Buffer.from([5, 1, 2]);
const OK = Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);

function login(username: string, password: string): Buffer {
  const name = Buffer.from(username);
  const secret = Buffer.from(password);
  return Buffer.concat([Buffer.from([1, name.length]), name, Buffer.from([secret.length]), secret]);
}

function request(address: string | number[], port: number, command = 1): Buffer {
  const addressBytes =
    typeof address === 'string'
      ? [3, address.length, ...Buffer.from(address)]
      : [address.length === 4 ? 1 : 4, ...address];
  return Buffer.from([5, command, 0, ...addressBytes, port >> 8, port & 0xff]);
}

t.test('the conversation works cut at any byte, byte by byte, and with data glued on', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t);
  const all = Buffer.concat([
    greeting,
    login(ACCOUNT, PASSWORD),
    request('example.test', destinationPort),
    Buffer.from('early'),
  ]);
  const answers = Buffer.concat([Buffer.from([5, 2, 1, 0]), OK, Buffer.from('early')]);

  const converse = async (pieces: Buffer[]) => {
    const client = await TestClient.connect(t, port);
    for (const piece of pieces) {
      client.send(piece);
      // The next turn of the event loop: with Nagle off each piece is a segment of its own.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const received = await client.bytes(answers.length);
    client.socket.destroy();
    return received.equals(answers);
  };
  const failed: number[] = [];
  const cuts = Array.from({ length: all.length - 1 }, (_, i) => i + 1);
  await Promise.all(
    cuts.map(async (cut) => {
      if (!(await converse([all.subarray(0, cut), all.subarray(cut)]))) failed.push(cut);
    }),
  );
  t.same(failed, [], `all ${cuts.length} cuts`);
  t.ok(await converse([...all].map((byte) => Buffer.from([byte]))), 'byte by byte');
  t.ok(await converse([all]), 'at once');
  t.ok(pipeline.destinations.every(({ host, port }) => host === 'example.test' && port === destinationPort));
  t.equal(pipeline.destinations.length, cuts.length + 2);
});

t.test('addresses of each kind reach the pipeline as they are, unresolved', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t);
  const ipv6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  for (const address of [[192, 0, 2, 7], ipv6, 'Example.test', '[2001:db8::2]']) {
    const client = await TestClient.connect(t, port);
    client.send(Buffer.concat([greeting, login(ACCOUNT, PASSWORD), request(address, destinationPort)]));
    t.same((await client.bytes(14)).subarray(4), OK);
  }
  t.same(
    pipeline.destinations.map(({ host }) => host),
    ['192.0.2.7', '2001:db8::1', 'Example.test', '2001:db8::2'],
  );
  t.match(pipeline.logins[0], { username: ACCOUNT, password: PASSWORD, clientAddress: '127.0.0.1' });
});

t.test('the answer waits for the dial', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t);
  let dialled = () => {};
  pipeline.gate = new Promise((resolve) => {
    dialled = resolve;
  });
  const client = await TestClient.connect(t, port);
  client.send(Buffer.concat([greeting, login(ACCOUNT, PASSWORD), request('a.test', destinationPort)]));
  await eventually(() => pipeline.destinations.length === 1);
  await client.bytes(4); // what was said before may still be on its way
  t.equal(client.received.length, 4, 'method and login only');
  dialled();
  t.same((await client.bytes(14)).subarray(4), OK);
});

t.test('half-close: what the client sent before its end arrives, and the answer comes back', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.socket.end(
    Buffer.concat([
      greeting,
      login(ACCOUNT, PASSWORD),
      request('a.test', destinationPort),
      Buffer.from('all I have'),
    ]),
  );
  t.equal((await client.end()).subarray(14).toString(), 'all I have');
});

t.test('a refusal of the login has its status, of the request its reply', async (t) => {
  const { port, pipeline } = await startListener(t);
  for (const [code, row] of Object.entries(proxyErrors)) {
    const early = await TestClient.connect(t, port);
    early.send(Buffer.concat([greeting, login(ACCOUNT, code), request('a.test', 80)]));
    const expected =
      row.socksAuthStatus === null
        ? [5, 2, 1, 0, 5, row.socksReply, 0, 1, 0, 0, 0, 0, 0, 0]
        : [5, 2, 1, row.socksAuthStatus];
    t.same(await early.end(), Buffer.from(expected), `${code} at the login`);

    const late = await TestClient.connect(t, port);
    late.send(Buffer.concat([greeting, login(ACCOUNT, PASSWORD), request(`${code}.fail`, 80)]));
    t.same(
      await late.end(),
      Buffer.from([5, 2, 1, 0, 5, row.socksReply, 0, 1, 0, 0, 0, 0, 0, 0]),
      `${code} at the request`,
    );
  }
  const bad = await TestClient.connect(t, port);
  bad.send(Buffer.concat([greeting, login(`${ACCOUNT}-cuontry-us`, PASSWORD)]));
  t.same(await bad.end(), Buffer.from([5, 2, 1, 4]), 'BAD_PARAM of a real username');
  t.equal(pipeline.streams.size, 0);
});

t.test('malformed and unsupported requests are refused in the protocol', async (t) => {
  const { port, pipeline } = await startListener(t);
  const session = Buffer.concat([greeting, login(ACCOUNT, PASSWORD)]);
  const loggedIn = (more: number[] | Buffer) => Buffer.concat([session, Buffer.from(more)]);
  const reply = (code: number) => Buffer.from([5, 2, 1, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
  const cases: Array<[string, Buffer, Buffer]> = [
    ['no methods', Buffer.from([5, 0]), Buffer.from([5, 0xff])],
    ['only GSSAPI', Buffer.from([5, 1, 1]), Buffer.from([5, 0xff])],
    ['no password, address not allowlisted', Buffer.from([5, 1, 0]), Buffer.from([5, 0xff])],
    ['wrong login version', Buffer.concat([greeting, Buffer.from([5, 1, 97])]), Buffer.from([5, 2, 1, 1])],
    [
      'login is not UTF-8',
      Buffer.concat([greeting, Buffer.from([1, 2, 0xff, 0xfe, 1, 97])]),
      Buffer.from([5, 2, 1, 1]),
    ],
    ['empty password', Buffer.concat([greeting, login(ACCOUNT, '')]), Buffer.from([5, 2, 1, 1])],
    ['wrong request version', loggedIn([4, 1, 0, 1]), reply(1)],
    ['BIND', loggedIn(request('a.test', 80, 2)), reply(7)],
    ['UDP ASSOCIATE', loggedIn(request([0, 0, 0, 0], 0, 3)), reply(7)],
    ['unknown command', loggedIn(request('a.test', 80, 9)), reply(7)],
    ['unknown address type', loggedIn([5, 1, 0, 9, 1, 2, 3, 4]), reply(8)],
    ['empty name', loggedIn([5, 1, 0, 3, 0, 0, 80]), reply(1)],
    ['name with a NUL', loggedIn(request('a\0b', 80)), reply(1)],
    ['the pipeline throws', loggedIn(request('throws.test', 80)), reply(1)],
  ];
  for (const [what, sent, answer] of cases) {
    const client = await TestClient.connect(t, port);
    client.send(sent);
    t.same(await client.end(), answer, what);
  }
  t.equal(pipeline.logins.find((one) => one.username === '')?.password, null);
});

t.test('password is preferred over no password; an allowlisted address needs none', async (t) => {
  const destinationPort = await startEchoServer(t);
  class Allowlisting extends FakePipeline {
    override authenticate(credentials: Parameters<FakePipeline['authenticate']>[0]) {
      return super.authenticate(
        credentials.password === null
          ? { ...credentials, username: ACCOUNT, password: PASSWORD }
          : credentials,
      );
    }
  }
  const { port } = await startListener(t, { pipeline: new Allowlisting() });
  const both = await TestClient.connect(t, port);
  both.send(Buffer.from([5, 2, 0, 2]));
  t.same(await both.bytes(2), Buffer.from([5, 2]));
  const none = await TestClient.connect(t, port);
  none.send(Buffer.concat([Buffer.from([5, 1, 0]), request('a.test', destinationPort), Buffer.from('hi')]));
  t.same(await none.bytes(14), Buffer.concat([Buffer.from([5, 0]), OK, Buffer.from('hi')]));
});

t.test('a client that leaves while its destination is dialled gives the stream up', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline, listener } = await startListener(t);
  let dialled = () => {};
  pipeline.gate = new Promise((resolve) => {
    dialled = resolve;
  });
  const client = await TestClient.connect(t, port);
  client.send(Buffer.concat([greeting, login(ACCOUNT, PASSWORD), request('a.test', destinationPort)]));
  await eventually(() => pipeline.destinations.length === 1);
  client.socket.resetAndDestroy();
  await eventually(() => listener.connectionCount === 0);
  dialled();
  await eventually(() => pipeline.abandoned > 0);
  t.equal(pipeline.heads.length, 0, 'nothing was relayed');
});
