/** A connection to a cluster that is closed while the cluster is being asked who has which slots: the process ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { type RedisGroup, startRedisCluster } from '../../helpers/redis-groups.js';
import { redisKinds } from '../../helpers/services.js';

t.setTimeout(120_000);

const LIVE = `connectLive({ url, log: silentLog })`;
const PLAIN = `connectPlain(url, { connectionName: 'test', commandTimeoutMs: 1_000, connectTimeoutMs: 1_000, reconnectDelayMaxMs: 1_000 })`;
/** The slots are asked for at the start, and from then on every five seconds. */
const program = (url: string, connect: string) => `
  import { once } from 'node:events';
  import { setTimeout as delay } from 'node:timers/promises';
  import { connectLive } from ${JSON.stringify(projectPath('dist/gateway/live/connection.js'))};
  import { connectPlain } from ${JSON.stringify(projectPath('dist/gateway/live/open.js'))};
  import { silentLog } from ${JSON.stringify(projectPath('dist/gateway/runtime/logging.js'))};
  const url = ${JSON.stringify(url)};
  const redis = ${connect};
  await once(redis, 'ready');
  while (redis.isRefreshing) await delay(1);
  while (!redis.isRefreshing) await delay(1);
  redis.disconnect();
  console.log('closed');
`;

if (redisKinds().includes('redis-server')) {
  let group: RedisGroup;
  t.before(async () => {
    group = await startRedisCluster('any');
    t.teardown(() => group.stop());
  });
  for (const [what, connect] of [
    ['the live state', LIVE],
    ["a library's", PLAIN],
  ] as const)
    t.test(what, async (t) => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program(group.url, connect)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      t.teardown(() => child.kill('SIGKILL'));
      const ended = once(child, 'exit');
      const [line] = (await once(child.stdout, 'data')) as [Buffer];
      t.equal(line.toString().trim(), 'closed');
      t.same(await ended, [0, null], 'nothing is left that keeps it');
    });
} else t.pass('there is no redis-server here');
