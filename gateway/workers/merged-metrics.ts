import { AggregatorRegistry, Counter, Gauge, Registry } from 'prom-client';

/** All metrics of one process. */
export type ProcessMetrics = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/**
 * The metrics of all workers as one text, each series with the label `worker`: a worker that starts anew then is a counter
 * that starts anew, as Prometheus knows it, and not a sum that falls.
 */
function mergedMetrics(of: ReadonlyMap<number, ProcessMetrics>): Promise<string> {
  const labelled = [...of].map(([worker, metrics]) =>
    metrics.map((metric) => ({
      ...metric,
      // With that label no two series are one: nothing is ever added up.
      aggregator: 'sum',
      values: metric.values.map((value) => ({
        ...value,
        labels: { ...value.labels, worker: String(worker) },
      })),
    })),
  );
  return AggregatorRegistry.aggregate(labelled).metrics();
}

/** How a worker is: what it can not tell itself. */
export interface WorkerState {
  serves: boolean;
  /** Times it was started again since the parent began. */
  restarts: number;
}

/** Shows how a worker is, in a registry of its own: the label `worker` comes with the others. */
export function exposeWorker(registry: Registry, { serves, restarts }: WorkerState): void {
  const registers = [registry];
  const up = new Gauge({
    name: 'ts_worker_up',
    help: '1: the worker takes connections; only with several',
    registers,
  });
  up.set(serves ? 1 : 0);
  const restarted = new Counter({
    name: 'ts_worker_restarts_total',
    help: 'Times the worker ended unasked and was started again; only with several',
    registers,
  });
  restarted.inc(restarts);
}

/** The metrics of all workers, and how each worker is, as one text for Prometheus. */
export async function workersMetrics(
  of: ReadonlyMap<number, ProcessMetrics>,
  states: ReadonlyMap<number, WorkerState>,
): Promise<string> {
  const all = new Map(of);
  for (const [worker, state] of states) {
    const own = new Registry();
    exposeWorker(own, state);
    all.set(worker, [...(of.get(worker) ?? []), ...(await own.getMetricsAsJSON())]);
  }
  return mergedMetrics(all);
}
