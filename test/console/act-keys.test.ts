/** Keys under which the console's POSTs are done once. */
import t from 'tap';
import { keyOfAct } from '../../control-plane/console/web/api/act-keys.js';

const post = (body: string, path = '/api/withdraw') =>
  new Request(`http://console.example${path}`, { method: 'POST', body });

const answer = (status: number, headers: Record<string, string> = {}) => ({
  status,
  headers: new Headers(headers),
});

t.test('an act whose outcome nobody knows is tried again under its key', async (t) => {
  const first = await keyOfAct(post('{"amount":"5"}'));
  t.match(first.key, /^[0-9a-f]{32}$/);
  t.equal((await keyOfAct(post('{"amount":"5"}'))).key, first.key, 'no answer came');
  for (const lost of [
    answer(500),
    answer(503, { 'retry-after': '2' }),
    answer(429, { 'retry-after': '1' }),
    answer(409, { 'retry-after': '1' }), // the first is still under way
    answer(401),
  ]) {
    first.answered(lost);
    t.equal((await keyOfAct(post('{"amount":"5"}'))).key, first.key, `${lost.status}`);
  }
});

t.test('a changed act, and one after an answer, have keys of their own', async (t) => {
  const first = await keyOfAct(post('{"amount":"7"}'));
  const changed = await keyOfAct(post('{"amount":"7","below":true}'));
  const elsewhere = await keyOfAct(post('{"amount":"7"}', '/api/promo/redeem'));
  t.equal(new Set([first.key, changed.key, elsewhere.key]).size, 3);
  for (const known of [answer(201), answer(422), answer(404)]) {
    const act = await keyOfAct(post('{"amount":"7"}'));
    act.answered(known);
    t.not((await keyOfAct(post('{"amount":"7"}'))).key, act.key, `after ${known.status}`);
  }
});

t.test('after ten minutes the same is meant anew', async (t) => {
  const nowMs = Date.parse('2026-11-27T12:00:00Z');
  const first = await keyOfAct(post('x'), nowMs);
  t.equal((await keyOfAct(post('x'), nowMs + 599_000)).key, first.key);
  t.not((await keyOfAct(post('x'), nowMs + 600_000)).key, first.key);
});
