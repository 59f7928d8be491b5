import { createServer } from 'node:net';
import t from 'tap';
import { type Options, readOptions } from './options.js';
import { commandLine, cpuSeconds, listenerPid, processTree, residentBytes } from './processes.js';
import { addFigures, markdown, type SystemResult } from './report.js';

const system = (id: string, windows: Record<string, number>[]): SystemResult => {
  const result: SystemResult = { id, label: id, figures: {}, problems: [], remarks: [] };
  for (const figures of windows) addFigures(result, figures);
  return result;
};

t.test('options', async (t) => {
  t.equal(readOptions(['--help']), 'help');
  t.match(readOptions(['--only', 'bulk,latency', '--only', 'memory', '--quick']), {
    only: ['bulk', 'latency', 'memory'],
    repeats: 2,
  });
  t.match(readOptions(['--only', 'echo,delay', '--plots', 'plots']), {
    only: ['echo', 'delay'],
    lineRates: [100, 1_000],
    plots: 'plots',
  });
  t.throws(() => readOptions(['--only', 'speed']), /one of bulk/);
  t.throws(() => readOptions(['--repeats', '0']), /whole number/);
  t.throws(() => readOptions(['--out', 'results.txt']), /\.json or \.md/);
});

t.test('the table: medians with spread, ratios above 1 where we are better', async (t) => {
  const ours = system('traffic-share', [
    { down_8_gb_per_s: 1, down_8_cpu_s_per_gb: 0.2 },
    { down_8_gb_per_s: 4, down_8_cpu_s_per_gb: 0.4 },
    { down_8_gb_per_s: 3, down_8_cpu_s_per_gb: 0.3 },
  ]);
  const peer = system('peer', [
    { down_8_gb_per_s: 1, down_8_cpu_s_per_gb: 0.6 },
    { down_8_gb_per_s: 2, down_8_cpu_s_per_gb: 0.6 },
  ]);
  const absent: SystemResult = {
    id: 'absent',
    label: 'absent',
    figures: {},
    problems: ['not installed'],
    remarks: [],
  };
  const text = markdown({
    machine: { node: 'v20' },
    options: readOptions([]) as Options,
    systems: [ours, peer, absent],
  });
  t.match(text, '| traffic-share | 3.00 (1.00–4.00) | 0.30 (0.20–0.40) |');
  t.match(text, '| peer | 1.50 (1.00–2.00) | 0.60 (0.60–0.60) |');
  t.match(text, '| peer | 2.00 | 2.00 |', 'twice the throughput, half the CPU time');
  t.match(text, '- absent: not installed');
  t.notMatch(text, 'new/s', 'no column without a figure');
});

t.test(
  'the other way into Traffic Share: a row of its own, compared with the others where it has figures',
  async (t) => {
    const text = markdown({
      machine: {},
      options: readOptions([]) as Options,
      systems: [
        system('traffic-share', [{ down_8_gb_per_s: 3, p50_ms: 0.6 }]),
        system('traffic-share-connect', [{ p50_ms: 0.4 }]),
        system('peer', [{ down_8_gb_per_s: 1, p50_ms: 0.5 }]),
      ],
    });
    t.match(text, '| traffic-share-connect | 0.400 |');
    const [, ours = '', other = ''] = text.split('as a ratio');
    t.match(ours, '8 × down, GB/s');
    t.match(ours, '| peer | 0.83 |');
    t.match(other, '| peer | 1.25 |');
    t.notMatch(other, 'GB/s');
    t.notMatch(other, '| traffic-share |');
  },
);

t.test('what a system adds at a fixed rate, window by window', async (t) => {
  const text = markdown({
    machine: {},
    options: readOptions(['--only', 'rate']) as Options,
    systems: [
      system('traffic-share', [
        { rate_p50_ms: 2, rate_p99_ms: 9 },
        { rate_p50_ms: 5, rate_p99_ms: 20 },
        { rate_p50_ms: 3, rate_p99_ms: 8 },
      ]),
      system('direct', [
        { rate_p50_ms: 1, rate_p99_ms: 2 },
        { rate_p50_ms: 4, rate_p99_ms: 12 },
        { rate_p50_ms: 1, rate_p99_ms: 1 },
      ]),
    ],
  });
  t.match(text, 'Added to a request over the direct way, at 500 requests/s.');
  t.match(text, '| traffic-share | 1.00 (1.00–2.00) | 7.00 (7.00–8.00) |', 'medians of differences');
});

t.test('the small stream beside bulk ones, and the long line: targets beside the figures', async (t) => {
  const text = markdown({
    machine: {},
    options: readOptions(['--only', 'echo,delay']) as Options,
    systems: [
      system('traffic-share', [
        { echo_up_p99_ms: 8, delay_1000_down_percent: 93, delay_1000_down_grown_s: 0.4 },
        { echo_up_p99_ms: 6, delay_1000_down_percent: 95, delay_1000_down_grown_s: 0.6 },
      ]),
      system('line', [{ delay_1000_down_percent: 99.5 }]),
      system('openssh', [{ echo_up_p99_ms: 70, delay_1000_down_percent: 30 }]),
      system('traffic-share-tls', [{ echo_up_p99_ms: 14 }]),
    ],
  });
  t.match(text, '| echo beside 8 × up, p99 ms (target ≤ 10) |');
  t.match(text, '| 1000 Mbit/s down, % of it (target ≥ 90) | 1000 Mbit/s down, s until 90 % |');
  t.match(text, '| traffic-share | 94.0 (93.0–95.0) | 0.50 (0.40–0.60) |');
  t.match(text, '| openssh | 30.0 | – |', 'never got there');
  t.match(
    text,
    /as a ratio[\s\S]*\| openssh \| 10\.00 \|\n\n\nTraffic Share \(traffic-share-tls\)[\s\S]*\| openssh \| 5\.00 \|/,
  );
  t.notMatch(text, /against[\s\S]*\| line \|[\s\S]*One stream/, 'the line is not compared with');
});

t.test('what the kernel says of processes', { skip: process.platform !== 'linux' }, async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  t.equal(listenerPid(port), process.pid);
  t.ok(processTree(process.ppid).includes(process.pid));
  t.match(commandLine(process.pid), /bench\.test\.[jt]s/);
  t.ok(residentBytes([process.pid]) > 10e6);
  const before = cpuSeconds([process.pid]);
  const until = performance.now() + 10_000;
  while (cpuSeconds([process.pid]) - before < 0.05 && performance.now() < until) Math.hypot(Math.random());
  t.ok(cpuSeconds([process.pid]) - before >= 0.05, 'work shows');
  t.equal(cpuSeconds([2 ** 30]), 0, 'a process that is gone');
});
