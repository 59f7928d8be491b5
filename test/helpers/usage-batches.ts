import type { LiveRedis } from '../../gateway/live/connection.js';
import {
  type DestinationUsage,
  listUsageBatches,
  readUsageBatch,
  type UsageBatchId,
} from '../../gateway/live/usage.js';

/** What a gateway has delivered of usage and nobody has booked yet. */
export async function usageBatches(
  redis: LiveRedis,
  gatewayId: string,
): Promise<Array<UsageBatchId & { entries: DestinationUsage[] }>> {
  const ids = await listUsageBatches(redis, gatewayId);
  return Promise.all(
    ids.map(async (id) => ({
      ...id,
      entries: JSON.parse((await readUsageBatch(redis, gatewayId, id)) ?? '[]') as DestinationUsage[],
    })),
  );
}
