import t from 'tap';
import { HostSet, normalHostPattern } from '../../../gateway/runtime/host-set.js';

t.test('entries have one form', async (t) => {
  for (const [text, normal] of [
    ['Example.COM', 'example.com'],
    ['example.com.', 'example.com'],
    ['.Example.com', '.example.com'],
    ['*.example.com', '.example.com'],
    ['.com', '.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['.ПРИМЕР.example', '.xn--e1afmkfd.example'],
    ['192.0.2.1', '192.0.2.1'],
    ['0xC0.0.2.1', '192.0.2.1'],
    ['192.0.2.0/24', '192.0.2.0/24'],
    ['2001:DB8::/32', '2001:DB8::/32'],
    ['2001:DB8:0:0::1', '2001:db8::1'],
  ] as const)
    t.equal(normalHostPattern(text), normal, text);
  for (const bad of [
    '',
    '.',
    '*',
    '*.',
    '..a.example',
    'a..example',
    'http://a.example',
    'a.example/24',
    'a.example:443',
    'a.*.example',
    '*a.example',
    '.192.0.2.1',
    '192.0.2.0/33',
    '::1/129',
    '300.1.1.1',
    'a b.example',
    `${'a'.repeat(64)}.example`,
    'fe80::1%eth0',
  ])
    t.equal(normalHostPattern(bad), null, JSON.stringify(bad));
});

t.test('what is in a set', async (t) => {
  const set = new HostSet(['a.example', '.b.example', '192.0.2.0/24', '2001:db8::/32', 'no host!']);
  for (const name of ['a.example', 'b.example', 'x.b.example', 'x.y.b.example'])
    t.ok(set.hasName(name), name);
  for (const name of ['x.a.example', 'xb.example', 'example', 'b.example.org'])
    t.notOk(set.hasName(name), name);
  for (const address of ['192.0.2.7', '2001:db8::7', '::ffff:c000:207', '64:ff9b::c000:207'])
    t.ok(set.hasAddress(address), address);
  for (const address of ['192.0.3.7', '2001:db9::7', '64:ff9b::c000:307'])
    t.notOk(set.hasAddress(address), address);
  t.notOk(new HostSet(['a.example']).hasAddress('64:ff9b::c000:207'));
});
