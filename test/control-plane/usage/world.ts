import { randomBytes, randomUUID } from 'node:crypto';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { type DestinationUsage, deliverUsage } from '../../../gateway/live/usage.js';

export const newRun = () => randomBytes(12).toString('hex');

/** One entry as a gateway would tell it. */
export function usage(
  fields: Partial<DestinationUsage> & Pick<DestinationUsage, 'sessionId' | 'buyerId'>,
): DestinationUsage {
  const nowMs = Date.now();
  return {
    allocationId: randomUUID(),
    subUserId: null,
    host: 'www.example.com',
    port: 443,
    tag: null,
    sessionName: null,
    bytesUp: 10,
    bytesDown: 100,
    streams: 1,
    firstAtMs: nowMs,
    lastAtMs: nowMs,
    ...fields,
  };
}

/** A gateway's run that delivers batches in order. */
export class TestRun {
  readonly run = newRun();
  seq = 0;
  constructor(
    readonly redis: LiveRedis,
    readonly gatewayId = 'gw-usage',
  ) {}

  /** Delivers a batch; `seq` given: under that number (again). Resolves to its number. */
  async deliver(entries: readonly unknown[], seq = ++this.seq): Promise<number> {
    await deliverUsage(this.redis, this.gatewayId, { run: this.run, seq }, JSON.stringify(entries));
    return seq;
  }
}
