import { randomBytes } from 'node:crypto';
import t from 'tap';
import { isAddressOf } from '../../../control-plane/payouts/addresses.js';

t.test('TRON addresses carry a checksum', async (t) => {
  const good = 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t';
  t.ok(isAddressOf('TRON', good));
  for (let i = 0; i < good.length; i++) {
    const other = good[i] === '2' ? '3' : '2';
    t.notOk(isAddressOf('TRON', good.slice(0, i) + other + good.slice(i + 1)), `position ${i}`);
  }
  const swapped = good.replace('ZY', 'YZ');
  for (const bad of [swapped, ` ${good}`, `${good}\n`, good.toLowerCase(), good.slice(0, -1), `${good}t`, ''])
    t.notOk(isAddressOf('TRON', bad), JSON.stringify(bad));
  t.notOk(
    isAddressOf('TRON', '1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2'),
    'a Bitcoin address, with a good checksum',
  );
  t.notOk(isAddressOf('TRON', '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'));
});

t.test('EVM addresses: mixed case is a checksum (the vectors of EIP-55)', async (t) => {
  const good = [
    '0x52908400098527886E0F7030069857D2E4169EE7',
    '0x8617E340B3D01FA5F11F306F4090FD50E238070D',
    '0xde709f2102306220921060314715629080e2fb77',
    '0x27b1fdb04752bbc536007a920d24acb045561c26',
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed',
    '0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359',
    '0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB',
    '0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb',
  ];
  for (const address of good) t.ok(isAddressOf('BSC', address), address);
  const mixed = good[4] as string;
  t.ok(isAddressOf('ETH', mixed.toLowerCase()), 'lower case carries none');
  t.notOk(isAddressOf('ETH', mixed.replace('Aeb', 'aeb')), 'one letter in the wrong case');
  t.notOk(isAddressOf('POLYGON', mixed.slice(0, -1)));
  t.notOk(isAddressOf('POLYGON', `${mixed.slice(0, -1)}g`));
  t.notOk(isAddressOf('ETH', `0x${'0'.repeat(40)}`), 'nobody has the zero address');
  t.ok(isAddressOf('ETH', `0x${randomBytes(20).toString('hex')}`));
});
