import { availableParallelism, loadavg } from 'node:os';

/** With so much to do for each core. */
const BUSY_LOAD = 3;
const BUSY_FACTOR = 3;

/** How much longer than on a quiet machine things may take now, where a limit is the product's and not the machine's: 1 or 3. */
export function patience(): 1 | 3 {
  return (loadavg()[0] ?? 0) > BUSY_LOAD * availableParallelism() ? BUSY_FACTOR : 1;
}
