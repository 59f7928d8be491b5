import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import t from 'tap';
import { ControlPlaneMetrics, type ControlPlaneMetricsDeps } from '../../control-plane/metrics.js';
import { GatewayMetrics, type GaugeReadings } from '../../gateway/metrics.js';
import { systemClock } from '../../gateway/runtime/clock.js';
import { projectPath } from '../../gateway/runtime/project-path.js';

const run = promisify(execFile);
const folder = projectPath('deploy/prometheus/rules');
const rules = readFileSync(`${folder}/money.yml`, 'utf8');
const tests = readFileSync(`${folder}/money.test.yml`, 'utf8');

/** Every name of a metric of ours in the text; `ts_bytes_*_total` in prose is not one. */
const metricsIn = (text: string) =>
  new Set(
    [...text.matchAll(/\bts_[a-z0-9_]+(?!\*)\b/g)]
      .map(([name]) => name)
      .filter((name) => !name.endsWith('_')),
  );

/** What the two processes expose. */
async function exposed(): Promise<Set<string>> {
  const readings = new Proxy({}, { get: () => () => 0 }) as GaugeReadings;
  const gateway = new GatewayMetrics(readings).registry;
  const controlPlane = new ControlPlaneMetrics({
    clock: systemClock,
    pool: { totalCount: 0, idleCount: 0, waitingCount: 0 },
    settlement: { counts: { setAside: {} } },
    wallets: { counts: {} },
    usage: { counts: {} },
    money: { read: async () => null, ageS: 0, failures: 0, latest: null },
  } as unknown as ControlPlaneMetricsDeps).registry;
  return new Set(
    [gateway, controlPlane].flatMap((registry) => registry.getMetricsAsArray().map((m) => m.name)),
  );
}

t.test('every metric that a rule names is exposed', async (t) => {
  const there = await exposed();
  const named = metricsIn(rules);
  t.ok(named.size > 15, `${named.size} metrics are named`);
  for (const name of named) t.ok(there.has(name), name);
  for (const name of metricsIn(tests)) t.ok(there.has(name), `${name}, in the tests of the rules`);
});

t.test('each alert says what it is and what to do, and is tried', async (t) => {
  const alerts = rules.split(/^ +- alert: /m).slice(1);
  t.ok(alerts.length >= 16);
  const names = alerts.map((text) => text.split('\n')[0] as string);
  t.equal(new Set(names).size, names.length, 'each name once');
  for (const [i, text] of alerts.entries()) {
    const name = names[i] as string;
    t.match(text, /^ +summary: \S/m, `${name} has a summary`);
    t.match(text, /^ +action: (>-\n +)?\S/m, `${name} says what to do`);
    t.match(text, /severity: (critical|warning)/, `${name} has a severity`);
    t.match(
      tests,
      new RegExp(`alertname="${name}"|eval_time: 12m\n +alertname: ${name}\n`),
      `${name} is seen firing`,
    );
    t.match(tests, new RegExp(`alertname: ${name}, exp_alerts: \\[\\]`), `${name} is seen not firing`);
    // NaN, a figure that is not known, is not equal to anything.
    t.notMatch(text.split('annotations:')[0], /!= *0/, `${name} does not fire on what is not known`);
  }
});

t.test('promtool tries the rules', async (t) => {
  const version = await run('promtool', ['--version']).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return null;
  });
  if (version === null) {
    t.comment('promtool is not installed (Debian: apt install prometheus): the rules were not tried');
    t.notMatch(process.env.TS_TEST_PROGRAMS ?? '', 'promtool', 'it is installed where it must be');
    return t.end();
  }
  const ran = await run('promtool', ['test', 'rules', 'money.test.yml'], { cwd: folder }).then(
    ({ stdout }) => ({ ok: true, said: stdout }),
    (error: { stdout?: string; stderr?: string }) => ({ ok: false, said: `${error.stdout}${error.stderr}` }),
  );
  t.ok(ran.ok, ran.said);
  const checked = await run('promtool', ['check', 'rules', 'money.yml'], { cwd: folder });
  t.match(checked.stdout, /SUCCESS: \d+ rules found/);
});
