/** The tables of metrics and dashboards are those of the code, and metrics keep to their rules. */
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { dashboardFiles } from '../../deploy/commands/metrics.js';
import { dashboards } from '../../deploy/observe/dashboards/all.js';
import { labelOf, METRIC_LABELS } from '../../deploy/observe/metric-labels.js';
import {
  type DescribedMetric,
  describeMetrics,
  metricTable,
  unitOf,
} from '../../deploy/observe/metric-table.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { recordedIn, ruleText, seriesIn } from '../helpers/prometheus.js';

const read = (path: string) => readFileSync(projectPath(path), 'utf8');

/** Series of one metric in one process at most. */
const SERIES_MAX = 3_000;
/** Labels of Prometheus, of histograms, and of a gateway's workers. */
const TAKEN = new Set(['job', 'instance', 'le', 'quantile', 'worker']);
/** Words that mean one person or one thing. */
const IDENTIFYING = /(^|_)(id|user|buyer|account|provider|device|host|ip|address|token|session)(_|$)/;

/** What of the rules of names and labels a metric breaks. */
function breaches({ name, type, help, labels, buckets }: DescribedMetric): string[] {
  const says: string[] = [];
  if (!/^ts_[a-z0-9]+(_[a-z0-9]+)*$/.test(name)) says.push('name');
  if (/_(ms|millis|milliseconds|kb|mb|percent)(_|$)|_(count|sum|bucket)$/.test(name)) says.push('unit');
  if (name.endsWith('_info') && type !== 'gauge') says.push('unit'); // facts as labels of a 1, as Prometheus has it
  if ((type === 'counter') !== name.endsWith('_total')) says.push('_total');
  if (type === 'histogram' && unitOf(name) === '1') says.push('unit of a histogram');
  if (type === 'summary') says.push('summary');
  if (help.length < 10 || help.endsWith('.')) says.push('help');
  let series = type === 'histogram' ? buckets + 3 : 1;
  for (const label of labels) {
    const known = labelOf(name, label);
    if (known === undefined) says.push(`label ${label} is not told of`);
    if (TAKEN.has(label)) says.push(`label ${label} is taken`);
    if (IDENTIFYING.test(label)) says.push(`label ${label} names somebody`);
    series *= known?.max ?? 1;
  }
  if (series > SERIES_MAX) says.push(`${series} series`);
  return says;
}

t.test('names and labels', async (t) => {
  const ours = describeMetrics().filter(({ name }) => name.startsWith('ts_'));
  t.ok(ours.length > 90, `${ours.length} metrics`);
  for (const metric of ours) t.same(breaches(metric), [], metric.name);
  for (const { label, metrics = [] } of METRIC_LABELS)
    t.ok(
      ours.some(
        ({ name, labels }) => labels.includes(label) && (metrics.length === 0 || metrics.includes(name)),
      ),
      `label ${label} is used`,
    );
  const good = {
    process: 'gateway',
    name: 'ts_x_total',
    type: 'counter',
    help: 'Things that x',
    labels: [],
    buckets: 0,
  } as const;
  const bad: Partial<DescribedMetric>[] = [
    { name: 'x_total' },
    { name: 'ts_x' },
    { name: 'ts_wait_ms_total' },
    { name: 'ts_x_total', type: 'gauge' },
    { name: 'ts_waits', type: 'histogram' },
    { help: '' },
    { labels: ['colour'] },
    { labels: ['route', 'country'] },
  ];
  t.same(breaches({ ...good, labels: [] }), []);
  for (const wrong of bad)
    t.not(breaches({ ...good, labels: [], ...wrong }).length, 0, JSON.stringify(wrong));
});

t.test('deploy/METRICS.md is what `traffic-share metrics` prints', async (t) => {
  t.equal(read('deploy/METRICS.md'), metricTable(), 'node dist/deploy/cli.js metrics > deploy/METRICS.md');
});

t.test('the dashboards are those of the code', async (t) => {
  const files = dashboardFiles();
  t.same(readdirSync(projectPath('deploy/grafana/dashboards')).sort(), files.map(([name]) => name).sort());
  for (const [name, text] of files)
    t.equal(
      read(`deploy/grafana/dashboards/${name}`),
      text,
      'node dist/deploy/cli.js dashboards deploy/grafana/dashboards',
    );
});

t.test('panels name what there is', async (t) => {
  const recorded = recordedIn(ruleText('recording'));
  const exposed = new Set(
    describeMetrics().flatMap(({ name, type }) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
  const all = Object.values(dashboards);
  t.equal(new Set(all.map(({ uid }) => uid)).size, all.length);
  for (const { uid, rows } of all)
    for (const { title, queries } of rows.flatMap(({ panels }) => panels))
      for (const [expr] of queries)
        for (const name of seriesIn(expr))
          t.ok(exposed.has(name) || recorded.has(name), `${uid}, ${title}: ${name}`);
  const text = JSON.stringify(all);
  const unseen = describeMetrics().filter(
    ({ name }) => name.startsWith('ts_') && !text.includes(name) && !ruleText('money').includes(name),
  );
  t.comment(`on no page and in no rule on money: ${unseen.map(({ name }) => name).join(' ')}`);
});
