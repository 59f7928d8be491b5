import type { LiveRedis } from '../live/connection.js';
import { liveKeys } from '../live/keys.js';
import { forgetSettled, reportMeters } from '../live/meters.js';
import type { SettledMark } from '../live/records.js';
import { isBoolean, isCount, isRecordOf, parseJson } from '../live/validation.js';
import type { MeterSink } from './meter-sink.js';

const isMark = isRecordOf<SettledMark>({ bytesUp: isCount, bytesDown: isCount, final: isBoolean });

/** Keys asked for in one HSCAN step. */
const SCAN_COUNT = 200;

/** The live state as the place where meters are delivered. Rejects while Redis is away. */
export function redisMeterSink(redis: LiveRedis): MeterSink {
  return {
    async report(gatewayId, reports) {
      await reportMeters(redis, gatewayId, reports);
    },
    async settled(gatewayId, keys) {
      if (keys.length === 0) return [];
      const texts = await redis.hmget(liveKeys.settled(gatewayId), ...keys);
      // A mark that cannot be read says nothing: the meter is reported again and marked again.
      return texts.map((text) => (text === null ? null : (parseJson(text, isMark) ?? null)));
    },
    forget: (gatewayId, keys) => forgetSettled(redis, gatewayId, keys),
    async marked(gatewayId, cursor) {
      const [next, flat] = await redis.hscan(liveKeys.settled(gatewayId), cursor, 'COUNT', SCAN_COUNT);
      return { cursor: next, keys: flat.filter((_, i) => i % 2 === 0) };
    },
  };
}
