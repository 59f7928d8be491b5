import type { LiveRedis } from '../../gateway/live/connection.js';
import { readDirtyMeters, settleMeters } from '../../gateway/live/meters.js';

const PERIOD_MS = 100;
const METERS_MAX = 1_000;

/**
 * Commits every meter that a gateway reports, as settlement would: without it the journal and the gateway's memory
 * would have to grow with every session. Resolves its `stop` when it has ended.
 */
export function startSettler(redis: LiveRedis, gatewayId: string): { stop: () => Promise<void> } {
  let stopped = false;
  let wake = () => {};
  const loop = (async () => {
    while (!stopped) {
      const dirty = await readDirtyMeters(redis, gatewayId, METERS_MAX);
      const marks = [...dirty].map(([key, { bytesUp, bytesDown, final }]) => ({
        key,
        bytesUp,
        bytesDown,
        final,
      }));
      if (marks.length > 0) await settleMeters(redis, gatewayId, marks);
      await new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, PERIOD_MS);
      });
    }
  })();
  return {
    stop: () => {
      stopped = true;
      wake();
      return loop;
    },
  };
}
