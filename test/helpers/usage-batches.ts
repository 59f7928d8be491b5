import type { LiveRedis } from '../../gateway/live/connection.js';
import {
  type BuyerRefusals,
  type DestinationUsage,
  listUsageBatches,
  readUsageBatch,
  type UsageBatchId,
  type UsageEntry,
} from '../../gateway/live/usage.js';

/** What a gateway has delivered and nobody has booked yet: usage by destination, and refusals. */
export async function usageBatches(
  redis: LiveRedis,
  gatewayId: string,
): Promise<Array<UsageBatchId & { entries: DestinationUsage[]; refusals: BuyerRefusals[] }>> {
  const ids = await listUsageBatches(redis, gatewayId);
  return Promise.all(
    ids.map(async (id) => {
      const all = JSON.parse((await readUsageBatch(redis, gatewayId, id)) ?? '[]') as UsageEntry[];
      return {
        ...id,
        entries: all.filter((entry): entry is DestinationUsage => !('refusals' in entry)),
        refusals: all.filter((entry): entry is BuyerRefusals => 'refusals' in entry),
      };
    }),
  );
}
