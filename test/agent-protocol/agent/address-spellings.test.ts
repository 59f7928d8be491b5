/** The device's own judgement: whatever a gateway asks for and a resolver answers, nothing inside is dialled. */
import t from 'tap';
import { classifyAddress } from '../../../agent-protocol/address.js';
import { type DialFailure, type DialSettings, dial } from '../../../agent-protocol/agent/dial.js';
import { NO_OWNER_LIMITS, OwnerRules } from '../../../agent-protocol/agent/owner-rules.js';
import { cachedResolve, type Resolution } from '../../../agent-protocol/agent/resolve.js';
import { emptyUsage } from '../../../agent-protocol/agent/usage.js';
import {
  embeddedSpellings,
  ipv4Spellings,
  PROHIBITED_HOSTS,
  UNREADABLE_HOSTS,
} from '../../helpers/address-spellings.js';

interface Attempted {
  address: string;
  destroy(): void;
}

/** A dialler whose network connects to everything, and remembers what it was asked. */
function device(answer: (name: string) => string[], isBlockedAddress = (_address: string) => false) {
  const resolved: string[] = [];
  const attempted: string[] = [];
  const resolve = async (name: string): Promise<Resolution> => {
    resolved.push(name);
    return { ok: true, addresses: answer(name) };
  };
  const settings: DialSettings<Attempted> = {
    resolve,
    resolveExempt: async () => {
      throw new Error('nothing is exempt here');
    },
    attempt: (address, _port, onResult) => {
      attempted.push(address);
      queueMicrotask(() => onResult(null));
      return { address, destroy() {} };
    },
    isExempt: () => false,
    isBlockedAddress,
    timeoutMs: 2_000,
    attemptDelayMs: 30,
  };
  const run = (host: string, more: Partial<DialSettings<Attempted>> = {}) =>
    new Promise<string>((done) => {
      dial<Attempted>({ ...settings, ...more }, host, 443, {
        onConnected: ({ address }) => done(address),
        onFailed: (failure: DialFailure) => done(failure),
      });
    });
  return { run, resolve, resolved, attempted };
}

t.test('no spelling of an address inside is dialled, or even asked of a resolver', async (t) => {
  const { run, resolved, attempted } = device(() => ['8.8.8.8']);
  for (const host of [...PROHIBITED_HOSTS, ...UNREADABLE_HOSTS])
    t.equal(await run(host), 'PROHIBITED', JSON.stringify(host));
  t.same([resolved, attempted], [[], []]);
});

t.test('spellings of a public address are that address', async (t) => {
  const { run, resolved } = device(() => []);
  for (const host of ipv4Spellings([8, 8, 4, 4])) t.equal(await run(host), '8.8.4.4', JSON.stringify(host));
  const { mapped, other } = embeddedSpellings([8, 8, 4, 4]);
  for (const host of mapped) t.match(await run(host), /^(::ffff|64:ff9b:):808:404$/, host);
  for (const host of other) t.equal(await run(host), 'PROHIBITED', host);
  t.same(resolved, []);
});

t.test('what a resolver answers is judged, every time, in whatever text', async (t) => {
  const inside = PROHIBITED_HOSTS.filter((host) => classifyAddress(host) !== 'invalid');
  t.ok(inside.length > 150, `${inside.length} addresses`);
  const odd = ['127.1', '2130706433', '::1%lo', '[::1]', 'localhost', '', '8.8.8', '08.8.8.8'];
  const { run, attempted } = device(() => [...inside, ...odd]);
  t.equal(await run('rebound.example.org'), 'PROHIBITED');
  t.same(attempted, []);

  const mixed = device(() => [...inside.slice(0, 40), '2606:4700::1111', ...odd, '9.9.9.9', ...inside]);
  t.equal(await mixed.run('mixed.example.org'), '2606:4700::1111');
  t.same(mixed.attempted, ['2606:4700::1111'], 'only what is public was tried');

  const one = device(() => ['10.0.0.1', '8.8.8.8']);
  const refusing: DialSettings<Attempted>['attempt'] = (address, _port, onResult) => {
    one.attempted.push(address);
    queueMicrotask(() => onResult(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })));
    return { address, destroy() {} };
  };
  t.equal(await one.run('mixed.example.org', { attempt: refusing }), 'REFUSED');
  t.same(one.attempted, ['8.8.8.8'], 'the private one is no second choice either');
});

t.test('an answer that changes between look-ups changes nothing', async (t) => {
  const answers = [['8.8.8.8'], ['127.0.0.1'], ['8.8.8.8', '192.168.0.1'], ['fd00::1'], ['8.8.4.4']];
  let turn = 0;
  const { run, attempted, resolved } = device(() => answers[turn++ % answers.length] as string[]);
  const outcomes: string[] = [];
  for (let i = 0; i < answers.length; i++) outcomes.push(await run('rebinding.example.org'));
  t.same(outcomes, ['8.8.8.8', 'PROHIBITED', '8.8.8.8', 'PROHIBITED', '8.8.4.4']);
  t.same(attempted, ['8.8.8.8', '8.8.8.8', '8.8.4.4']);
  t.equal(resolved.length, answers.length, 'each dial resolved once and used that very answer');

  // The same with the device's cache in between.
  let nowMs = 0;
  turn = 0;
  const cached = cachedResolve(
    async () => ({ ok: true, addresses: answers[turn++ % 5] as string[] }),
    () => nowMs,
  );
  for (const expected of ['8.8.8.8', '8.8.8.8', 'PROHIBITED', 'PROHIBITED']) {
    t.equal(await run('rebinding.example.org', { resolve: cached }), expected);
    nowMs += 16_000;
  }
});

t.test('an owner’s block holds for every spelling, and behind names', async (t) => {
  const { mapped } = embeddedSpellings([9, 9, 9, 9]);
  for (const entry of ['9.9.9.9', '::ffff:9.9.9.9', '64:ff9b::909:909']) {
    const limits = { ...NO_OWNER_LIMITS, blockHosts: [entry] };
    const rules = new OwnerRules(limits, emptyUsage(), new Date());
    const { run, attempted } = device(
      () => mapped,
      (address) => rules.isBlockedAddress(address),
    );
    for (const host of [...ipv4Spellings([9, 9, 9, 9]), ...mapped]) {
      t.equal(rules.refusal(host), 'BLOCKED', `${entry} blocks ${JSON.stringify(host)}`);
      t.equal(await run(host), 'BLOCKED', `${entry}: ${JSON.stringify(host)} is not dialled`);
    }
    t.equal(await run('quad9.example.org'), 'BLOCKED', 'nor when a name leads there');
    t.same(attempted, []);
    t.equal(rules.refusal('9.9.9.8'), null);
    t.notOk(rules.isBlockedAddress('::ffff:9.9.9.8'));
  }
});
