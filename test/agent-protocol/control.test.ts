import fc from 'fast-check';
import { Packr } from 'msgpackr';
import t from 'tap';
import {
  decodeHello,
  decodeOpen,
  decodeStatus,
  decodeWelcome,
  encodeControl,
} from '../../agent-protocol/control.js';
import { decodeDatagram, encodeDatagram } from '../../agent-protocol/datagram.js';
import { isPlainMsgpack } from '../../agent-protocol/msgpack-scan.js';
import { hello, welcome } from './helpers/tunnel.js';

t.test('what is encoded decodes to the same', async (t) => {
  t.same(decodeHello(encodeControl(hello)), { ok: true, message: hello });
  t.same(decodeHello(encodeControl({ ...hello, model: undefined })), { ok: true, message: hello });
  t.same(decodeWelcome(encodeControl(welcome())), { ok: true, message: welcome() });
  const bytes = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  fc.assert(
    fc.property(
      fc.record(
        {
          network: fc.constantFrom('wifi', 'mobile', 'ethernet', 'unknown'),
          battery_percent: fc.integer({ min: 0, max: 100 }),
          charging: fc.boolean(),
          paused: fc.boolean(),
          cap_bytes_left: bytes,
          bytes_up: bytes,
          bytes_down: bytes,
        },
        { requiredKeys: [] },
      ),
      (status) => t.same(decodeStatus(encodeControl(status as never)), { ok: true, message: { ...status } }),
    ),
  );
});

t.test('no bytes make a decoder throw, and random bytes are hardly ever a message', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const payload = Buffer.from(bytes);
      for (const decode of [decodeHello, decodeOpen, decodeWelcome]) {
        if (decode(payload).ok) throw new Error(payload.toString('hex'));
      }
    }),
    { numRuns: 2_000 },
  );
  const good = encodeControl({ host: 'example.com', port: 443, network: 'tcp' });
  for (let cut = 0; cut < good.length; cut++) t.notOk(decodeOpen(good.subarray(0, cut)).ok, `cut at ${cut}`);
});

t.test('plain msgpack: everything msgpackr writes for plain values, nothing of its extensions', async (t) => {
  const packr = new Packr({ useRecords: false });
  const plain = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 2 },
      fc.constantFrom(null, true, false),
      fc.maxSafeInteger(),
      fc.double({ noNaN: true }),
      fc.string({ maxLength: 300 }),
      fc.array(tie('value'), { maxLength: 20 }),
      fc.dictionary(fc.string({ maxLength: 40 }), tie('value'), { maxKeys: 20 }),
    ),
  })).value;
  fc.assert(
    fc.property(plain, (value) => {
      const bytes = packr.pack(value);
      if (!isPlainMsgpack(bytes)) throw new Error(`${JSON.stringify(value)} ${bytes.toString('hex')}`);
      if (isPlainMsgpack(Buffer.concat([bytes, Buffer.of(0xc0)]))) throw new Error('something behind it');
      if (bytes.length > 1 && isPlainMsgpack(bytes.subarray(0, -1))) throw new Error('cut short');
    }),
  );
  const hostile: Record<string, string> = {
    'array of 2^32-1 items': 'ddffffffff',
    'array of 65535 items in 3 bytes': 'dcffff',
    'map of 2^32-1 pairs': 'dfffffffff',
    'text of 2^32-1 bytes': 'dbffffffff',
    'text of 255 bytes in 2': 'd9ff',
    binary: 'c403010203',
    'fixext 1': 'd40000',
    'ext 8': 'c7010100',
    'ext 32': 'c9ffffffff01',
    'never used': 'c1',
    nested: '9191919191919191c0',
    'number as key': '810102',
    'map as key': '818080',
    nothing: '',
  };
  for (const [name, hex] of Object.entries(hostile)) t.notOk(isPlainMsgpack(Buffer.from(hex, 'hex')), name);
  const extended = new Packr({ moreTypes: true, useRecords: false });
  for (const value of [new Set([1]), /x/, new Error('x'), new Map([[1, 2]]), new Uint8Array(3), new Date()])
    t.notOk(isPlainMsgpack(extended.pack({ value })), String(value));
});

t.test('keys of prototypes are keys like any other', async (t) => {
  const payload = Buffer.concat([
    Buffer.of(0x81, 0xa9),
    Buffer.from('__proto__'),
    Buffer.from('81a670617573656401', 'hex'),
  ]);
  const decoded = decodeStatus(payload);
  t.same(decoded, { ok: true, message: {} });
  t.equal(({} as { paused?: unknown }).paused, undefined);
});

t.test('datagrams', async (t) => {
  const host = fc.oneof(
    fc.ipV4(),
    fc.domain().filter((name) => name.length <= 255),
  );
  fc.assert(
    fc.property(
      host,
      fc.integer({ min: 1, max: 65_535 }),
      fc.uint8Array({ maxLength: 50 }),
      (name, port, bytes) => {
        const datagram = { host: name, port, bytes: Buffer.from(bytes) };
        t.same(decodeDatagram(encodeDatagram(datagram)), datagram);
      },
    ),
  );
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      const once = decodeDatagram(encodeDatagram({ host: address, port: 1, bytes: Buffer.alloc(0) }));
      const twice = decodeDatagram(
        encodeDatagram({ host: once?.host as string, port: 1, bytes: Buffer.alloc(0) }),
      );
      t.same(twice, once, 'one form for one address');
      t.equal(new URL(`http://[${address}]`).hostname, new URL(`http://[${once?.host}]`).hostname);
    }),
  );
  for (const hex of [
    '',
    '01',
    '02c6336407003500',
    '01c633640700',
    '01c63364070000',
    '0300',
    '030561',
    '0300003500',
    '04',
  ])
    t.equal(decodeDatagram(Buffer.from(hex, 'hex')), null, hex);
  t.throws(() => encodeDatagram({ host: 'a'.repeat(256), port: 1, bytes: Buffer.alloc(0) }), RangeError);
  t.throws(() => encodeDatagram({ host: 'a', port: 0, bytes: Buffer.alloc(0) }), RangeError);
});
