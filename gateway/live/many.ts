import type { CommandCall, LiveRedis } from './live-redis.js';

/** Gives all commands at once and throws the first error among their replies. */
export async function sendMany(redis: LiveRedis, calls: readonly CommandCall[]): Promise<unknown[]> {
  return (await redis.sendAll(calls)).map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
}

/** Values of keys of any hash tags, in their order. */
export async function readMany(redis: LiveRedis, keys: readonly string[]): Promise<Array<string | null>> {
  return (await sendMany(
    redis,
    keys.map((key) => ['get', key]),
  )) as Array<string | null>;
}
