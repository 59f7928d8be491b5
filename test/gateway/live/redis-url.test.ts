import t from 'tap';
import { readGatewayConfig } from '../../../gateway/config.js';
import { parseRedisUrl } from '../../../gateway/live/redis-url.js';

t.test('one server: the URL is left to ioredis', async (t) => {
  for (const url of ['redis://127.0.0.1:6379', 'rediss://u:p@redis.example/2?family=6', '/run/redis.sock'])
    t.same(parseRedisUrl(url), { kind: 'single', url });
});

t.test('sentinels and the name of their group', async (t) => {
  t.same(parseRedisUrl('redis+sentinel://s1:26380,s2/main'), {
    kind: 'sentinel',
    sentinels: [
      { host: 's1', port: 26380 },
      { host: 's2', port: 26379 },
    ],
    master: 'main',
    database: 0,
    tls: false,
  });
  t.match(
    parseRedisUrl(
      'rediss+sentinel://me:p%40ss%3A@[::1]:1/3?master=main&sentinelUsername=s&sentinelPassword=x',
    ),
    {
      sentinels: [{ host: '::1', port: 1 }],
      master: 'main',
      database: 3,
      tls: true,
      username: 'me',
      password: 'p@ss:',
      sentinelUsername: 's',
      sentinelPassword: 'x',
    },
  );
  t.match(parseRedisUrl('redis+sentinel://:p@s1/main/4'), { master: 'main', database: 4, password: 'p' });
});

t.test('nodes of a cluster', async (t) => {
  t.same(parseRedisUrl('rediss+cluster://:p@10.0.0.1:7000, n2.example'), {
    kind: 'cluster',
    nodes: [
      { host: '10.0.0.1', port: 7000 },
      { host: 'n2.example', port: 6379 },
    ],
    tls: true,
    password: 'p',
  });
  t.match(parseRedisUrl('redis+cluster://n/0'), { kind: 'cluster' });
});

t.test('what is wrong is said, without the text, which may hold a password', async (t) => {
  for (const [url, says] of [
    ['localhost:6379', /^redis:\/\/host:port, /],
    ['http://secret@h', /^redis:\/\/host:port, /],
    ['redis+sentinel://s1', /name of the sentinels' group once/],
    ['redis+sentinel://s1/a/b', /name of the sentinels' group once/],
    ['redis+sentinel://s1/a?master=b', /name of the sentinels' group once/],
    ['redis+sentinel://s1/a/1/2', /one number of a database/],
    ['redis+sentinel://s1/a?masters=b', /without other parameters/],
    ['redis+sentinel://:secret%@s1/a', /%XX/],
    ['redis+cluster://secret@n1:99999', /ports from 1 to 65535/],
    ['redis+cluster://n1,,n2', /host:port, separated by commas/],
    ['redis+cluster://n1/2', /one database/],
  ] as const) {
    t.throws(() => parseRedisUrl(url), { code: 'BAD_REDIS_URL', message: says }, url);
    try {
      readGatewayConfig({ TS_REDIS_URL: url });
      t.fail(url);
    } catch (error) {
      t.match(error, { code: 'BAD_ENVIRONMENT', problems: [/^TS_REDIS_URL must be /] });
      t.notMatch((error as Error).message, /secret/);
    }
  }
});
