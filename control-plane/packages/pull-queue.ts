import {
  type AllocateDeps,
  type AllocatedPackage,
  allocateForAll,
  type PackageTaker,
  type PullFilter,
  type PullRequest,
} from './allocate.js';

/** Packages of one transaction; a single request may ask for as many. */
const BATCH_PACKAGES_MAX = 100;
/** Transactions of one filter at once: one waits for Redis or the commit while the other looks. */
const RUNNING_MAX = 2;

interface Waiting extends PullRequest {
  resolve: (packages: AllocatedPackage[]) => void;
  reject: (error: unknown) => void;
}

interface Line {
  filter: PullFilter;
  waiting: Waiting[];
  running: number;
}

/**
 * Pulls of many buyers as few transactions. Whoever pulls while none is under way is served at once; those who come
 * meanwhile and ask for the same wait for its end and are served together, in the order in which they came. Under load
 * that saves most of the work: each would else step over the rows that all the others have locked.
 */
export class PullQueue {
  readonly #lines = new Map<string, Line>();

  constructor(
    private readonly deps: AllocateDeps,
    /** How long a pulled package may stay unused, ms. */
    private readonly ttlMs: number,
  ) {}

  /** Up to `countMax` packages for the taker; rejects as `allocatePackages` does. */
  pull(taker: PackageTaker, filter: PullFilter, countMax: number): Promise<AllocatedPackage[]> {
    const key = JSON.stringify(filter, (_, value) => (typeof value === 'bigint' ? value.toString() : value));
    const line = this.#lines.get(key) ?? { filter, waiting: [], running: 0 };
    this.#lines.set(key, line);
    return new Promise((resolve, reject) => {
      line.waiting.push({ taker, countMax, resolve, reject });
      this.#serve(key, line);
    });
  }

  #serve(key: string, line: Line): void {
    if (line.waiting.length === 0 && line.running === 0) this.#lines.delete(key);
    if (line.waiting.length === 0 || line.running >= RUNNING_MAX) return;
    const batch: Waiting[] = [];
    let packages = 0;
    for (let next = line.waiting[0]; next !== undefined; next = line.waiting[0]) {
      if (batch.length > 0 && packages + next.countMax > BATCH_PACKAGES_MAX) break;
      packages += next.countMax;
      batch.push(next);
      line.waiting.shift();
    }
    line.running++;
    void allocateForAll(this.deps, batch, line.filter, this.ttlMs)
      .then(
        (all) => {
          for (const [i, one] of batch.entries()) one.resolve(all[i] ?? []);
        },
        (error: unknown) => {
          for (const one of batch) one.reject(error);
        },
      )
      .finally(() => {
        line.running--;
        this.#serve(key, line);
      });
  }
}
