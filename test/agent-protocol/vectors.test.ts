import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import {
  type Decoded,
  decodeDrain,
  decodeGoaway,
  decodeHello,
  decodeOpen,
  decodeStatus,
  decodeWelcome,
  encodeControl,
} from '../../agent-protocol/control.js';
import { decodeDatagram, encodeDatagram } from '../../agent-protocol/datagram.js';
import { encodeFrame, FrameType, frameRules, SUBPROTOCOL } from '../../agent-protocol/frame.js';
import { FrameReader } from '../../agent-protocol/frame-reader.js';
import type { MuxSession } from '../../agent-protocol/session.js';
import { connectTunnel } from '../../agent-protocol/websocket.js';
import { WebSocketReader, writeMessageHeader } from '../../agent-protocol/websocket-frames.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { muxFrame, readFrames, writeFrame } from './helpers/naive-websocket.js';
import { hello, serveTunnels, Watched, welcome } from './helpers/tunnel.js';
import { connectPeer, servePeer } from './helpers/wire-peer.js';

interface Frame {
  name: string;
  type: keyof typeof FrameType;
  stream_id: number;
  message?: Record<string, unknown>;
  payload_hex?: string;
  datagram?: { host: string; port: number; bytes_hex: string };
  frame_hex: string;
  from_gateway_hex: string;
  from_agent_zero_mask_hex: string;
  from_agent_masked_hex: string;
}
/** `open`, `udp`: stream 1 is open, of network tcp or udp. */
type State = 'greeting' | 'open' | 'udp';
type Event = Record<string, string | number>;
interface Vectors {
  subprotocol: string;
  frames: Frame[];
  alternatives: Frame[];
  reading: Array<{ name: string; reader: 'gateway' | 'agent'; hex: string; events: Event[] }>;
  malformed: Array<{
    name: string;
    reader: 'gateway' | 'agent';
    state: State;
    hex: string;
    close_code: number;
  }>;
}

/** Those beside SPEC.md, and those of each version before, as they were when it was the newest. */
const FILES: ReadonlyArray<readonly [name: string, path: string]> = [
  ['now', 'agent-protocol/vectors.json'],
  ['version 1', 'test/agent-protocol/vectors-v1.json'],
];

const decoders: Partial<Record<keyof typeof FrameType, (payload: Buffer) => Decoded<object>>> = {
  HELLO: decodeHello,
  WELCOME: decodeWelcome,
  STATUS: decodeStatus,
  OPEN: decodeOpen,
  DRAIN: decodeDrain,
  GOAWAY: decodeGoaway,
};

/** Reads WebSocket bytes with the project's own readers and lists what they tell. */
function eventsOf(bytes: Buffer, fromAgent: boolean): Event[] {
  const events: Event[] = [];
  const data: Array<{ streamId: number; bytes: Buffer }> = [];
  const frames = new FrameReader({
    onDataBytes: (streamId, buffer, start, end) =>
      data.push({ streamId, bytes: Buffer.from(buffer.subarray(start, end)) }),
    onFrame: (type, streamId, payload) =>
      events.push({
        event: 'frame',
        type: frameRules[type]?.name as string,
        stream_id: streamId,
        payload_hex: payload.toString('hex'),
      }),
    onFrameFault: (reason) => events.push({ event: 'fault', reason }),
  });
  const reader = new WebSocketReader(
    {
      onMessageBytes: (buffer, start, end, last) => {
        frames.read(buffer, start, end, last);
        if (!last || data.length === 0) return;
        const whole = Buffer.concat(data.map((piece) => piece.bytes)).toString('hex');
        events.push({ event: 'data', stream_id: data[0]?.streamId as number, bytes_hex: whole });
        data.length = 0;
      },
      onWebSocketPing: (payload) => events.push({ event: 'ping', payload_hex: payload.toString('hex') }),
      onWebSocketClose: (code, reason) => events.push({ event: 'close', code, reason }),
      onWebSocketFault: (closeCode, reason) => events.push({ event: 'fault', closeCode, reason }),
    },
    fromAgent,
  );
  for (const byte of bytes) reader.read(Buffer.of(byte), 0, 1);
  return events;
}

/** A session in the state the vector names. */
async function sessionOf(t: Test, reader: 'gateway' | 'agent', state: State) {
  const network = state === 'udp' ? 'udp' : 'tcp';
  if (reader === 'gateway') {
    const handler = new Watched({ onHello: (session) => session.welcome(welcome()) });
    const { port, sessions } = await serveTunnels(t, () => handler);
    const peer = await connectPeer(t, port);
    if (state === 'greeting') return { handler, peer };
    peer.sendFrame(FrameType.HELLO, 0, encodeControl(hello));
    await peer.until((frames) => frames.length >= 2);
    await new Promise<void>((resolve) => {
      (sessions[0] as MuxSession).open(
        { host: 'example.com', port: 80, network },
        {
          onOpened: () => resolve(),
          onData: () => {},
          onFin: () => {},
          onReset: () => {},
          onWritable: () => {},
        },
      );
      peer.sendFrame(FrameType.OPENED, 1, Buffer.of(0));
    });
    return { handler, peer };
  }
  const { url, peer: accepted } = await servePeer(t);
  let isOpen!: () => void;
  const open = new Promise<void>((resolve) => {
    isOpen = resolve;
  });
  const handler = new Watched({
    onOpen: (_session, stream) => {
      if (stream.id === 1) stream.opened(0);
      isOpen();
    },
  });
  const session = await connectTunnel({ url, ticket: 't' }, handler);
  t.teardown(() => session.destroy());
  session.hello(hello);
  const peer = await accepted;
  if (state === 'greeting') return { handler, peer };
  peer.sendFrame(FrameType.WELCOME, 0, encodeControl(welcome()));
  peer.sendFrame(FrameType.OPEN, 1, encodeControl({ host: 'example.com', port: 80, network }));
  await open;
  return { handler, peer };
}

for (const [of, path] of FILES) {
  const vectors = JSON.parse(readFileSync(projectPath(path), 'utf8')) as Vectors;

  t.test(`${of}: the vectors cover every frame type`, async (t) => {
    t.equal(vectors.subprotocol, SUBPROTOCOL);
    t.same(new Set(vectors.frames.map(({ type }) => type)), new Set(Object.keys(FrameType)));
  });

  for (const vector of vectors.frames) {
    t.test(`${of}: ${vector.name}`, async (t) => {
      const frame = Buffer.from(vector.frame_hex, 'hex');
      const { type, streamId, payload } = muxFrame(frame);
      t.equal(type, FrameType[vector.type]);
      t.equal(streamId, vector.stream_id);
      if (vector.message) {
        t.same(decoders[vector.type]?.(payload), { ok: true, message: vector.message }, 'decodes');
        t.ok(encodeFrame(type, streamId, encodeControl(vector.message as never)).equals(frame), 'encodes');
      } else t.equal(payload.toString('hex'), vector.payload_hex);
      if (vector.datagram) {
        const { host, port, bytes_hex } = vector.datagram;
        const datagram = { host, port, bytes: Buffer.from(bytes_hex, 'hex') };
        t.same(decodeDatagram(payload), datagram);
        t.ok(encodeDatagram(datagram).equals(payload));
      }

      const event =
        vector.type === 'DATA'
          ? { event: 'data', stream_id: streamId, bytes_hex: payload.toString('hex') }
          : { event: 'frame', type: vector.type, stream_id: streamId, payload_hex: payload.toString('hex') };
      for (const key of ['from_gateway_hex', 'from_agent_zero_mask_hex', 'from_agent_masked_hex'] as const) {
        const message = Buffer.from(vector[key], 'hex');
        t.same(eventsOf(message, key !== 'from_gateway_hex'), [event], key);
        t.ok(readFrames(message).frames[0]?.payload.equals(frame), `${key}, read the naive way`);
      }
      for (const masked of [false, true]) {
        const buffer = Buffer.concat([Buffer.alloc(14), frame]);
        const written = buffer.subarray(writeMessageHeader(buffer, 14, frame.length, masked));
        t.equal(written.toString('hex'), masked ? vector.from_agent_zero_mask_hex : vector.from_gateway_hex);
      }
      const key = Buffer.from('37fa213d', 'hex');
      const written = writeFrame({ final: true, opcode: 2, payload: frame }, key);
      t.equal(written.toString('hex'), vector.from_agent_masked_hex);
    });
  }

  for (const vector of vectors.alternatives) {
    t.test(`${of}, also read: ${vector.name}`, async (t) => {
      const { payload } = muxFrame(Buffer.from(vector.frame_hex, 'hex'));
      t.same(decoders[vector.type]?.(payload), { ok: true, message: vector.message });
    });
  }

  for (const { name, reader, hex, events } of vectors.reading) {
    t.test(`${of}, reading: ${name}`, async (t) => {
      t.same(eventsOf(Buffer.from(hex, 'hex'), reader === 'gateway'), events);
    });
  }

  t.test(`${of}: malformed`, async (t) => {
    for (const { name, reader, state, hex, close_code } of vectors.malformed) {
      const { handler, peer } = await sessionOf(t, reader, state);
      peer.send(Buffer.from(hex, 'hex'));
      t.match(await handler.closed, { code: 'protocol_error', byPeer: false }, `${reader}: ${name}`);
      await peer.ended;
      const [goaway, close] = peer.frames.slice(-2);
      const decoded = decodeGoaway(muxFrame(goaway?.payload as Buffer).payload);
      t.match(decoded, { ok: true, message: { code: 'protocol_error' } });
      t.equal(close?.payload.readUInt16BE(0), close_code, `close code ${close_code}`);
    }
  });
}
