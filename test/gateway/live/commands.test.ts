import type { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { startRedis } from '../../../deploy/standalone/services/redis.js';
import {
  CommandReader,
  type CommandReaderOptions,
  parseCommand,
  publishCommand,
} from '../../../gateway/live/commands.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import type { GatewayCommand } from '../../../gateway/live/records.js';
import { markReady } from '../../../gateway/live/store.js';
import { redisKinds } from '../../helpers/services.js';
import { stopwatch } from '../../helpers/stopwatch.js';
import { connect, onEachRedis, recordingLog } from './servers.js';

const changed = (account: string): GatewayCommand => ({ kind: 'account_changed', account });

/** A started reader that records what it is told; `until` waits for an event. */
async function follow(
  t: Test,
  url: string,
  options: Partial<CommandReaderOptions> = {},
): Promise<{ told: string[]; until(event: string): Promise<void>; reader: CommandReader; events: string[] }> {
  const told: string[] = [];
  let check = () => {};
  const tell = (event: string) => {
    told.push(event);
    check();
  };
  const log = recordingLog();
  const reader = new CommandReader({
    redis: connect(t, { url, log }),
    onCommand: (command) => tell(command.kind === 'account_changed' ? command.account : command.kind),
    onResync: (reason) => tell(`resync ${reason}`),
    ...options,
  });
  await reader.start();
  t.teardown(() => reader.stop());
  const until = (event: string) =>
    new Promise<void>((resolve) => {
      check = () => {
        if (told.includes(event)) resolve();
      };
      check();
    });
  return { told, until, reader, events: log.events };
}

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    const redis = server.connect(t);
    await redis.flushall();
    await markReady(redis);
  });

  for (const pollMs of [null, 100])
    t.test(pollMs === null ? 'blocking reads' : 'polling', async (t) => {
      const redis = server.connect(t);
      await publishCommand(redis, changed('before'));
      const { told, until } = await follow(t, server.url, { pollMs });
      await publishCommand(redis, changed('one'));
      const tookMs = stopwatch();
      await until('one');
      t.ok(tookMs() < 1_000, 'within a second');
      for (let i = 0; i < 50; i++) void publishCommand(redis, changed(`many${i}`));
      await until('many49');
      t.same(
        told,
        ['resync started', 'one', ...Array.from({ length: 50 }, (_, i) => `many${i}`)],
        'in order, once',
      );
    });

  t.test('what cannot be read is logged and skipped', async (t) => {
    const redis = server.connect(t);
    const { told, until, events } = await follow(t, server.url);
    await redis.xadd(liveKeys.commands(), '*', 'c', '{"kind":"from_the_future"}');
    await redis.xadd(liveKeys.commands(), '*', 'other', 'field');
    await publishCommand(redis, changed('good'));
    await until('good');
    t.same(told, ['resync started', 'good']);
    t.equal(events.filter((event) => event === 'command_unreadable').length, 2);
  });

  t.test('a wipe and the rebuild are noticed, commands go on', async (t) => {
    const redis = server.connect(t);
    const { told, until } = await follow(t, server.url, { blockMs: 50 });
    await publishCommand(redis, changed('before'));
    await until('before');
    await redis.flushall();
    await until('resync wiped');
    await markReady(redis);
    await until('resync rebuilt');
    await publishCommand(redis, changed('after'));
    await until('after');
    t.same(told, ['resync started', 'before', 'resync wiped', 'resync rebuilt', 'after']);
  });

  t.test('a wipe and rebuild between two looks is noticed as well', async (t) => {
    const redis = server.connect(t);
    const { told, until } = await follow(t, server.url, { blockMs: 500 });
    const single = redis as unknown as Redis;
    await single.multi().flushall().set(liveKeys.ready(), 'another rebuild').exec();
    await until('resync rebuilt');
    t.same(told, ['resync started', 'resync rebuilt']);
  });

  t.test('a full read may have missed something', async (t) => {
    const redis = server.connect(t);
    const { told, until } = await follow(t, server.url, { pollMs: 300 });
    await redis.sendAll(
      Array.from({ length: 1_200 }, (_, i) => [
        'xadd',
        liveKeys.commands(),
        '*',
        'c',
        JSON.stringify(changed(`c${i}`)),
      ]),
    );
    await until('c1199');
    t.equal(told.filter((event) => event.startsWith('c')).length, 1_200, 'each once');
    t.ok(told.includes('resync gap'));
  });

  t.test('stop ends at once and calls nobody any more', async (t) => {
    const redis = server.connect(t);
    const { told, reader } = await follow(t, server.url, { blockMs: 800 });
    const tookMs = stopwatch();
    await reader.stop();
    t.ok(tookMs() < 500);
    await publishCommand(redis, changed('late'));
    t.same(told, ['resync started']);
  });
});

for (const kind of redisKinds())
  t.test(`${kind}: killed and started empty`, async (t) => {
    const first = await startRedis({ prefer: kind });
    t.teardown(() => first.stop());
    const { told, until } = await follow(t, first.url);
    await publishCommand(connect(t, { url: first.url }), changed('before'));
    await until('before');
    await first.kill();
    const second = await startRedis({ prefer: kind, port: first.port });
    t.teardown(() => second.stop());
    await until('resync reconnected');
    await publishCommand(connect(t, { url: second.url }), changed('after'));
    await until('after');
    t.equal(told.filter((event) => event === 'after').length, 1);
  });

t.test('every kind of command is read back, and nothing else', async (t) => {
  const commands: GatewayCommand[] = [
    changed('acme'),
    { kind: 'price_changed' },
    { kind: 'settings_changed' },
    { kind: 'stop_session', sessionId: 's', reason: 'banned' },
    { kind: 'end_allocation', allocationId: 'a' },
    { kind: 'kill', scope: 'buyer', id: 'b' },
    { kind: 'kill', scope: 'all', id: null },
  ];
  for (const command of commands) t.same(parseCommand(JSON.stringify(command)), command);
  for (const bad of [
    '',
    '{}',
    'null',
    '[]',
    '{"kind":"account_changed"}',
    '{"kind":"stop_session","sessionId":"s","reason":"because"}',
    '{"kind":"kill","scope":"everything","id":null}',
    '{"kind":"toString"}',
    '{"kind":"constructor"}',
    '{"kind":7}',
  ])
    t.equal(parseCommand(bad), undefined, bad);
});
