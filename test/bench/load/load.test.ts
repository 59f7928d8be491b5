import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Options, readOptions } from '../options.js';
import { markdown, type SystemResult } from '../report.js';
import { limitCores } from './cpu-limit.js';
import { mixOf } from './load-options.js';
import { clientBound, notOffered, tooFew } from './resources.js';
import { BUCKET_MS, bucketsP99, growthPercent, lastPart, percentile, recoveryMs } from './statistics.js';

const options = (...words: string[]) => readOptions(words) as Options;

t.test('phases under load: named alone, together, with memory; never beside peers', async (t) => {
  t.notOk(options().alone);
  t.notOk(options().only.includes('storm'), 'not part of the default run');
  t.match(options('--only', 'storm,soak,overload,memory'), { alone: true });
  t.match(options('--only', 'memory,bulk'), {
    alone: false,
    load: { memory: { idleTunnels: 2_000, holdMs: 0 } },
  });
  t.throws(
    () => options('--only', 'storm,bulk'),
    /--only storm: beside storm, soak, overload, control and memory only/,
  );
  t.match(options('--only', 'memory').load.memory, {
    idleTunnels: 20_000,
    idleStreams: 10_000,
    holdMs: 300_000,
  });
  t.match(options('--only', 'memory', '--quick').load.memory, { idleTunnels: 500, holdMs: 3_000 });
  t.match(options('--only', 'soak').load.soak, { devices: 1_000, streams: 10_000, durationMs: 300_000 });
  t.match(options('--only', 'storm', '--storm-devices', '20000').load.storm, { devices: 20_000 });
  const { allocation } = options('--only', 'control').load.control;
  t.ok(allocation.claims < allocation.devices, 'an exit for each claim');
  t.equal(options('--only', 'overload').load.overload.gatewayCores, null);
  t.equal(options('--only', 'overload', '--gateway-cores', '0.25').load.overload.gatewayCores, 0.25);
  t.throws(() => options('--gateway-cores', 'half'), /--gateway-cores: a number from 0.01/);
  t.throws(() => options('--only', 'soak', '--soak-s', '1.5'), /--soak-s: a whole number from 2/);
  t.throws(() => options('--soak-streams', '100', '--soak-devices', '101'), /not more than streams/);
});

t.test('a mix has so many streams', async (t) => {
  for (const streams of [40, 100, 400, 10_000]) {
    const mix = mixOf(streams);
    t.equal(mix.idle + mix.trickle + mix.request + mix.bulk, streams);
    t.ok(mix.idle > streams / 2 && mix.bulk >= 2, `${streams}: most idle, some bulk`);
  }
});

t.test('growth: the least-squares line over the time, in percent of the mean', async (t) => {
  t.equal(growthPercent([5, 5]), null, 'two samples are no line');
  t.equal(growthPercent([7, 7, 7, 7]), 0);
  const near = (value: number | null, wanted: number) => Math.abs((value ?? Number.NaN) - wanted) < 1e-9;
  t.ok(near(growthPercent([90, 95, 100, 105, 110]), 20), 'from 90 to 110 is 20 % of 100');
  t.ok(near(growthPercent([110, 105, 100, 95, 90]), -20));
  const saw = Array.from({ length: 300 }, (_, n) => 100 + (n % 10));
  t.ok(Math.abs(growthPercent(saw) ?? 9) < 0.5, 'a saw of collected garbage is flat');
  t.ok((growthPercent(saw.map((value, n) => value + n / 50)) ?? 0) > 5, 'a leak below the saw is not');
  t.same(lastPart([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.6), [5, 6, 7, 8, 9, 10]);
});

t.test('recovery: the first second in which every look is normal', async (t) => {
  t.equal(percentile([], 0.5), null);
  t.equal(percentile([3, 1, 2], 1), 3);
  t.equal(recoveryMs([50, 40, 9, 9, 30, 9, 8, 7, 9], 10), 5 * BUCKET_MS, 'two good looks are luck');
  t.equal(recoveryMs([1, 1, 1, 1], 10), 0);
  t.equal(recoveryMs([50, 50, 50, 50, 9, 9, 9], 10), null);
  const requests = Array.from({ length: 200 }, (_, n) => ({ dueMs: n * 5, tookMs: n < 100 ? 80 : 2 }));
  t.same(bucketsP99(requests, 0), [80, 80, 2, 2]);
  t.same(bucketsP99(requests, 500), [2, 2], 'what came before does not count');
  const lost = bucketsP99([...requests, { dueMs: 990, tookMs: null }], 0);
  t.equal(
    lost.at(-1),
    Number.POSITIVE_INFINITY,
    'one in fifty without an answer is no normal quarter second',
  );
});

t.test('whose limit it was', async (t) => {
  const used = { gateway: 0.95, busiestClient: 0.6, all: 1.7 };
  t.equal(clientBound(used), null);
  t.match(clientBound({ ...used, gateway: 0.6, busiestClient: 0.97 }), /client was at its limit \(0\.97/);
  t.same(notOffered({ begun: 0.99, heldBack: 0 }, used, 2), []);
  t.match(notOffered({ begun: 0.4, heldBack: 0 }, used, 2), [/too slow for 60 %.*more --clients/]);
  t.match(notOffered({ begun: 0.4, heldBack: 0 }, { ...used, all: 1.9 }, 2), [/all 2 cores were busy/]);
  t.match(notOffered({ begun: 0.4, heldBack: 0.6 }, used, 2), [/held back 60 %/]);
  t.match(notOffered({ begun: 0.4, heldBack: 0.3 }, used, 2), [/held back/, /too slow for 30 %/]);
});

t.test('a share of a core, in control groups of either version', async (t) => {
  const v1 = t.testdir({ cpu: { 'cgroup.procs': '' } });
  const lift = limitCores(77, 0.25, v1);
  const read = (...file: string[]) => readFileSync(join(...file), 'utf8');
  t.equal(read(v1, 'cpu/ts-bench-77/cpu.cfs_period_us'), '5000');
  t.equal(read(v1, 'cpu/ts-bench-77/cpu.cfs_quota_us'), '1250');
  t.equal(read(v1, 'cpu/ts-bench-77/cgroup.procs'), '77');
  // the kernel's files vanish with their group, these do not
  t.throws(lift, { code: 'ENOTEMPTY' });
  t.equal(read(v1, 'cpu/cgroup.procs'), '77', 'back where it was');
  const v2 = join(v1, 'v2');
  mkdirSync(v2);
  writeFileSync(join(v2, 'cgroup.controllers'), 'cpu memory');
  limitCores(78, 1.5, v2);
  t.equal(read(v2, 'cgroup.subtree_control'), '+cpu');
  t.equal(read(v2, 'ts-bench-78/cpu.max'), '7500 5000');
  t.throws(() => limitCores(79, 1, join(v1, 'absent')), /--gateway-cores needs control groups/);
});

t.test('what must be raised first', async (t) => {
  const need = { connections: 20_000, toOneDestination: 20_000 };
  t.equal(tooFew(need, { files: 65_536, ports: 55_000 }), null);
  t.match(
    tooFew(need, { files: 20_000, ports: 55_000 }),
    /needs 20200 open files a process.*ulimit -n 20200/,
  );
  t.match(tooFew(need, { files: 65_536, ports: 10_000 }), /needs 20000 local ports.*ip_local_port_range/);
  t.equal(tooFew({ connections: 1, toOneDestination: 1 }), null, 'this machine allows something');
});

t.test('the table: each figure beside its target', async (t) => {
  const ours: SystemResult = {
    id: 'traffic-share',
    label: 'Traffic Share',
    figures: {
      soak_errors: [0],
      soak_rss_max_mb: [601.4],
      soak_growth_percent: [-2.5],
      soak_gb: [1.5],
      overload_goodput_percent: [81],
    },
    problems: ['soak: something broke'],
    remarks: ['overload: the clients were slow'],
  };
  const text = markdown({ machine: {}, options: options('--only', 'soak,overload'), systems: [ours] });
  t.match(text, '| soak: 10000 streams over 1000 devices, 300 s: errors | 0 | 0 | yes |');
  t.match(text, 'MB | 601 | ≤ 600 | **no** |');
  t.match(text, '% | -2.50 | within 2 | **no** |');
  t.match(text, '| traffic, GB | 1.50 |  |  |');
  t.match(text, '| goodput, % of peak | 81 | ≥ 80 | yes |');
  t.match(text, '- traffic-share: soak: something broke');
  t.match(text, '- overload: the clients were slow');
  t.notMatch(text, 'Median of', 'no windows in turn');
});
