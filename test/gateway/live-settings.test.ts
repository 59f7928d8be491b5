/** What the log is told of prices and settings while Redis is away, on a real Redis. */
import { once } from 'node:events';
import t from 'tap';
import { startRedis } from '../../deploy/standalone/services/redis.js';
import { parseDevAllow } from '../../gateway/buyers/destination-policy.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { write } from '../../gateway/live/store.js';
import { LiveSettingsCache } from '../../gateway/live-settings.js';
import { connect, recordingLog } from './live/servers.js';

const TOLD = ['live_settings_not_read', 'live_settings_read_again'];

t.test('that they can not be read is said once, and once that it is over; the last ones stay', async (t) => {
  let server = await startRedis({ prefer: 'auto' });
  t.teardown(() => server.stop());
  const redis = connect(t, { url: server.url });
  const log = recordingLog();
  const live = new LiveSettingsCache({ redis, log, devAllow: parseDevAllow([]), onChange: () => {} });
  const price = (microsPerGb: string) =>
    write(redis, liveKeys.providerPrice(), { microsPerGb, effectiveFromMs: 0 });
  await price('1');
  await live.refresh();
  t.same(log.events, []);
  for (const times of [1, 2]) {
    await server.kill();
    for (let n = 0; n < 5; n++) await live.refresh();
    t.equal(live.providerPriceMicrosPerGb, `${times}`);
    t.equal(log.events.length, 2 * times - 1, 'said once in five readings');
    server = await startRedis({ prefer: 'auto', port: server.port });
    if (redis.status !== 'ready') await once(redis, 'ready');
    await price(`${times + 1}`);
    for (let n = 0; n < 3; n++) await live.refresh();
    t.equal(live.providerPriceMicrosPerGb, `${times + 1}`);
    t.same(log.events, times === 1 ? TOLD : [...TOLD, ...TOLD]);
  }
});
