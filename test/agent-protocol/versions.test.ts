/**
 * Peers of other versions on the wire. Version 2 is the test's own: a peer that offers it, and says more than version 1
 * knows. What it says as version 1 is what was frozen of that version.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { pack, unpack } from 'msgpackr';
import t, { type Test } from 'tap';
import { startAgent } from '../../agent-protocol/agent/agent.js';
import { agentConfig } from '../../agent-protocol/agent/config.js';
import type { Goaway } from '../../agent-protocol/control.js';
import { DialCode, FrameType, WIRE_VERSIONS } from '../../agent-protocol/frame.js';
import type { CloseReason, MuxSession } from '../../agent-protocol/session.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { newestCommon, noCommonVersion } from '../../agent-protocol/versions.js';
import { connectTunnel } from '../../agent-protocol/websocket.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { muxFrame } from './helpers/naive-websocket.js';
import { hello, serveTunnels, Watched, welcome } from './helpers/tunnel.js';
import { connectPeer, servePeer, type WirePeer } from './helpers/wire-peer.js';

/** Of each version that was, what its vectors hashed to when it was frozen: they are never written again. */
const FROZEN = {
  'test/agent-protocol/vectors-v1.json': '5ba1209b816ece7c061447ea2ca0bbf96f2231e588f02dfa08970c9190c0c00b',
  'test/gateway/links/vectors-v1.json': '3ceb3ffd77978d7e585c60c6ca89eb2beb15feaa17e5397a4611a7b0d4b98180',
};

t.test('vectors of versions that were are as they were', async (t) => {
  for (const [path, sha256] of Object.entries(FROZEN)) {
    const text = readFileSync(projectPath(path));
    t.equal(createHash('sha256').update(text).digest('hex'), sha256, path);
  }
});

t.test('the highest common version, or none', async (t) => {
  const versions = fc.uniqueArray(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 16 });
  fc.assert(
    fc.property(versions, versions, (theirs, ours) => {
      const version = newestCommon(theirs, ours);
      const both = theirs.filter((one) => ours.includes(one));
      return version === null
        ? both.length === 0
        : both.includes(version) && both.every((one) => one <= version);
    }),
  );
  fc.assert(
    fc.property(versions, versions, (theirs, ours) => {
      if (newestCommon(theirs, ours) !== null) return true;
      const { code } = noCommonVersion('wire', theirs, ours);
      return code === (Math.max(...theirs) > Math.max(...ours) ? 'gateway_too_old' : 'client_too_old');
    }),
  );
  t.match(noCommonVersion('link', [], [1, 2]), { code: 'client_too_old', reason: /offered: none/ });
});

/** What comes of an agent that offers `offered` at a gateway that takes `taken`: the version at both ends, or GOAWAY. */
async function greet(t: Test, offered: number[], taken?: number[]): Promise<[number, number] | Goaway> {
  const gateway = new Watched({ onHello: (session) => session.welcome(welcome()) });
  const { url, sessions } = await serveTunnels(t, () => gateway, taken && { wireVersions: taken });
  let opened: () => void = () => {};
  const open = new Promise<null>((resolve) => {
    opened = () => resolve(null);
  });
  const agent = new Watched({ onWelcome: () => opened() });
  const session = await connectTunnel({ url, ticket: 't' }, agent);
  t.teardown(() => session.destroy());
  session.hello({ ...hello, versions: offered });
  const closed = await Promise.race([open, agent.closed]);
  if (closed === null) return [(sessions[0] as MuxSession).wireVersion, session.wireVersion];
  t.equal(closed.byPeer, true, 'the gateway says so');
  const { code, reason, reconnectAfterMs } = closed;
  return { code, reason, ...(reconnectAfterMs !== null && { reconnect_after_ms: reconnectAfterMs }) };
}

t.test('negotiation between agents and gateways of all ages', async (t) => {
  t.same(await greet(t, [1]), [1, 1], 'as old as each other');
  t.same(await greet(t, [1, 2]), [1, 1], 'a newer agent, a gateway of today');
  t.same(await greet(t, [2, 1, 9]), [1, 1], 'in any order');
  t.same(await greet(t, [1], [1, 2]), [1, 1], 'an agent of today, a newer gateway');
  t.same(await greet(t, [1, 2], [1, 2]), [2, 2], 'both newer');
  t.same(await greet(t, [1, 2], [2, 3]), [2, 2], 'ranges that overlap');
  t.match(await greet(t, [2, 3]), {
    code: 'gateway_too_old',
    reason: /^wire versions here: 1; offered: 2, 3; .*upgraded/,
    reconnect_after_ms: 30_000,
  });
  t.match(await greet(t, [1], [2, 3]), {
    code: 'client_too_old',
    reason: /^wire versions here: 2, 3; offered: 1; .*updated/,
    reconnect_after_ms: undefined,
  });
});

t.test(
  'the reference agent: too old it ends, at a gateway that is too old it looks for another one',
  async (t) => {
    const attempt = async (taken: number[]) => {
      const { url } = await serveTunnels(t, () => new Watched(), { wireVersions: taken });
      let waits: (waitMs: number) => void = () => {};
      const waiting = new Promise<number>((resolve) => {
        waits = resolve;
      });
      const agent = startAgent(
        agentConfig({ kind: 'direct', tunnelUrl: url, ticket: 't' }),
        (_level, event, fields) => {
          if (event === 'next attempt') waits(fields?.waitMs as number);
        },
      );
      t.teardown(() => agent.stop());
      return Promise.race([waiting, agent.ended]);
    };
    t.match(await attempt([2]), { exitCode: 2, code: 'client_too_old', text: /Update it/ });
    const waitMs = await attempt([0]);
    t.ok(typeof waitMs === 'number' && waitMs >= 30_000, `it comes back after ${waitMs} ms`);
  },
);

interface Frame {
  name: string;
  frame_hex: string;
}
const v1 = JSON.parse(readFileSync(projectPath('test/agent-protocol/vectors-v1.json'), 'utf8')) as {
  frames: Frame[];
};
/** A frame as version 1 wrote it. */
function recorded(name: string): { type: number; streamId: number; payload: Buffer } {
  const frame = v1.frames.find((frame) => frame.name === name);
  if (frame === undefined) throw new Error(`no vector "${name}"`);
  return muxFrame(Buffer.from(frame.frame_hex, 'hex'));
}
const say = (peer: WirePeer, name: string, streamId = recorded(name).streamId) =>
  peer.sendFrame(recorded(name).type, streamId, recorded(name).payload);
/** What a newer peer makes of a message: more keys, of any type. */
const newer = (name: string, more: object = {}) =>
  pack({
    ...(unpack(recorded(name).payload) as object),
    ...more,
    later: { of: ['any', 1.5, null, true] },
    more_at: null,
  });
const frameOf = (type: number) => (frame: { payload: Buffer }) => frame.payload[0] === type;

t.test('a recorded agent of version 1 is served', async (t) => {
  const handler = new Watched({ onHello: (session) => session.welcome(welcome()) });
  const statuses: object[] = [];
  handler.onStatus = (_session, status) => statuses.push(status);
  const { port, sessions } = await serveTunnels(t, () => handler);
  const peer = await connectPeer(t, port);
  say(peer, 'HELLO');
  await peer.until((frames) => frames.some(frameOf(FrameType.WELCOME)));
  const welcomed = muxFrame(peer.frames.find(frameOf(FrameType.WELCOME))?.payload as Buffer);
  t.match(unpack(welcomed.payload), { version: 1 }, 'and told so');
  const session = sessions[0] as MuxSession;
  const heard: string[] = [];
  let answered: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    answered = resolve;
  });
  const stream: MuxStream = session.open(
    { host: 'example.com', port: 443, network: 'tcp' },
    {
      onOpened: (_stream, code) => heard.push(`opened ${code}`),
      onData: (stream, buffer, start, end) => {
        heard.push(buffer.toString('latin1', start, end));
        stream.consumed(end - start);
        stream.send(Buffer.from('answer'), 0, 6, 0);
        stream.fin();
      },
      onFin: () => {
        heard.push('fin');
        answered();
      },
      onReset: (_stream, code) => heard.push(`reset ${code}`),
      onWritable: () => {},
    },
  );
  const open = await peer.until((frames) => frames.some(frameOf(FrameType.OPEN)));
  const asked = muxFrame(open.find(frameOf(FrameType.OPEN))?.payload as Buffer);
  t.same(asked, recorded('OPEN by name'), 'the same bytes as ever ask for it');
  say(peer, 'OPENED, ok', stream.id);
  say(peer, 'DATA', stream.id);
  say(peer, 'STATUS of a phone');
  say(peer, 'FIN', stream.id);
  await done;
  t.same(heard, ['opened 0', recorded('DATA').payload.toString('latin1'), 'fin']);
  t.equal(statuses.length, 1);
  const sent = (type: number) =>
    peer.frames.filter(frameOf(type)).map(({ payload }) => muxFrame(payload).payload.toString('latin1'));
  await peer.until((frames) => frames.some(frameOf(FrameType.FIN)));
  t.same(sent(FrameType.DATA), ['answer']);
  t.equal(session.state, 'open');
});

t.test('what a newer agent says beyond version 1 is ignored, at a gateway', async (t) => {
  const seen: object[] = [];
  const handler = new Watched({
    onHello: (session, message) => {
      seen.push(message);
      session.welcome(welcome());
    },
    onStatus: (_session, message) => seen.push(message),
  });
  const { port, sessions } = await serveTunnels(t, () => handler);
  const peer = await connectPeer(t, port);
  peer.sendFrame(FrameType.HELLO, 0, newer('HELLO', { versions: [1, 2] }));
  await peer.until((frames) => frames.some(frameOf(FrameType.WELCOME)));
  peer.sendFrame(FrameType.STATUS, 0, newer('STATUS of a phone'));
  const session = sessions[0] as MuxSession;
  const code = new Promise<number>((resolve) => {
    session.open(
      { host: 'example.com', port: 443, network: 'tcp' },
      {
        onOpened: (_stream, code) => resolve(code),
        onData: () => {},
        onFin: () => {},
        onReset: () => {},
        onWritable: () => {},
      },
    );
  });
  await peer.until((frames) => frames.some(frameOf(FrameType.OPEN)));
  peer.sendFrame(FrameType.OPENED, 1, Buffer.of(200));
  t.equal(await code, DialCode.INTERNAL, 'a dial code of the future');
  const known = (name: string, more: object = {}) => ({
    ...(unpack(recorded(name).payload) as object),
    ...more,
  });
  t.same(seen, [known('HELLO', { versions: [1, 2] }), known('STATUS of a phone')]);
  t.equal(session.state, 'open');
  peer.sendFrame(FrameType.GOAWAY, 0, newer('GOAWAY', { code: 'of_the_future' }));
  t.match(await handler.closed, { code: 'of_the_future', byPeer: true });
});

t.test('what a newer gateway says beyond version 1 is ignored, at an agent', async (t) => {
  const { url, peer: accepted } = await servePeer(t);
  const opened: string[] = [];
  let drained: (reason: string) => void = () => {};
  const drain = new Promise<string>((resolve) => {
    drained = resolve;
  });
  const handler = new Watched({
    onOpen: (_session, stream, open) => {
      opened.push(`${open.host} ${open.port} ${Object.keys(open).length}`);
      stream.opened(0);
    },
    onDrain: (_session, { reason }) => drained(reason),
  });
  const session = await connectTunnel({ url, ticket: 't' }, handler);
  t.teardown(() => session.destroy());
  session.hello(hello);
  const peer = await accepted;
  peer.sendFrame(FrameType.WELCOME, 0, newer('WELCOME'));
  peer.sendFrame(FrameType.OPEN, 1, newer('OPEN by name'));
  peer.sendFrame(FrameType.DRAIN, 0, newer('DRAIN'));
  t.ok((await drain).length > 0);
  t.same(opened, ['example.com 443 3']);
  peer.sendFrame(FrameType.RESET, 1, Buffer.of(200));
  peer.sendFrame(FrameType.PING, 0, Buffer.from('stillup!'));
  await peer.until((frames) => frames.some(({ payload }) => payload.includes('stillup!')));
  t.equal(session.streamCount, 0, 'a reset code of the future is a reset');
  t.equal(session.state, 'open');
});

t.test('a frame type that the version in use does not have ends the tunnel', async (t) => {
  const reasons: CloseReason[] = [];
  for (const type of [0, 15, 127, 255]) {
    const handler = new Watched({ onHello: (session) => session.welcome(welcome()) });
    const { port } = await serveTunnels(t, () => handler);
    const peer = await connectPeer(t, port);
    peer.sendFrame(FrameType.HELLO, 0, newer('HELLO', { versions: [1, 2] }));
    await peer.until((frames) => frames.some(frameOf(FrameType.WELCOME)));
    peer.sendFrame(type, 0, Buffer.from('of version 2'));
    reasons.push(await handler.closed);
    await peer.ended;
    t.equal(peer.frames.at(-1)?.payload.readUInt16BE(0), 1002);
  }
  for (const reason of reasons) t.match(reason, { code: 'protocol_error', byPeer: false });
});

t.test('every version that is spoken has its vectors', async (t) => {
  // Before another one is added to WIRE_VERSIONS: SPEC.md section 13.
  t.same(WIRE_VERSIONS, [1]);
});
