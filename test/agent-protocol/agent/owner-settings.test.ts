/** What keeps the owner's wishes: bandwidth, machine, account rules, files and locks, settings. */
import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { startAgent } from '../../../agent-protocol/agent/agent.js';
import { BandwidthLimit } from '../../../agent-protocol/agent/bandwidth.js';
import { agentConfig } from '../../../agent-protocol/agent/config.js';
import { controlPath } from '../../../agent-protocol/agent/control-socket.js';
import {
  effectiveLimits,
  parseLocalSettings,
  readLocalSettings,
  writeLocalSettings,
} from '../../../agent-protocol/agent/local-settings.js';
import { silentAgentLog } from '../../../agent-protocol/agent/log.js';
import { readMachine } from '../../../agent-protocol/agent/machine.js';
import { NO_OWNER_LIMITS, OwnerRules } from '../../../agent-protocol/agent/owner-rules.js';
import { readPrivate, withLock, writePrivate } from '../../../agent-protocol/agent/private-file.js';
import { isNewer } from '../../../agent-protocol/agent/server-view.js';
import { parseBytes, parseDuration } from '../../../agent-protocol/agent/setting-values.js';
import { emptyUsage } from '../../../agent-protocol/agent/usage.js';
import { startApi, startGateway } from './harness.js';

const NOON = new Date(2026, 10, 27, 12, 0);

t.test('bandwidth: the rate holds over a second, and each gets its turn', async (t) => {
  const limit = new BandwidthLimit();
  t.equal(limit.take(1e9, { retry() {} }), true, 'none is set');
  limit.setRate(1_000_000);
  const PIECE = 20_000;
  let over = false;
  const passed = [0, 0];
  const waiters = passed.map((_, nth) => {
    const waiter = {
      retry() {
        while (!over && limit.take(PIECE, waiter)) passed[nth] = (passed[nth] as number) + PIECE;
      },
    };
    return waiter;
  });
  const startMs = performance.now();
  for (const waiter of waiters) waiter.retry();
  t.equal(limit.takeNow(1), false, 'a datagram does not pass who waits');
  await new Promise((done) => setTimeout(done, 600));
  const elapsedS = (performance.now() - startMs) / 1_000;
  const [a, b] = passed as [number, number];
  // Late timers lose what the bucket can not save; nothing makes it faster
  t.ok(a + b <= elapsedS * 1_000_000 + 2 * PIECE, `${a + b} bytes in ${elapsedS} s`);
  t.ok(a + b >= 150_000, `${a + b} bytes`);
  t.ok(Math.abs(a - b) <= 260_000, `in turn: ${a}, ${b}`);
  over = true;
  limit.setRate(null);
  await new Promise((done) => setTimeout(done, 20));
  t.equal(limit.takeNow(1e9), true);
  for (const waiter of waiters) limit.forget(waiter);
});

t.test('the machine: network of the default route, mains power', async (t) => {
  const root = t.testdir();
  const put = (path: string, text: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const route = (rows: string[]) =>
    put('proc/net/route', ['Iface Destination Gateway Flags RefCnt Use Metric Mask', ...rows].join('\n'));
  t.same(readMachine(root), { network: 'unknown', charging: null }, 'nothing to be read');
  put('sys/class/net/eth0/type', '1\n');
  put('sys/class/net/wlan0/wireless/status', '');
  put('sys/class/net/wwan0/type', '519\n');
  const byDefault = (name: string, metric: number) =>
    `${name} 00000000 0100A8C0 0003 0 0 ${metric} 00000000 0 0 0`;
  route(['eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0']);
  t.equal(readMachine(root).network, 'unknown', 'no default route');
  route([byDefault('wwan0', 700), byDefault('wlan0', 600), byDefault('eth0', 100)]);
  t.equal(readMachine(root).network, 'ethernet');
  route([byDefault('wwan0', 700), byDefault('wlan0', 600)]);
  t.equal(readMachine(root).network, 'wifi');
  route([byDefault('wwan0', 700)]);
  t.equal(readMachine(root).network, 'mobile');
  t.equal(readMachine(root).charging, true, 'no battery');
  put('sys/class/power_supply/mouse/type', 'Battery');
  put('sys/class/power_supply/mouse/scope', 'Device');
  t.equal(readMachine(root).charging, true, 'none of its own');
  put('sys/class/power_supply/BAT0/type', 'Battery\n');
  put('sys/class/power_supply/AC/type', 'Mains\n');
  put('sys/class/power_supply/AC/online', '0\n');
  t.equal(readMachine(root).charging, false);
  put('sys/class/power_supply/AC/online', '1\n');
  t.equal(readMachine(root).charging, true);
});

t.test('rules of machine and account side by side: the tighter one holds', async (t) => {
  const rules = new OwnerRules({ ...NO_OWNER_LIMITS, capBytesDay: 1_000 }, emptyUsage(), NOON);
  const account = { capBytesLeft: 300, hours: null, blockHosts: [], wifiOnly: false, chargingOnly: false };
  t.equal(rules.capBytesLeft, 1_000);
  rules.setAccount(account, NOON);
  t.equal(rules.capBytesLeft, 300);
  t.equal(rules.countDown(200), true);
  t.equal(rules.countUp(200), false, 'above what the account has left');
  t.equal(rules.closed, 'CAP_REACHED');
  rules.setAccount({ ...account, capBytesLeft: null, blockHosts: ['.bad.example'] }, NOON);
  t.equal(rules.capBytesLeft, 800);
  t.equal(rules.refusal('x.bad.example'), 'BLOCKED');
  rules.setLimits({ ...NO_OWNER_LIMITS, blockHosts: ['worse.example'] }, NOON);
  t.same([rules.refusal('bad.example'), rules.refusal('worse.example')], ['BLOCKED', 'BLOCKED']);

  rules.setAccount({ ...account, hours: { fromMinute: 0, toMinute: 60 } }, NOON);
  t.equal(rules.pausedBy, 'hours');
  rules.setAccount({ ...account, wifiOnly: true }, NOON);
  const where = (network: 'wifi' | 'ethernet' | 'mobile' | 'unknown') => {
    rules.setMachine({ network, charging: null });
    return rules.pausedBy;
  };
  t.same((['wifi', 'ethernet', 'mobile', 'unknown'] as const).map(where), [
    null,
    null,
    'wifi_only',
    'wifi_only',
  ]);
  rules.setAccount({ ...account, chargingOnly: true }, NOON);
  const power = (charging: boolean | null) => {
    rules.setMachine({ network: 'wifi', charging });
    return rules.pausedBy;
  };
  t.same([true, null, false].map(power), [null, null, 'charging_only']);

  rules.setMachine({ network: 'wifi', charging: true });
  rules.setPaused(true, new Date(2026, 10, 27, 12, 30));
  rules.tick(new Date(2026, 10, 27, 12, 29));
  t.equal(rules.pausedBy, 'owner');
  rules.tick(new Date(2026, 10, 27, 12, 30));
  t.equal(rules.pausedBy, null, 'it ends by itself');
});

t.test('what the account’s owner changes arrives with the next report', async (t) => {
  const gateway = await startGateway();
  t.teardown(() => gateway.stop());
  const api = await startApi(gateway);
  t.teardown(() => api.stop());
  const rules = {
    cap_bytes_left: 0,
    wifi_only: true,
    charging_only: false,
    hours: null,
    blocked_destinations: [],
  };
  api.answers['/api/traffic/report'] = () => ({ status: 200, body: { ok: true, rules } });
  const access = { kind: 'api', apiUrl: api.url, deviceId: 'd1', deviceKey: 'k' } as const;
  const agent = startAgent(agentConfig(access, { reportIntervalMs: 50, network: 'wifi' }), silentAgentLog);
  t.teardown(() => agent.stop());
  const tunnel = await gateway.tunnels.next();
  const told = await tunnel.statuses.nextWhere((status) => status.cap_bytes_left === 0);
  t.equal(told.paused, true);
  t.match(agent.rules.account, { capBytesLeft: 0, wifiOnly: true });
});

t.test('private files: whole or not there, for their owner alone; one writer at a time', async (t) => {
  const folder = join(t.testdir(), 'deep', 'state');
  const path = join(folder, 'a.json');
  t.equal(await readPrivate(path), null);
  await Promise.all([1, 2, 3, 4, 5].map((n) => writePrivate(path, { n })));
  t.match(await readPrivate(path), { n: Number });
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(statSync(folder).mode & 0o777, 0o700);
  t.same(readdirSync(folder), ['a.json'], 'nothing is left beside it');
  writeFileSync(path, '{"n":');
  await t.rejects(readPrivate(path), /is damaged/);

  let inside = 0;
  let most = 0;
  const work = async () => {
    most = Math.max(most, ++inside);
    await new Promise((done) => setTimeout(done, 10));
    inside--;
  };
  const lock = join(folder, 'x.lock');
  writeFileSync(lock, '2147483646 of-a-process-that-is-gone');
  await Promise.all([1, 2, 3, 4].map(() => withLock(folder, 'x', work)));
  t.equal(most, 1);
  writeFileSync(lock, `${process.pid} of-an-earlier-process-with-this-id`);
  const old = new Date(Date.now() - 600_000);
  utimesSync(lock, old, old);
  await withLock(folder, 'x', work);
  t.notOk(existsSync(lock));
  await t.rejects(
    withLock(folder, 'x', () => Promise.reject(new Error('no'))),
    /no/,
  );
  t.notOk(existsSync(lock), 'given back all the same');
});

t.test('settings of the running agent', async (t) => {
  const folder = join(t.testdir(), 'state');
  t.same(await readLocalSettings(folder), {});
  const settings = { capBytesDay: 5, capBytesMonth: null, wifiOnly: true, paused: { until: null } };
  await writeLocalSettings(folder, settings);
  t.same(await readLocalSettings(folder), settings);
  const started = { ...NO_OWNER_LIMITS, capBytesDay: 7, capBytesMonth: 9 };
  t.match(effectiveLimits(started, settings, []), { capBytesDay: 5, capBytesMonth: null, wifiOnly: true });
  t.match(effectiveLimits(started, settings, ['capBytesDay']), { capBytesDay: 7, capBytesMonth: null });
  for (const wrong of [
    { capBytesDay: 0 },
    { capBytesDay: '5' },
    { hours: {} },
    { paused: {} },
    { x: 1 },
    [],
    null,
  ])
    t.equal(parseLocalSettings(wrong), null, JSON.stringify(wrong));
  writeFileSync(join(folder, 'settings.json'), '{"capBytesDay":"all"}');
  await t.rejects(readLocalSettings(folder), /damaged/, 'limits are not lost in silence');
  t.equal(controlPath('/home/ann/state'), '/home/ann/state/agent.sock');
  t.ok(Buffer.byteLength(controlPath(`/${'deep/'.repeat(40)}`)) < 104);
});

t.test('what people type', async (t) => {
  t.same(['500', '5kB', '2GB', '1.5 MB', '1t', 'none'].map(parseBytes), [500, 5e3, 2e9, 1.5e6, 1e12, null]);
  for (const wrong of ['', '-1', '0', 'GB', '1EB', '1.5.5', '99999TB'])
    t.throws(() => parseBytes(wrong), wrong);
  t.same(['90s', '30m', '2h', '1d'].map(parseDuration), [90_000, 1_800_000, 7_200_000, 86_400_000]);
  for (const wrong of ['', '0s', '5', '-1h', '999d']) t.throws(() => parseDuration(wrong), wrong);
  t.same(
    [isNewer('0.2.0', '0.1.9'), isNewer('0.1.0', '0.1.0-beta'), isNewer('1.0.0', '1.0.1')],
    [true, false, false],
  );
});
