import { setTimeout as delay } from 'node:timers/promises';
import { type Figures, SETTLE_MS, type Stage } from './phases.js';
import { cpuSeconds } from './processes.js';
import type { Count } from './protocol.js';
import type { RunningSystem } from './systems/system.js';

/** Delay of the line, each way: 50 ms for a round trip. */
export const LINE_DELAY_MS = 25;
/** What a stream over a long line is to reach of its rate; also what counts as grown. */
export const SHARE_PERCENT_MIN = 90;
/** How often the bytes are counted while windows grow. */
const SAMPLE_MS = 50;
/** A rate is that of so many samples: a line delivers in bursts. */
const RATE_SAMPLES = 5;

/**
 * One stream over a line of this rate and a long delay. First windows grow, then is measured: payload as a share of what
 * the line carries, the time the stream took to SHARE_PERCENT_MIN (null: it never came there), and CPU of the line itself,
 * which must not be what is measured.
 */
export async function longLine(
  { client, origin, originAt, options }: Stage,
  system: RunningSystem,
  direction: 'down' | 'up',
  megabitsPerSecond: number,
): Promise<Figures> {
  const { line } = system;
  if (line === undefined) throw new Error('no line to measure on');
  const count = (): Promise<Count> => (direction === 'down' ? client.call.bulkCount() : origin.call.count());
  const lineCpu = () => cpuSeconds([line.pid]);
  await line.call.setRate(megabitsPerSecond);
  try {
    await client.call.bulkStart(system.route, originAt, direction, 1);
    const samples = [await count()];
    const first = samples[0] as Count;
    for (let last = first; last.atMs - first.atMs < options.delayWarmMs; ) {
      await delay(SAMPLE_MS);
      last = await count();
      samples.push(last);
    }
    const before = { count: await count(), cpu: lineCpu() };
    await delay(options.delayMs);
    const after = { count: await count(), cpu: lineCpu() };
    await client.call.bulkCount(); // a broken stream fails the window
    const seconds = (after.count.atMs - before.count.atMs) / 1_000;
    const grownMs = timeToGrow(samples, megabitsPerSecond);
    const name = `delay_${megabitsPerSecond}_${direction}`;
    return {
      [`${name}_percent`]: sharePercent(before.count, after.count, megabitsPerSecond),
      [`${name}_grown_s`]: grownMs === null ? null : grownMs / 1_000,
      [`${name}_line_cpu_percent`]: ((after.cpu - before.cpu) / seconds) * 100,
    };
  } finally {
    await client.call.bulkStop();
    await delay(SETTLE_MS);
  }
}

/** What was moved between two counts, in percent of what a line of this rate carries. */
function sharePercent(from: Count, to: Count, megabitsPerSecond: number): number {
  const megabits = ((to.bytes - from.bytes) * 8) / 1e6;
  return (megabits / ((to.atMs - from.atMs) / 1_000) / megabitsPerSecond) * 100;
}

/** Time from the first sample to the end of the first RATE_SAMPLES at SHARE_PERCENT_MIN of the line's rate; null: none. */
export function timeToGrow(samples: readonly Count[], megabitsPerSecond: number): number | null {
  const [first] = samples;
  if (first === undefined) return null;
  for (let i = RATE_SAMPLES; i < samples.length; i++) {
    const [from, to] = [samples[i - RATE_SAMPLES] as Count, samples[i] as Count];
    if (sharePercent(from, to, megabitsPerSecond) >= SHARE_PERCENT_MIN) return to.atMs - first.atMs;
  }
  return null;
}
