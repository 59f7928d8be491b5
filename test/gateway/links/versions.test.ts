/** Gateways of other versions on a link: what was frozen of version 1, peers that are built from it, and anything at all. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { encodeDatagram } from '../../../agent-protocol/datagram.js';
import { DialCode, LINK_VERSIONS, ResetCode } from '../../../agent-protocol/frame.js';
import type { MuxStream } from '../../../agent-protocol/stream.js';
import { type Asked, Asking } from '../../../gateway/links/ask.js';
import { ClientOnLink } from '../../../gateway/links/linked-association.js';
import {
  ANSWER_BYTES_MAX,
  ANSWER_HEAD,
  decodeConnectAnswer,
  decodeEchoAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type LinkRequest,
  networkOf,
  versionOf,
} from '../../../gateway/links/messages.js';
import { DatagramTotals } from '../../../gateway/relay/datagram-totals.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';

interface Vector {
  name: string;
  text: string;
  message: object;
}
const v1 = JSON.parse(readFileSync(projectPath('test/gateway/links/vectors-v1.json'), 'utf8')) as {
  requests: Vector[];
  answers: Array<Vector & { to: 'connect' | 'echo' }>;
};

t.test('version 1 is read, and written, as it was', async (t) => {
  for (const version of LINK_VERSIONS)
    for (const { name, text, message } of v1.requests) {
      t.same(decodeRequest(text, version), message, `${name} on a link of version ${version}`);
      t.equal(encodeRequest(message as LinkRequest), text);
      t.equal(versionOf(message as LinkRequest), 1);
      t.equal(networkOf(message as LinkRequest), 'tcp');
    }
  for (const { name, to, text, message } of v1.answers) {
    t.same(to === 'echo' ? decodeEchoAnswer(text) : decodeConnectAnswer(text), message, name);
    t.equal(encodeAnswer(message as { ok: true }).toString(), `${text}\n`);
  }
});

/** Any request that can be asked. */
const request: fc.Arbitrary<LinkRequest> = fc.record(
  {
    asks: fc.oneof(
      fc.record({ connect: fc.record({ host: fc.string(), port: fc.integer({ min: 1, max: 65_535 }) }) }),
      fc.constant({ echo: true } as const),
      fc.constant({ associate: true } as const),
    ),
    login: fc.record({
      username: fc.string({ unit: 'binary' }),
      password: fc.option(fc.string()),
      clientAddress: fc.oneof(fc.ipV4(), fc.ipV6()),
    }),
    devicesLeft: fc.nat(3),
    stays: fc.boolean(),
    exact: fc.boolean(),
  },
  { requiredKeys: ['asks', 'login'] },
);

t.test(
  'every request is read as it was asked; what no version knows is refused, and nothing throws',
  async (t) => {
    fc.assert(
      fc.property(request, fc.dictionary(fc.string({ minLength: 12 }), fc.jsonValue()), (asked, later) => {
        const read = decodeRequest(JSON.stringify({ ...later, ...asked }), 2);
        t.match(read, JSON.parse(JSON.stringify(asked)));
        return (decodeRequest(encodeRequest(asked), 1) === null) === 'associate' in asked.asks;
      }),
    );
    fc.assert(
      fc.property(request, fc.jsonValue(), fc.string(), ({ login }, value, key) => {
        if (['connect', 'echo', 'associate'].includes(key)) return true;
        return [{ [key]: value }, value, { associate: value === true ? 1 : value }].every(
          (asks) => decodeRequest(JSON.stringify({ asks, login }), 2) === null,
        );
      }),
    );
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        for (const read of [decodeConnectAnswer(text), decodeEchoAnswer(text)])
          if (read !== null && typeof read.ok !== 'boolean') return false;
        return true;
      }),
    );
  },
);

/** A stream that is asked on, and what comes of it. */
function asking() {
  const resets: number[] = [];
  const answers: Asked[] = [];
  const stream = { reset: (code: number) => resets.push(code), handler: null } as unknown as MuxStream;
  const handler = new Asking(
    (asked) => answers.push(asked),
    60_000,
    () => stream,
  );
  return { stream, handler, resets, answers };
}

t.test('the answer of an association is one datagram from nowhere; anything else is none', async (t) => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6()),
      fc.integer({ min: 1, max: 65_535 }),
      fc.uint8Array(),
      (host, port, bytes) => {
        const { stream, handler, resets, answers } = asking();
        handler.onOpened(stream, DialCode.OK);
        handler.onDatagram(stream, encodeDatagram({ host, port, bytes: Buffer.from(bytes) }));
        if (host === '0.0.0.0' && port === 1) return answers[0]?.ok === true;
        return resets[0] === ResetCode.INTERNAL && answers[0]?.ok === false && answers.length === 1;
      },
    ),
  );
  const whole = asking();
  whole.handler.onOpened(whole.stream, DialCode.OK);
  whole.handler.onDatagram(whole.stream, Buffer.concat([ANSWER_HEAD, encodeAnswer({ ok: true })]));
  t.match(whole.answers, [{ ok: true, line: '{"ok":true}\n' }]);
  const long = asking();
  long.handler.onOpened(long.stream, DialCode.OK);
  long.handler.onDatagram(long.stream, Buffer.concat([ANSWER_HEAD, Buffer.alloc(ANSWER_BYTES_MAX + 1)]));
  t.match(long.answers, [{ ok: false, why: 'lost' }], 'longer than an answer may be');
  const old = asking();
  old.handler.onOpened(old.stream, DialCode.UNSUPPORTED);
  t.match(old.answers, [{ ok: false, why: 'unspoken' }], 'an older gateway says that it does not know it');
});

t.test('datagrams of another gateway: only hosts that are hosts get as far as the policy', async (t) => {
  const totals = new DatagramTotals();
  const passed: string[] = [];
  const side = new ClientOnLink({ state: 'open', handler: null } as unknown as MuxStream, totals);
  side.start({
    ok: true,
    exit: { id: 'x', country: 'US', session: null },
    start: () => ({ send: (host) => void passed.push(host), close: () => {} }),
    abandon: () => {},
  });
  const host = fc.oneof(
    fc.domain(),
    fc.ipV4(),
    fc.ipV6(),
    fc.string({ minLength: 1, maxLength: 60, unit: 'binary' }),
  );
  let sent = 0;
  fc.assert(
    fc.property(host, fc.integer({ min: 1, max: 65_535 }), fc.uint8Array(), (host, port, bytes) => {
      side.onDatagram(
        null as unknown as MuxStream,
        encodeDatagram({ host, port, bytes: Buffer.from(bytes) }),
      );
      sent++;
      return passed.length + totals.dropped.malformed === sent;
    }),
  );
  t.ok(passed.length > 0 && totals.dropped.malformed > 0);
  for (const host of passed) t.match(host, /^[A-Za-z0-9._:-]{1,255}$/);
});
