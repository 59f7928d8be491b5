import { CLAIM_TTL_MS } from '../live/claims.js';
import type { GatewayRun } from '../live/records.js';

/** Time after which no claim of a process that has ended can stand, ms; twice as much, for clocks and queues. */
const KEPT_MS = 2 * CLAIM_TTL_MS;

/** Runs of workers whose process has ended, for as long as anything they held in Redis may stand. */
export class EndedRuns {
  /** In the order in which they ended. */
  readonly #runs = new Map<string, { run: GatewayRun; endedAtMs: number }>();

  /** `nowMs`: monotonic. */
  constructor(private readonly nowMs: () => number) {}

  add(run: GatewayRun): void {
    const nowMs = this.nowMs();
    for (const [key, { endedAtMs }] of this.#runs) {
      if (nowMs - endedAtMs < KEPT_MS) break;
      this.#runs.delete(key);
    }
    this.#runs.set(keyOf(run), { run, endedAtMs: nowMs });
  }

  has(run: GatewayRun): boolean {
    return this.#runs.has(keyOf(run));
  }

  all(): GatewayRun[] {
    return [...this.#runs.values()].map(({ run }) => run);
  }
}

function keyOf({ gatewayId, epoch }: GatewayRun): string {
  return `${gatewayId} ${epoch}`;
}
