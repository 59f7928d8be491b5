import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { backoffMs, SOON_BACKOFF } from '../../../agent-protocol/agent/backoff.js';
import { NO_OWNER_LIMITS, OwnerRules } from '../../../agent-protocol/agent/owner-rules.js';
import { emptyUsage, UsageFile } from '../../../agent-protocol/agent/usage.js';

const NOON = new Date(2025, 10, 22, 12, 0);

t.test('caps hold to the byte and end with the day', async (t) => {
  const rules = new OwnerRules(
    { ...NO_OWNER_LIMITS, capBytesDay: 100, capBytesMonth: 150 },
    emptyUsage(),
    NOON,
  );
  t.equal(rules.capBytesLeft, 100);
  t.ok(rules.countUp(60));
  t.ok(rules.countDown(40));
  t.equal(rules.capBytesLeft, 0);
  t.equal(rules.refusal('example.com'), 'CAP_REACHED');
  t.notOk(rules.countDown(1));
  t.equal(rules.bytesUp + rules.bytesDown, 100, 'what was refused was not counted');

  rules.tick(new Date(2025, 10, 23, 0, 0));
  t.equal(rules.capBytesLeft, 50, 'a new day, the same month');
  t.equal(rules.refusal('example.com'), null);
  t.notOk(rules.countUp(51), 'more than the month has left');
  t.equal(rules.capBytesLeft, 0, 'the rest is given up');
  rules.tick(new Date(2025, 11, 1, 0, 0));
  t.equal(rules.capBytesLeft, 100);
  t.equal(new OwnerRules(NO_OWNER_LIMITS, emptyUsage(), NOON).capBytesLeft, null);
});

t.test('no history passes a cap', async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5_000 }),
      fc.array(fc.integer({ min: 1, max: 900 })),
      (cap, pieces) => {
        const rules = new OwnerRules({ ...NO_OWNER_LIMITS, capBytesDay: cap }, emptyUsage(), NOON);
        let relayed = 0;
        for (const [index, bytes] of pieces.entries())
          if (index % 2 === 0 ? rules.countUp(bytes) : rules.countDown(bytes)) relayed += bytes;
        return relayed <= cap && relayed === rules.bytesUp + rules.bytesDown;
      },
    ),
  );
  t.pass();
});

t.test('hours, in local time, over midnight too', async (t) => {
  const night = new OwnerRules(
    { ...NO_OWNER_LIMITS, hours: { fromMinute: 22 * 60, toMinute: 6 * 60 } },
    emptyUsage(),
    NOON,
  );
  const at = (hour: number, minute: number) => {
    night.tick(new Date(2025, 10, 22, hour, minute));
    return night.refusal('example.com');
  };
  t.equal(at(12, 0), 'PAUSED');
  t.equal(at(21, 59), 'PAUSED');
  t.equal(at(22, 0), null);
  t.equal(at(0, 0), null);
  t.equal(at(5, 59), null);
  t.equal(at(6, 0), 'PAUSED');
  const always = new OwnerRules(
    { ...NO_OWNER_LIMITS, hours: { fromMinute: 0, toMinute: 0 } },
    emptyUsage(),
    NOON,
  );
  t.equal(always.paused, false);
  always.setPaused(true);
  t.equal(always.refusal('example.com'), 'PAUSED');
});

t.test('streams at once, and the block list', async (t) => {
  const rules = new OwnerRules(
    {
      ...NO_OWNER_LIMITS,
      streamsMax: 2,
      blockHosts: ['Bad.example', '*.worse.example', '1.2.3.4', '[2001:DB8::1]'],
    },
    emptyUsage(),
    NOON,
  );
  rules.streamsOpen = 1;
  t.equal(rules.refusal('ok.example'), null);
  for (const host of ['bad.example', 'BAD.example.', 'www.bad.example', 'worse.example', 'a.b.worse.example'])
    t.equal(rules.refusal(host), 'BLOCKED', host);
  for (const host of ['1.2.3.4', '0x01020304', '2001:db8:0::1'])
    t.equal(rules.refusal(host), 'BLOCKED', host);
  for (const host of ['notbad.example', 'bad.example.com', 'example', '1.2.3.5'])
    t.equal(rules.refusal(host), null);
  t.ok(rules.isBlockedAddress('1.2.3.4'));
  rules.streamsOpen = 2;
  t.equal(rules.refusal('ok.example'), 'CAP_REACHED');
});

t.test('usage survives a restart', async (t) => {
  const events: string[] = [];
  const log = (_level: string, event: string) => void events.push(event);
  const dir = join(t.testdir({}), 'new');
  const limits = { ...NO_OWNER_LIMITS, capBytesDay: 1_000 };

  const first = new UsageFile(dir, log);
  const rules = new OwnerRules(limits, first.load(), NOON);
  rules.beginSession('s1');
  rules.countUp(300);
  rules.countDown(200);
  void first.save(rules.usage);
  rules.countDown(100);
  await first.save(rules.usage);
  t.equal(statSync(join(dir, 'usage.json')).mode & 0o777, 0o600);

  const again = new OwnerRules(limits, new UsageFile(dir, log).load(), NOON);
  t.equal(again.capBytesLeft, 400);
  again.beginSession('s1');
  t.match(again.usage, { sessionBytesUp: 300, sessionBytesDown: 300 }, 'the same session goes on');
  again.beginSession('s2');
  t.match(again.usage, { sessionBytesUp: 0, sessionBytesDown: 0, dayBytes: 600 });
  t.same(events, []);

  for (const damage of [
    '',
    '{',
    '[]',
    '{"day":1}',
    readFileSync(join(dir, 'usage.json'), 'utf8').replace('600', '-1'),
  ]) {
    writeFileSync(join(dir, 'usage.json'), damage);
    t.same(new UsageFile(dir, log).load(), emptyUsage());
  }
  t.equal(events.length, 5, 'each damage is told');

  const nowhere = new UsageFile(join(dir, 'usage.json', 'below-a-file'), log);
  nowhere.load();
  await nowhere.save(rules.usage);
  t.ok(events.includes('usage not saved'), 'a failing disk is told and stops nothing');
  await new UsageFile(null, log).save(rules.usage);
});

t.test('waits between attempts', async (t) => {
  for (let n = 0; n < 12; n++)
    t.ok(backoffMs(n, 0.999, SOON_BACKOFF) <= 4_000, 'soon after a loss: never long');
  t.equal(backoffMs(0, 0), 0);
  t.ok(backoffMs(0, 0.999) < 500);
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10_000 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (n, random) => {
        const ms = backoffMs(n, random);
        const ceiling = Math.min(30_000, 250 * 2 ** Math.min(n, 30));
        return ms >= ceiling / 2 && ms <= ceiling;
      },
    ),
  );
});
