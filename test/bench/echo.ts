import { setTimeout as delay } from 'node:timers/promises';
import { percentile } from './load/statistics.js';
import { type Figures, SETTLE_MS, type Stage } from './phases.js';
import type { ClientCalls } from './protocol.js';
import { startRole } from './role.js';
import type { RunningSystem } from './systems/system.js';

/** Streams without end that the small one has beside it. */
export const BULK_STREAMS = 8;

/**
 * A small stream beside bulk ones, through the same tunnel where there is one: round trips of an echo, one after another.
 * It has a client of its own, else what shows is how busy the client of the bulk streams is. What those move meanwhile is
 * told as well: an echo is quick beside streams that stand still.
 */
export async function echoBesideBulk(
  { client, origin, originAt, options }: Stage,
  system: RunningSystem,
  direction: 'down' | 'up',
): Promise<Figures> {
  const bulkCount = () => (direction === 'down' ? client.call.bulkCount() : origin.call.count());
  const small = startRole<ClientCalls>('client');
  try {
    await client.call.bulkStart(system.route, originAt, direction, BULK_STREAMS);
    await delay(options.bulkWarmMs);
    const before = await bulkCount();
    const load = { bytes: options.echoBytes, durationMs: options.echoMs };
    const timesMs = await small.call.echoes(system.route, originAt, load);
    const after = await bulkCount();
    await client.call.bulkCount(); // a broken stream fails the window
    const gigabytesPerSecond = (after.bytes - before.bytes) / (after.atMs - before.atMs) / 1e6;
    if (gigabytesPerSecond <= 0) throw new Error('the bulk streams stood still');
    return {
      [`echo_${direction}_p50_ms`]: percentile(timesMs, 0.5),
      [`echo_${direction}_p99_ms`]: percentile(timesMs, 0.99),
      [`echo_${direction}_bulk_gb_per_s`]: gigabytesPerSecond,
    };
  } finally {
    await small.stop();
    await client.call.bulkStop();
    await delay(SETTLE_MS);
  }
}
