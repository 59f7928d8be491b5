/** Which processes are known to have ended, and for how long. */
import t from 'tap';
import { CLAIM_TTL_MS } from '../../../gateway/live/claims.js';
import { EndedRuns } from '../../../gateway/workers/ended-runs.js';

t.test('a run that has ended is known for longer than its claims stand, and not for ever', async (t) => {
  let nowMs = 0;
  const runs = new EndedRuns(() => nowMs);
  const run = (n: number) => ({ gatewayId: 'duo', epoch: `e${n}` });
  runs.add(run(1));
  t.ok(runs.has(run(1)));
  t.notOk(runs.has(run(2)), 'the next one of the same worker lives');
  t.notOk(runs.has({ ...run(1), gatewayId: 'duo-w2' }));
  nowMs = CLAIM_TTL_MS + 1_000;
  runs.add(run(2));
  t.same(runs.all(), [run(1), run(2)], 'what a new worker is told');
  nowMs += CLAIM_TTL_MS;
  runs.add(run(3));
  t.same(runs.all(), [run(2), run(3)]);
});
