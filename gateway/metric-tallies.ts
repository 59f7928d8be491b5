/** Metrics that are counted for each connection: a plain number each, made into series only when Prometheus asks. */
import { Counter, type Metric, type Registry } from 'prom-client';

interface Described {
  name: string;
  help: string;
  registers: readonly Registry[];
}

/** A counter with one label, whose values are known from the start: what it gives holds a number for each of them. */
export function tallies<V extends string>(
  { name, help, registers }: Described,
  label: string,
  values: readonly V[],
): Record<V, number> {
  const counts = Object.fromEntries(values.map((value) => [value, 0])) as Record<V, number>;
  new Counter({
    name,
    help,
    labelNames: [label],
    registers: [...registers],
    collect() {
      this.reset();
      for (const value of values) this.inc({ [label]: value }, counts[value]);
    },
  });
  return counts;
}

/** One series of a histogram. */
export class Distribution {
  readonly labels: Readonly<Record<string, string>>;
  /** By bucket, those of lower ones left out; the last: above all bounds. */
  readonly counts: number[];
  sum = 0;
  readonly #bounds: readonly number[];

  /** @internal made by TallyHistogram */
  constructor(bounds: readonly number[], labels: Readonly<Record<string, string>>) {
    this.#bounds = bounds;
    this.labels = labels;
    this.counts = new Array(bounds.length + 1).fill(0);
  }

  /** Counts a finite value. */
  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
    this.sum += value;
  }
}

/** A histogram whose series are known from the start: `series` gives each, to be kept by who observes. */
export class TallyHistogram {
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly upperBounds: readonly number[];
  readonly #series: Distribution[] = [];

  /** `label`: left out: one series without a label. */
  constructor({ name, help, registers }: Described, buckets: readonly number[], label?: string) {
    this.name = name;
    this.help = help;
    this.upperBounds = buckets;
    this.labelNames = label === undefined ? [] : [label];
    for (const registry of registers) registry.registerMetric(this as unknown as Metric);
  }

  series(value?: string): Distribution {
    const [label] = this.labelNames;
    const labels = label === undefined || value === undefined ? {} : { [label]: value };
    const series = new Distribution(this.upperBounds, labels);
    this.#series.push(series);
    return series;
  }

  /** As prom-client's registry asks a metric. */
  get(): object {
    const { name, help, type, aggregator } = this;
    const values = this.#series.flatMap(({ labels, counts, sum }) => {
      let count = 0;
      const buckets = counts.map((ofBucket, n) => {
        count += ofBucket;
        const le = this.upperBounds[n] ?? '+Inf';
        return { labels: { le, ...labels }, value: count, metricName: `${name}_bucket` };
      });
      return [
        ...buckets,
        { labels, value: sum, metricName: `${name}_sum` },
        { labels, value: count, metricName: `${name}_count` },
      ];
    });
    return { name, help, type, aggregator, values };
  }
}
