import t from 'tap';
import { LoginBackoff } from '../../../gateway/buyers/login-backoff.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';

const settings = {
  pairFailuresMax: 3,
  addressFailuresMax: 6,
  accountFailuresMax: 10,
  delayMs: 1_000,
  delayMsMax: 8_000,
  forgetAfterMs: 60_000,
  knownForMs: 100_000,
  entriesMax: 100,
};

function rig(more: Partial<typeof settings> = {}) {
  const clock = new ManualClock();
  const backoff = new LoginBackoff(clock, { ...settings, ...more });
  /** A wrong login; what it would have to wait, or 0 when it was checked. */
  const wrong = (address: string, account: string) => {
    const waitMs = backoff.waitMs(address, account);
    if (waitMs === 0) backoff.failed(address, account);
    return waitMs;
  };
  const right = (address: string, account: string) => {
    const waitMs = backoff.waitMs(address, account);
    if (waitMs === 0) backoff.succeeded(address, account);
    return waitMs;
  };
  return { clock, backoff, wrong, right };
}

t.test('a pair waits after its failures, twice as long each time, up to the longest wait', async (t) => {
  const { clock, backoff, wrong } = rig({ addressFailuresMax: 1_000 });
  for (let i = 0; i < 3; i++) t.equal(wrong('192.0.2.1', 'acme'), 0, 'free');
  for (const waitMs of [1_000, 2_000, 4_000, 8_000, 8_000]) {
    t.equal(wrong('192.0.2.1', 'acme'), waitMs);
    clock.advance(waitMs - 1);
    t.equal(wrong('192.0.2.1', 'acme'), 1, 'refused tries make it no longer');
    clock.advance(1);
    t.equal(wrong('192.0.2.1', 'acme'), 0, 'one more');
  }
  t.equal(backoff.refusedTotal, 10);
});

t.test('a right login after the wait clears the pair; without failures they are forgotten', async (t) => {
  const { clock, wrong, right } = rig();
  for (let i = 0; i < 3; i++) wrong('192.0.2.1', 'acme');
  t.equal(right('192.0.2.1', 'acme'), 1_000, 'not even the right one before');
  clock.advance(1_000);
  t.equal(right('192.0.2.1', 'acme'), 0);
  for (let i = 0; i < 3; i++) t.equal(wrong('192.0.2.1', 'acme'), 0, 'free again');
  clock.advance(60_001);
  t.equal(wrong('192.0.2.1', 'acme'), 0, 'forgotten');
});

t.test('when a wait is over one is checked at a time', async (t) => {
  const { clock, backoff, wrong } = rig();
  for (let i = 0; i < 3; i++) wrong('192.0.2.1', 'acme');
  clock.advance(1_000);
  t.equal(backoff.waitMs('192.0.2.1', 'acme'), 0, 'this one is being checked');
  t.equal(backoff.waitMs('192.0.2.1', 'acme'), 1_000, 'the others wait');
  backoff.succeeded('192.0.2.1', 'acme');
  t.equal(backoff.waitMs('192.0.2.1', 'acme'), 0, 'it was right: nobody waits');
});

t.test('an address that tries many accounts waits for all but those it has opened', async (t) => {
  const { clock, wrong, right } = rig();
  t.equal(right('192.0.2.1', 'mine'), 0);
  for (let i = 0; i < 6; i++) t.equal(wrong('192.0.2.1', `victim${i}`), 0);
  t.equal(wrong('192.0.2.1', 'another'), 1_000);
  t.equal(right('192.0.2.1', 'mine'), 0, 'its own account works');
  t.equal(wrong('192.0.2.1', 'another'), 1_000, 'and a right login there buys no guess elsewhere');
  t.equal(right('192.0.2.2', 'another'), 0, 'other addresses are not concerned');
  clock.advance(1_000);
  t.equal(wrong('192.0.2.1', 'another'), 0);
  t.equal(wrong('192.0.2.1', 'further'), 2_000, 'longer each time');
});

t.test('rotating within a /64 is one address; the next /64 is another', async (t) => {
  const { wrong } = rig();
  for (let i = 0; i < 3; i++) t.equal(wrong(`2001:db8:0:1::${i + 1}`, 'acme'), 0);
  t.equal(wrong('2001:db8:0:1:ffff::9', 'acme'), 1_000);
  t.equal(wrong('2001:db8:0:2::1', 'acme'), 0);
  for (let i = 0; i < 3; i++) wrong('192.0.2.1', 'acme');
  t.equal(wrong('::ffff:192.0.2.1', 'acme'), 1_000, 'mapped is IPv4');
});

t.test('failures from everywhere lock nobody out, and leave guessers one try an address', async (t) => {
  const { wrong, right } = rig();
  t.equal(right('198.51.100.1', 'acme'), 0, 'the office');
  for (let i = 0; i < 10; i++) t.equal(wrong(`192.0.2.${i}`, 'acme'), 0);
  t.equal(wrong('203.0.113.1', 'acme'), 0, 'one');
  t.equal(wrong('203.0.113.1', 'acme'), 1_000, 'not three');
  for (let i = 0; i < 1_000; i++) wrong(`10.0.${i >> 8}.${i & 255}`, 'acme');
  t.equal(right('203.0.113.2', 'acme'), 0, 'the right login from an address never seen gets in at once');
  for (let i = 0; i < 3; i++) t.equal(wrong('198.51.100.1', 'acme'), 0, 'where it belongs it may mistype');
  t.equal(wrong('203.0.113.3', 'other'), 0, 'other accounts are as before');
});

t.test('memory is bounded; what was used longest ago is forgotten first', async (t) => {
  const { wrong } = rig({ entriesMax: 5, accountFailuresMax: 1_000_000 });
  for (let i = 0; i < 3; i++) wrong('192.0.2.1', 'acme');
  for (let i = 0; i < 4; i++) wrong(`198.51.100.${i}`, 'x');
  t.equal(wrong('192.0.2.1', 'acme'), 1_000, 'five fit');
  wrong('203.0.113.1', 'x');
  t.equal(wrong('192.0.2.1', 'acme'), 0, 'the sixth took its place');
});
