/** Plain numbers are shown to Prometheus as prom-client shows its own metrics. */
import { Counter, Histogram, Registry } from 'prom-client';
import t from 'tap';
import { TallyHistogram, tallies } from '../../gateway/metric-tallies.js';

const described = (registry: Registry) => ({ name: 'what_total', help: 'What', registers: [registry] });

t.test('a counter', async (t) => {
  const ours = new Registry();
  const theirs = new Registry();
  const counts = tallies(described(ours), 'how', ['one', 'two', 'none']);
  const counter = new Counter({ ...described(theirs), labelNames: ['how'] });
  counts.one++;
  counts.two += 3;
  counter.inc({ how: 'one' });
  counter.inc({ how: 'two' }, 3);
  counter.inc({ how: 'none' }, 0);
  t.equal(await ours.metrics(), await theirs.metrics());
  counts.one++;
  counter.inc({ how: 'one' });
  t.equal(await ours.metrics(), await theirs.metrics(), 'asked again');
});

for (const label of ['way', undefined])
  t.test(`a histogram ${label === undefined ? 'without a label' : 'with one'}`, async (t) => {
    const ours = new Registry();
    const theirs = new Registry();
    const buckets = [0.1, 1, 10];
    const made = new TallyHistogram(described(ours), buckets, label);
    const histogram = new Histogram({
      ...described(theirs),
      buckets,
      labelNames: label === undefined ? [] : [label],
    });
    const ways = label === undefined ? [undefined] : ['up', 'down'];
    for (const way of ways) {
      const series = made.series(way);
      if (way !== undefined) histogram.zero({ way });
      for (const value of way === 'down' ? [] : [0, 0.1, 0.100001, 1, 5, 10, 10.5, 1e9]) {
        series.observe(value);
        if (way === undefined) histogram.observe(value);
        else histogram.observe({ way }, value);
      }
    }
    t.equal(await ours.metrics(), await theirs.metrics());
    const values = async (registry: Registry) =>
      (await registry.getMetricsAsJSON()).map(({ name, type, aggregator, values }) => ({
        name,
        type,
        aggregator,
        values: values.map(({ labels, value, ...more }) => ({ labels, value, ...more })),
      }));
    t.match(await values(ours), JSON.parse(JSON.stringify(await values(theirs))), 'as workers pass them on');
  });
