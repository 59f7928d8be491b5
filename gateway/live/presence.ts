/**
 * Which devices hang on which gateway, and which gateways are there: written by gateways, again and again. Of two tunnels of a
 * device the newest counts: `sinceMs` is drawn in Redis when one comes, later than any before, so clocks need not agree.
 */
import type { LiveRedis } from './connection.js';
import { liveKeys, PRESENCE_TTL_MS } from './keys.js';
import type { CommandCall } from './live-redis.js';
import { readMany, sendMany } from './many.js';
import type { DevicePresence, GatewayPresence, GatewayRun } from './records.js';
import { decode, isNetworkType, read } from './store.js';
import { isBoolean, isCount, isMissingOr, isNullOr, isOneOf, isRecordOf, isString } from './validation.js';

/** Keys read or written in one round trip. */
const BATCH = 500;

const isDevicePresence = isRecordOf<DevicePresence>({
  sessionId: isString,
  deviceId: isString,
  providerId: isString,
  country: isString,
  city: isNullOr(isString),
  asn: isNullOr(isCount),
  state: isMissingOr(isNullOr(isString)),
  stateCode: isMissingOr(isNullOr(isString)),
  isp: isMissingOr(isNullOr(isString)),
  networkType: isNetworkType,
  gatewayId: isString,
  exitIp: isString,
  connectedAtMs: isCount,
  sinceMs: isMissingOr(isCount),
  streams: isCount,
  rttMs: (value): value is number => typeof value === 'number',
  status: isOneOf('sharing', 'paused', 'draining'),
});

const isGatewayPresence = isRecordOf<GatewayPresence>({
  gatewayId: isString,
  epoch: isString,
  version: isString,
  startedAtMs: isCount,
  tunnels: isCount,
  streams: isCount,
  draining: isBoolean,
});

// Presence of devices: written by the gateway that holds the tunnel, at PRESENCE_TTL_MS / 3.

/**
 * Writes all given presences and their places in the online set, many in one round trip. `came`: the devices have just opened
 * these tunnels, which makes them the newest whatever other gateways' clocks say. Else one whose device has opened a
 * newer one at another gateway is left out. Resolves to each one's `sinceMs` from now on, in their order; null: left out.
 */
export async function writePresences(
  redis: LiveRedis,
  presences: readonly DevicePresence[],
  nowMs: number,
  came = false,
): Promise<Array<number | null>> {
  const since: Array<number | null> = [];
  for (let i = 0; i < presences.length; i += BATCH) {
    const some = presences.slice(i, i + BATCH);
    const replies = await sendMany(
      redis,
      some.map((presence) => keepDevice(presence, came)),
    );
    const kept = replies.map((reply) => (reply === '' ? null : Number(reply)));
    since.push(...kept);
    const scores = some.flatMap(({ deviceId }, n) =>
      kept[n] === null ? [] : [nowMs + PRESENCE_TTL_MS, deviceId],
    );
    if (scores.length > 0) await redis.zadd(liveKeys.devicesOnline(), ...scores);
  }
  return since;
}

function keepDevice(presence: DevicePresence, came: boolean): CommandCall {
  const { deviceId, gatewayId, connectedAtMs, sinceMs = connectedAtMs } = presence;
  const json = JSON.stringify({ ...presence, sinceMs });
  const ttlMs = String(PRESENCE_TTL_MS);
  return ['keepDevice', liveKeys.device(deviceId), json, ttlMs, gatewayId, String(sinceMs), came ? '1' : '0'];
}

/** `writePresences` of one. */
export async function writePresence(
  redis: LiveRedis,
  presence: DevicePresence,
  nowMs: number,
  came = false,
): Promise<number | null> {
  return (await writePresences(redis, [presence], nowMs, came))[0] as number | null;
}

/** The gateway's tunnel is gone: the device stops being listed before its presence expires, unless another gateway has it. */
export async function deletePresence(redis: LiveRedis, deviceId: string, gatewayId: string): Promise<void> {
  if ((await redis.dropOwn(liveKeys.device(deviceId), 'gatewayId', gatewayId)) === 1)
    await redis.zrem(liveKeys.devicesOnline(), deviceId);
}

export function readPresence(redis: LiveRedis, deviceId: string): Promise<DevicePresence | null> {
  return read(redis, liveKeys.device(deviceId), isDevicePresence);
}

/** Devices present now, in no order. Forgets those that stopped showing signs of life. */
export async function readPresences(redis: LiveRedis, nowMs: number): Promise<DevicePresence[]> {
  const online = liveKeys.devicesOnline();
  await redis.zremrangebyscore(online, '-inf', String(nowMs));
  return readPresencesOf(redis, await redis.zrange(online, '0', '-1'));
}

/** Of these devices those that are present now, in no order. */
export async function readPresencesOf(
  redis: LiveRedis,
  deviceIds: readonly string[],
): Promise<DevicePresence[]> {
  const presences: DevicePresence[] = [];
  for (let i = 0; i < deviceIds.length; i += BATCH) {
    const keys = deviceIds.slice(i, i + BATCH).map((id) => liveKeys.device(id));
    const texts = await readMany(redis, keys);
    keys.forEach((key, n) => {
      const presence = decode(redis, key, texts[n] ?? null, isDevicePresence);
      if (presence) presences.push(presence);
    });
  }
  return presences;
}

/** How many devices are present now. */
export function countPresences(redis: LiveRedis, nowMs: number): Promise<number> {
  return redis.zcount(liveKeys.devicesOnline(), `(${nowMs}`, '+inf');
}

/** Resolves to null, or to the record of a process that began later under the same id, which then stays. */
export async function writeGatewayPresence(
  redis: LiveRedis,
  presence: GatewayPresence,
): Promise<GatewayPresence | null> {
  const { gatewayId, epoch, startedAtMs } = presence;
  const key = liveKeys.gateway(gatewayId);
  const json = JSON.stringify(presence);
  const [held] = await Promise.all([
    redis.keepGateway(key, json, String(PRESENCE_TTL_MS), epoch, String(startedAtMs)),
    redis.sadd(liveKeys.gateways(), gatewayId),
  ]);
  return held === '' ? null : decode(redis, key, held, isGatewayPresence);
}

/** Gateways that are there, by id. */
export async function readGatewayPresences(redis: LiveRedis): Promise<GatewayPresence[]> {
  const ids = await redis.smembers(liveKeys.gateways());
  const presences = await Promise.all(ids.sort().map((id) => readGatewayPresence(redis, id)));
  return presences.filter((presence) => presence !== null);
}

export function readGatewayPresence(redis: LiveRedis, gatewayId: string): Promise<GatewayPresence | null> {
  return read(redis, liveKeys.gateway(gatewayId), isGatewayPresence);
}

/** That run of the gateway has ended; another one's presence stays. */
export async function deleteGatewayPresence(
  redis: LiveRedis,
  { gatewayId, epoch }: GatewayRun,
): Promise<void> {
  await redis.dropOwn(liveKeys.gateway(gatewayId), 'epoch', epoch);
}
