import { Counter, Histogram, type Registry } from 'prom-client';
import { type ProblemCode, problems } from './errors.js';

/** An answer of the API. */
export interface Answered {
  /** Method and pattern of the route (`GET /api/users/:id`), never an address; null: there is no such route. */
  route: string | null;
  status: number;
  durationMs: number;
  /** Of the problem that was answered. */
  problem: ProblemCode | null;
}

/** A request that no route fits. */
const NO_ROUTE = 'none';

/**
 * What is measured where it happens, not read when Prometheus asks. Made before the services that tell it;
 * `ControlPlaneMetrics` exposes it.
 */
export class Measures {
  readonly #requests = new Counter({
    name: 'ts_api_requests_total',
    help: 'Requests of the API that were answered, by route and class of the status',
    labelNames: ['route', 'status'],
    registers: [],
  });
  readonly #durations = new Histogram({
    name: 'ts_api_request_seconds',
    help: 'Time from the request to its whole answer, by route; streams of events are left out',
    labelNames: ['route'],
    buckets: [0.005, 0.02, 0.05, 0.1, 0.3, 1, 3, 10],
    registers: [],
  });
  readonly #problems = new Counter({
    name: 'ts_api_problems_total',
    help: 'Problems that the API answered with, by code',
    labelNames: ['code'],
    registers: [],
  });
  readonly #lag = new Histogram({
    name: 'ts_settlement_lag_seconds',
    help: 'From the latest byte that a report tells of to its commit in the ledger; once a batch, the oldest in it',
    buckets: [0.3, 0.6, 1, 1.5, 2, 3, 5, 10, 30, 120, 600],
    registers: [],
  });

  constructor() {
    this.#requests.inc({ route: NO_ROUTE, status: '4xx' }, 0);
    for (const code of Object.keys(problems)) this.#problems.inc({ code }, 0);
  }

  /** To be shown by this registry. */
  expose(registry: Registry): void {
    for (const metric of [this.#requests, this.#durations, this.#problems, this.#lag])
      registry.registerMetric(metric as Parameters<Registry['registerMetric']>[0]);
  }

  /** The API has answered a request. */
  answered({ route, status, durationMs, problem }: Answered): void {
    const of = route ?? NO_ROUTE;
    this.#requests.inc({ route: of, status: `${Math.floor(status / 100)}xx` });
    this.#durations.observe({ route: of }, durationMs / 1_000);
    if (problem !== null) this.#problems.inc({ code: problem });
  }

  /** Settlement has committed meters whose latest bytes were counted at these times, ms since the Unix epoch. */
  settled(activeAtMs: readonly number[], nowMs: number): void {
    const oldestMs = Math.min(nowMs, ...activeAtMs);
    this.#lag.observe((nowMs - oldestMs) / 1_000);
  }
}
