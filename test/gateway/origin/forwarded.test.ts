import fc from 'fast-check';
import t from 'tap';
import { AddressSet, isCidr, plainAddress } from '../../../gateway/runtime/addresses.js';
import { forwardedAddress } from '../../../gateway/runtime/origin/forwarded.js';

const trusted = new AddressSet(['10.0.0.0/8', '127.0.0.1', 'fd00::/8']);

t.test('whose address counts', async (t) => {
  for (const [remote, header, expected] of [
    // not a trusted peer: the header is anybody's word
    ['203.0.114.9', '1.1.1.1', '203.0.114.9'],
    ['203.0.114.9', undefined, '203.0.114.9'],
    ['::ffff:203.0.114.9', '1.1.1.1', '203.0.114.9'],
    // one trusted proxy
    ['127.0.0.1', '1.1.1.1', '1.1.1.1'],
    ['::ffff:127.0.0.1', '1.1.1.1', '1.1.1.1'],
    ['::ffff:7f00:1', '1.1.1.1', '1.1.1.1'],
    ['127.0.0.1', undefined, '127.0.0.1'],
    ['127.0.0.1', '', '127.0.0.1'],
    ['127.0.0.1', '   ', '127.0.0.1'],
    // only the right-most hop that is not ours is believed
    ['127.0.0.1', '6.6.6.6, 1.1.1.1', '1.1.1.1'],
    ['127.0.0.1', '6.6.6.6,1.1.1.1,10.1.2.3', '1.1.1.1'],
    ['127.0.0.1', '10.0.0.1, 10.0.0.2', '10.0.0.1'],
    ['fd00::1', '2001:DB8::0001', '2001:db8::1'],
    ['127.0.0.1', ['6.6.6.6', '1.1.1.1'], '1.1.1.1'],
    // ports and forms
    ['127.0.0.1', '1.1.1.1:4711', '1.1.1.1'],
    ['127.0.0.1', '[2001:db8::1]:4711', '2001:db8::1'],
    ['127.0.0.1', '[2001:db8::1]', '2001:db8::1'],
    ['127.0.0.1', '::ffff:1.1.1.1', '1.1.1.1'],
    // garbage ends the walk at the last hop that is known
    ['127.0.0.1', '1.1.1.1, unknown', '127.0.0.1'],
    ['127.0.0.1', '1.1.1.1, unknown, 10.0.0.2', '10.0.0.2'],
    ['127.0.0.1', '1.1.1.1,', '127.0.0.1'],
    ['127.0.0.1', '"1.1.1.1"', '127.0.0.1'],
    ['127.0.0.1', '1.1.1.1:port', '127.0.0.1'],
    ['127.0.0.1', '0x01010101', '127.0.0.1'],
    ['127.0.0.1', '1.1.1.1/8', '127.0.0.1'],
    ['127.0.0.1', 'for=1.1.1.1', '127.0.0.1'],
    ['127.0.0.1', ','.repeat(5_000), '127.0.0.1'],
    [undefined, '1.1.1.1', null],
    ['', '1.1.1.1', null],
  ] as const)
    t.equal(forwardedAddress(remote, header, trusted), expected, `${remote} ${String(header).slice(0, 40)}`);
});

t.test('whatever the header says, an untrusted peer is itself', async (t) => {
  fc.assert(
    fc.property(fc.ipV4(), fc.string(), (peer, header) => {
      const address = plainAddress(peer) as string;
      if (!trusted.has(address)) t.equal(forwardedAddress(peer, header, trusted), address);
    }),
    { numRuns: 200 },
  );
});

t.test('what a hop on the left claims never changes the answer', async (t) => {
  fc.assert(
    fc.property(fc.string(), fc.ipV4(), (claim, client) => {
      const honest = forwardedAddress('127.0.0.1', client, trusted);
      if (trusted.has(client)) return; // then the walk goes on to the left
      t.equal(forwardedAddress('127.0.0.1', `${claim},${client}`, trusted), honest);
    }),
    { numRuns: 200 },
  );
});

t.test('one form for each address', async (t) => {
  for (const [text, expected] of [
    ['1.2.3.4', '1.2.3.4'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['::FFFF:102:304', '1.2.3.4'],
    ['0:0:0:0:0:ffff:1.2.3.4', '1.2.3.4'],
    ['::ffff:0:1', '0.0.0.1'],
    ['2001:0DB8:0:0::1', '2001:db8::1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['::', '::'],
    ['01.2.3.4', null],
    ['1.2.3', null],
    ['localhost', null],
    ['', null],
    ['%', null],
  ] as const)
    t.equal(plainAddress(text), expected, text);
});

t.test('networks hold exactly their addresses', async (t) => {
  const set = new AddressSet([
    '10.1.2.3/8',
    '0.0.0.0/32',
    '::ffff:192.0.2.0/120',
    '2001:db8::/33',
    '::/128',
    'rubbish',
  ]);
  t.equal(set.size, 5);
  for (const inside of ['10.0.0.0', '10.255.255.255', '0.0.0.0', '192.0.2.255', '2001:db8:7fff::1', '::'])
    t.ok(set.has(inside), inside);
  for (const outside of [
    '9.255.255.255',
    '11.0.0.0',
    '0.0.0.1',
    '192.0.3.0',
    '2001:db8:8000::',
    '::1',
    'x',
    '',
  ])
    t.notOk(set.has(outside), outside);
  const everything = new AddressSet(['0.0.0.0/0', '::/0']);
  for (const any of ['255.255.255.255', '0.0.0.0', 'ffff::', '::']) t.ok(everything.has(any), any);
  for (const bad of [
    '1.2.3.4/',
    '1.2.3.4/33',
    '1.2.3.4/-1',
    '1.2.3.4/8/8',
    '::/129',
    'fe80::1%eth0',
    '::ffff:1.2.3.4/64',
    '',
  ]) {
    t.notOk(isCidr(bad), bad);
    t.notOk(new AddressSet([bad]).add(bad, ''), bad);
  }
});

t.test('agrees with arithmetic on any IPv4 network', async (t) => {
  const number = (a: string) => a.split('.').reduce((n, part) => n * 256 + Number(part), 0);
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), fc.ipV4(), (network, length, address) => {
      const size = 2 ** (32 - length);
      const expected = Math.floor(number(network) / size) === Math.floor(number(address) / size);
      t.equal(new AddressSet([`${network}/${length}`]).has(address), expected);
    }),
    { numRuns: 300 },
  );
});
