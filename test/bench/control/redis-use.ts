import { setTimeout as delay } from 'node:timers/promises';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { bulk, connectRate, type Figures, type Stage } from '../phases.js';
import type { RunningSystem } from '../systems/system.js';

/** Streams of the bulk window. */
const STREAMS = 8;

interface Used {
  commands: number;
  bytes: number;
  atMs: number;
}

/** Commands that Redis has served, those that scripts call included, and bytes in and out, since its start. */
async function used(redis: LiveRedis): Promise<Used> {
  const text = await redis.info('stats');
  const value = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1]);
  return {
    commands: value('total_commands_processed'),
    bytes: value('total_net_input_bytes') + value('total_net_output_bytes'),
    atMs: performance.now(),
  };
}

/**
 * What the running system asks of its Redis: at rest (one gateway, one device, one control plane), for 1 000 new
 * connections, and for a GB; the last two less what rest would have cost meanwhile.
 */
export async function measureRedisUse(
  stage: Stage,
  system: RunningSystem,
  redis: LiveRedis,
  restMs: number,
): Promise<Figures> {
  const window = async (work: () => Promise<unknown>) => {
    const before = await used(redis);
    await work();
    const after = await used(redis);
    return {
      commands: after.commands - before.commands,
      bytes: after.bytes - before.bytes,
      seconds: (after.atMs - before.atMs) / 1_000,
    };
  };
  const rest = await window(() => delay(restMs));
  const commandsAtRest = rest.commands / rest.seconds;

  let connections = 0;
  const connecting = await window(async () => {
    const figures = await connectRate(stage, system);
    connections = ((figures.connections_per_s as number) * stage.options.connectMs) / 1_000;
  });
  let gigabytes = 0;
  const relaying = await window(async () => {
    const figures = await bulk(stage, system, 'down', STREAMS);
    const { bulkMs, bulkWarmMs } = stage.options;
    gigabytes = ((figures[`down_${STREAMS}_gb_per_s`] as number) * (bulkMs + bulkWarmMs)) / 1_000;
  });
  const beyondRest = ({ commands, seconds }: typeof rest) => commands - commandsAtRest * seconds;
  return {
    redis_rest_commands_per_s: commandsAtRest,
    redis_rest_bytes_per_s: rest.bytes / rest.seconds,
    redis_commands_per_1000_connections: (beyondRest(connecting) * 1_000) / connections,
    redis_commands_per_gb: beyondRest(relaying) / gigabytes,
  };
}
