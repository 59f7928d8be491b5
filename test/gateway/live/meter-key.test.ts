import { randomBytes, randomUUID } from 'node:crypto';
import t from 'tap';
import { meterKey, parseMeterKey } from '../../../gateway/live/records.js';

t.test('a meter’s key says which meter it is', async (t) => {
  const meter = {
    sessionId: randomUUID(),
    allocationId: randomUUID(),
    epoch: randomBytes(16).toString('hex'),
    providerPriceMicrosPerGb: '500000',
    buyerPriceMicrosPerGb: '0',
  };
  const key = meterKey(meter);
  t.same(parseMeterKey(key), meter);
  for (const other of [
    '',
    key.slice(1),
    `${key}.1`,
    key.replace('500000', '-5'),
    key.toUpperCase(),
    `${key}\n`,
  ])
    t.equal(parseMeterKey(other), null, other);
});
