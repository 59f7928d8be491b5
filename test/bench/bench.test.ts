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

t.test('what the kernel says of processes', { skip: process.platform !== 'linux' }, async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  t.equal(listenerPid(port), process.pid);
  t.ok(processTree(process.ppid).includes(process.pid));
  t.match(commandLine(process.pid), 'bench.test.ts');
  t.ok(residentBytes([process.pid]) > 10e6);
  const before = cpuSeconds([process.pid]);
  const until = performance.now() + 10_000;
  while (cpuSeconds([process.pid]) - before < 0.05 && performance.now() < until) Math.hypot(Math.random());
  t.ok(cpuSeconds([process.pid]) - before >= 0.05, 'work shows');
  t.equal(cpuSeconds([2 ** 30]), 0, 'a process that is gone');
});
