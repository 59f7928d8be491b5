import t from 'tap';
import { FleetWatch, OVER_AFTER_MS, SILENT_AFTER_MS } from '../../gateway/fleet-watch.js';
import { readBeats, writeBeat } from '../../gateway/live/beats.js';
import { connectLive } from '../../gateway/live/connection.js';
import { SUMMARY_KEPT_MS } from '../../gateway/live/keys.js';
import type { GatewayRun } from '../../gateway/live/records.js';
import { ManualClock } from '../../gateway/runtime/clock.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { startRedis } from '../helpers/services.js';

const LOOK_MS = 500;
const run = (gatewayId: string, epoch = 'e1'): GatewayRun => ({ gatewayId, epoch });

t.test('who lives, who is silent, who is over', async (t) => {
  const server = await startRedis();
  t.teardown(() => server.stop());
  const redis = connectLive({ url: server.url, log: silentLog });
  t.teardown(() => redis.disconnect());
  const clock = new ManualClock();
  const over: string[] = [];
  const watch = new FleetWatch({
    ...{ redis, clock, log: silentLog, ownRun: run('a') },
    onOver: ({ gatewayId, epoch }) => over.push(`${gatewayId} ${epoch}`),
  });
  let beat = 0;
  const beats = (gatewayId: string, epoch = 'e1') =>
    writeBeat(redis, { gatewayId, epoch, beat: beat++, over: false });
  /** Looks so often, with what beats before each look. */
  const look = async (times: number, before = async () => {}) => {
    for (let i = 0; i < times; i++) {
      await before();
      clock.advance(LOOK_MS);
      await watch.refresh();
    }
  };
  await beats('b');
  await watch.refresh();
  t.notOk(watch.isSilent('b'));
  t.notOk(watch.isSilent('never seen'));
  await look(20, () => beats('b'));
  t.notOk(watch.isSilent('b'), 'it beats');
  t.ok(
    (await readBeats(redis)).some(({ gatewayId }) => gatewayId === 'a'),
    'so does this one',
  );

  await look(SILENT_AFTER_MS / LOOK_MS);
  t.ok(watch.isSilent('b'), 'within 3 s');
  t.notOk(watch.isOver(run('b')), 'its process may be busy');
  await look(1, () => beats('b'));
  t.notOk(watch.isSilent('b'), 'and is back');

  clock.advance(60_000);
  await watch.refresh();
  t.notOk(watch.isSilent('b'), 'a pause of this process is nobody else’s');
  await beats('b');
  await watch.refresh();

  await redis.flushall();
  await look(2);
  t.notOk(watch.isSilent('b'), 'an emptied Redis is no word about anybody');
  await look(1, () => beats('b'));

  await look(OVER_AFTER_MS / LOOK_MS);
  t.ok(watch.isOver(run('b')));
  t.notOk(watch.isOver(run('b', 'e2')), 'of that process alone');
  t.same(over, ['b e1'], 'told once');
  await look(1, () => beats('b'));
  t.notOk(watch.isOver(run('b')), 'it was stopped for a while, no more');

  await look(1, () => beats('b', 'e2'));
  t.ok(watch.isOver(run('b')), 'another process has its id');
  t.notOk(watch.isOver(run('b', 'e2')));
  await writeBeat(redis, { ...run('b', 'e2'), beat: beat++, over: true });
  await look(1);
  t.ok(watch.isOver(run('b', 'e2')), 'it said so');
  t.same(over, ['b e1', 'b e1', 'b e2']);

  await beats('c');
  await look(1 + SUMMARY_KEPT_MS / LOOK_MS + 1);
  t.notOk(
    (await readBeats(redis)).some(({ gatewayId }) => gatewayId === 'c'),
    'forgotten at last',
  );
  await watch.stop();
  t.match(
    (await readBeats(redis)).find(({ gatewayId }) => gatewayId === 'a'),
    { over: true },
  );
});
