/** How meters leave the gateway: a part of `gateway.ts`. */
import type { GatewayConfig } from './config.js';
import type { LiveRedis } from './live/connection.js';
import { directMeterSink, failoverMeterSink } from './metering/direct-sink.js';
import type { MeteringSettings } from './metering/limits.js';
import type { MeterSink } from './metering/meter-sink.js';
import { redisMeterSink } from './metering/redis-sink.js';
import type { Clock } from './runtime/clock.js';
import type { Log } from './runtime/logging.js';

/**
 * Redis, and straight to settlement while it is away when that way is configured; at once when an earlier run has left
 * something.
 */
export function meterSinkOf(
  config: GatewayConfig,
  settings: Pick<MeteringSettings, 'deliveryTimeoutMs'>,
  deps: { redis: LiveRedis; clock: Clock; log: Log; leftBehind: boolean },
): MeterSink {
  const { redis, clock, log, leftBehind: atOnce } = deps;
  const live = redisMeterSink(redis);
  const { controlPlaneUrl, internalSecret: secret, directAfterMs } = config;
  if (controlPlaneUrl === null || secret === null) return live;
  const direct = directMeterSink({ controlPlaneUrl, secret, timeoutMs: settings.deliveryTimeoutMs });
  return failoverMeterSink({ redis: live, direct, directAfterMs, atOnce, clock, log });
}
