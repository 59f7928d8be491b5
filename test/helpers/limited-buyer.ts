/** A buyer who opens connections at several gateways of a rig, and what these tell each other of it. */
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Gateway } from '../../gateway/gateway-contract.js';
import { liveKeys } from '../../gateway/live/keys.js';
import type { AccountSnapshot } from '../../gateway/live/records.js';
import { writeAccount } from '../../gateway/live/store.js';
import type { GatewayRig } from './gateway.js';
import { PlainDevice } from './plain-device.js';
import { socksConnect } from './socks-client.js';

/** How often gateways tell. */
export const INTERVAL_MS = 500;
/** General failure: CONN_LIMIT and RATE_LIMIT. */
export const LIMITED = 1;

let lastId = 0;
/** Another buyer with the rig's password. */
export async function buyer(
  rig: GatewayRig,
  limits: Partial<AccountSnapshot['limits']>,
): Promise<AccountSnapshot> {
  lastId++;
  const made: AccountSnapshot = {
    ...rig.account,
    account: `acc${lastId}x`,
    buyerId: `b0000000-0000-4000-8000-${String(lastId).padStart(12, '0')}`,
    limits: { ...rig.account.limits, ...limits },
  };
  await writeAccount(rig.redis, made);
  return made;
}

export async function echoDevice(t: Test, rig: GatewayRig, at: Pick<Gateway, 'tunnelPort'>, country = 'US') {
  const { text } = await rig.ticket({ country });
  const device = await PlainDevice.connect(at.tunnelPort, text, { 'x-forwarded-for': '127.0.0.1' });
  t.teardown(() => device.socket.terminate());
  await device.greet();
  device.echo();
  return device;
}

export interface Asked {
  socket: Socket;
  reply: number | null;
}

/** One connection; a refused one is closed. */
export async function open(
  rig: GatewayRig,
  at: Pick<Gateway, 'proxyPort'>,
  { account }: AccountSnapshot,
  more = '',
): Promise<Asked> {
  const { socket, reply } = await socksConnect({
    ...{ proxyPort: at.proxyPort, username: `${account}${more}`, password: rig.password },
    ...{ host: 'example.org', port: 443 },
  });
  if (reply !== 0) socket.destroy();
  else socket.resume();
  return { socket, reply };
}

export const openMany = (
  count: number,
  rig: GatewayRig,
  at: Pick<Gateway, 'proxyPort'>,
  who: AccountSnapshot,
  more = '',
) => Promise.all(Array.from({ length: count }, () => open(rig, at, who, more)));

export const served = (asked: readonly Asked[]) => asked.filter(({ reply }) => reply === 0);

export async function until(probe: () => unknown, what: string, withinMs = 20_000): Promise<number> {
  const startMs = performance.now();
  for (;;) {
    if (await probe()) return performance.now() - startMs;
    if (performance.now() - startMs > withinMs) throw new Error(`never: ${what}`);
    await delay(20);
  }
}

/** Live streams by gateway, as they tell each other. */
export async function told(
  { redis }: GatewayRig,
  { buyerId }: AccountSnapshot,
): Promise<Record<string, number>> {
  const records = Object.entries(await redis.hgetall(liveKeys.limitUse(buyerId)));
  return Object.fromEntries(records.map(([id, text]) => [id, Number(text.split(' ')[1])]));
}
export const sum = (counts: Record<string, number>) =>
  Object.values(counts).reduce((all, one) => all + one, 0);

/** A way in: a gateway, and what the username says beside the account. */
export type Way = readonly [at: Pick<Gateway, 'proxyPort'>, more?: string];

/**
 * The buyer has some ten streams of ten allowed: closes down to six, waits until that is known, and opens one at a time by
 * each way in turn, when the one before is known, until none is let in any more anywhere.
 */
export async function thenExactly(
  t: Test,
  rig: GatewayRig,
  ways: readonly Way[],
  who: AccountSnapshot,
  live: Asked[],
): Promise<void> {
  for (const { socket } of live.splice(6)) socket.destroy();
  /** The gateways have heard as well: each asks once an interval. */
  const known = async () => {
    await until(async () => sum(await told(rig, who)) === live.length, `${live.length} are known`);
    await delay(2 * INTERVAL_MS);
  };
  await known();
  for (let i = 0; live.length < 10; i++) {
    const [at, more] = ways[i % ways.length] as Way;
    const asked = await open(rig, at, who, more);
    t.equal(asked.reply, 0, `${live.length} of ten are open`);
    if (asked.reply !== 0) break;
    live.push(asked);
    await known();
  }
  for (const [at, more] of ways)
    for (const { reply } of await openMany(5, rig, at, who, more)) t.equal(reply, LIMITED, 'ten are open');
  t.ok(
    live.every(({ socket }) => !socket.destroyed),
    'exactly ten',
  );
  for (const { socket } of live) socket.destroy();
}
