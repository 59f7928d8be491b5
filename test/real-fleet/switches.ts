/** What must be over on every gateway within a second: a suspended buyer, a revoked token, a removed device, a banned user, the brake. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ProxyAddress, RunningTransfer, Traffic } from '../faults/traffic.js';
import { patience } from '../helpers/busy-machine.js';
import { AWAY_BUYER, FLEET_SETTINGS, SWITCHED_BUYER } from './fleet.js';
import type { Phase, Scene } from './phase.js';

/** From the call to the API. */
const SWITCH_MS_MAX = 1_000;
/** Streams of what is switched off, at each gateway. */
const STREAMS = 2;
const STREAM_BYTES_PER_S = 20_000;
const STREAM_S = 60;
/** Between two tries to get in, at each gateway, ms. */
const TRY_INTERVAL_MS = 50;
const TRY_TIMEOUT_MS = 5_000;
/** Looked at so long after it should be over, ms. */
const WATCH_MS = 500;
/** Somebody who must not come in is watched so long, ms. */
const SHUT_MS = 2_500;
const FLOWING_TIMEOUT_MS = 10_000;
/** After Redis is back, everybody else must be served again, ms. */
const SERVED_AGAIN_MS_MAX = 15_000;
/** Between what a gateway may not do any more and that it is seen, ms: a request is let in before it is answered. */
const SLACK_MS = 1_000;
/** As TS_WALLET_WAIT_MS is by default. */
const WALLET_WAIT_MS = 10_000;
/** A stream waits when it has used up what it had leased, and its sender is paced: it comes to that a little after the term. */
const STREAM_SLACK_MS = 3_000;

/** Tries to get in at a gateway again and again. */
class Door {
  readonly #tries: RunningTransfer[] = [];
  #stopped = false;
  readonly #loop: Promise<void>;

  constructor(
    readonly gateway: number,
    traffic: Traffic,
    proxy: ProxyAddress,
    refusalsMax: number,
  ) {
    this.#loop = this.#run(traffic, proxy, refusalsMax);
  }

  async #run(traffic: Traffic, proxy: ProxyAddress, refusalsMax: number): Promise<void> {
    for (let refused = 0; !this.#stopped && refused < refusalsMax; ) {
      const running = traffic.start(proxy, { kind: 'download', sizeBytes: 1, paceBytesPerS: 1e6 });
      this.#tries.push(running);
      const timer = setTimeout(() => running.cut(), TRY_TIMEOUT_MS);
      await running.over;
      clearTimeout(timer);
      if (running.transfer.refusal !== null) refused++;
      await delay(TRY_INTERVAL_MS);
    }
  }

  /** When the last one came in that began after `fromMs`; null: none did. */
  lastInMs(fromMs: number): number | null {
    const opened = this.#tries
      .map(({ transfer }) => transfer)
      .filter(({ openedAtMs, startedAtMs }) => openedAtMs !== null && startedAtMs >= fromMs)
      .map(({ openedAtMs }) => openedAtMs as number);
    return opened.at(-1) ?? null;
  }

  get saidLast(): string {
    return this.#tries.findLast(({ transfer }) => transfer.refusal !== null)?.transfer.refusal ?? 'nothing';
  }

  get cameIn(): boolean {
    return this.#tries.some(({ transfer }) => transfer.openedAtMs !== null);
  }

  stop(): Promise<void> {
    this.#stopped = true;
    return this.#loop;
  }
}

/** Streams and doors of somebody at every gateway. */
class Everywhere {
  private constructor(
    readonly streams: ReadonlyArray<{ gateway: number; running: RunningTransfer }>,
    readonly doors: readonly Door[],
  ) {}

  /** Resolves when bytes flow and somebody came in at each. */
  static async start(
    scene: Scene,
    proxyAt: (gateway: number) => ProxyAddress,
    refusalsMax: number,
  ): Promise<Everywhere> {
    const { fleet, own } = scene;
    const gateways = fleet.system.gateways.map((_, n) => n);
    const streams = gateways.flatMap((gateway) =>
      Array.from({ length: STREAMS }, () => ({
        gateway,
        running: own.start(proxyAt(gateway), {
          kind: 'download',
          sizeBytes: STREAM_BYTES_PER_S * STREAM_S,
          paceBytesPerS: STREAM_BYTES_PER_S,
        }),
      })),
    );
    const doors = gateways.map((gateway) => new Door(gateway, own, proxyAt(gateway), refusalsMax));
    const all = new Everywhere(streams, doors);
    const endMs = performance.now() + FLOWING_TIMEOUT_MS;
    while (!all.flows) {
      if (performance.now() > endMs) {
        const said = streams.map(({ running }) => running.transfer.refusal ?? running.transfer.state);
        await all.stop();
        throw new Error(`no traffic at every gateway: ${said.join(', ')}`);
      }
      await delay(20);
    }
    return all;
  }

  get flows(): boolean {
    return (
      this.streams.every(({ running }) => running.transfer.downBytes > STREAM_BYTES_PER_S / 4) &&
      this.doors.every(({ cameIn }) => cameIn)
    );
  }

  get live(): number {
    return this.streams.filter(({ running }) => running.transfer.state === 'running').length;
  }

  /** Resolves when no stream is left, or `timeoutMs` are over. */
  async untilCut(timeoutMs: number): Promise<void> {
    await Promise.race([Promise.all(this.streams.map(({ running }) => running.over)), delay(timeoutMs)]);
  }

  /** From `fromMs` until the last stream was cut, ms; infinite while one lives. */
  cutAfterMs(fromMs: number): number {
    return Math.max(
      ...this.streams.map(({ running }) => (running.transfer.endedAtMs ?? Number.POSITIVE_INFINITY) - fromMs),
    );
  }

  /** From `fromMs` until the last one came in, at any gateway, ms; 0: nobody did. */
  inAfterMs(fromMs: number): number {
    return Math.max(0, ...this.doors.map((door) => (door.lastInMs(fromMs) ?? fromMs) - fromMs));
  }

  async stop(): Promise<void> {
    const closing = Promise.all(this.doors.map((door) => door.stop()));
    for (const { running } of this.streams) running.cut();
    await closing;
  }
}

/** Calls the API while somebody's traffic runs everywhere, and judges when it was over. */
async function switchOff(
  scene: Scene,
  what: string,
  proxyAt: (gateway: number) => ProxyAddress,
  call: () => Promise<unknown>,
  { maySoonReturn = false, refusalsMax = Number.POSITIVE_INFINITY } = {},
): Promise<void> {
  const everywhere = await Everywhere.start(scene, proxyAt, refusalsMax);
  const afterMsMax = SWITCH_MS_MAX * patience();
  scene.strike();
  const calledMs = performance.now();
  await call();
  await everywhere.untilCut(afterMsMax + WATCH_MS);
  await delay(Math.max(0, afterMsMax + WATCH_MS - (performance.now() - calledMs)));
  const [cutMs, inMs] = [everywhere.cutAfterMs(calledMs), everywhere.inAfterMs(calledMs)];
  const said = [...new Set(everywhere.doors.map(({ saidLast }) => saidLast))].join(', ');
  scene.note(
    `${what}: streams ended after ${Math.round(cutMs)} ms` +
      (maySoonReturn ? '' : `, last let in after ${Math.round(inMs)} ms, then ${said}`),
  );
  if (cutMs > afterMsMax) scene.fail(`${what}: a stream lived for ${Math.round(cutMs)} ms`);
  if (!maySoonReturn && inMs > afterMsMax) scene.fail(`${what}: let in after ${Math.round(inMs)} ms`);
  await everywhere.stop();
}

/** At every gateway the same session of a buyer who insists on its device; resolves to that, once it is known. */
async function strictSession(scene: Scene, name: string) {
  const { fleet, own } = scene;
  const options = `-session-${name}-strict-1-ttl-1`;
  const endMs = performance.now() + FLOWING_TIMEOUT_MS;
  // Buyers who rotate may hold all that are free, until their streams have ended.
  while (!(await own.probe(fleet.proxy(SWITCHED_BUYER, options, 0), TRY_TIMEOUT_MS)))
    if (performance.now() > endMs) throw new Error(`no device for session ${name}`);
  const place = await fleet.placeOf(SWITCHED_BUYER, name);
  const device = fleet.system.devices.find(({ deviceId }) => deviceId === place?.deviceId);
  if (!device) throw new Error(`nobody knows the device of session ${name}`);
  return { device, proxyAt: (gateway: number) => fleet.proxy(SWITCHED_BUYER, options, gateway) };
}

/** Waits until the device's agent has ended, with that code. */
async function agentEnds({ fleet, fail }: Scene, deviceId: string, codes: readonly string[]): Promise<void> {
  const endMs = performance.now() + FLOWING_TIMEOUT_MS;
  for (;;) {
    const code = (await fleet.agents()).ended[deviceId];
    if (code !== undefined) {
      if (!codes.includes(code)) fail(`the agent ended with ${code}`);
      return;
    }
    if (performance.now() > endMs) return fail('the agent goes on');
    await delay(50);
  }
}

/** One round of everything that must be over within a second; two devices of the fleet are gone after it. */
export function switches(round: number): Phase {
  return {
    name: 'suspended, revoked, removed, banned, the brake',
    async run(scene) {
      const { fleet } = scene;
      scene.mayCut(); // the brake is for all
      const buyer = fleet.buyer(SWITCHED_BUYER);
      const own = (gateway: number) => fleet.proxy(SWITCHED_BUYER, '', gateway);
      const setStatus = (status: string) =>
        fleet.asAdmin(`/api/admin/buyers/${buyer.id}`, { status }, 'PATCH');

      await switchOff(scene, 'buyer suspended', own, () => setStatus('suspended'));
      await setStatus('active');

      const token = await fleet.asAdmin(`/api/admin/buyers/${buyer.id}/tokens`, {});
      const byToken = (gateway: number) => ({ ...own(gateway), password: String(token.token) });
      await switchOff(
        scene,
        'token revoked',
        byToken,
        () => fleet.asAdmin(`/api/admin/tokens/${token.id ?? token.token_id}/revoke`, {}),
        // Wrong logins of an address make it wait on that account, and the next switches are this buyer's.
        { refusalsMax: 2 },
      );

      const removed = await strictSession(scene, `removed${round}`);
      await switchOff(scene, 'device removed', removed.proxyAt, () =>
        fleet.asAdmin(
          `/api/user/devices/${removed.device.deviceId}`,
          undefined,
          'DELETE',
          removed.device.ownerToken,
        ),
      );
      await agentEnds(scene, removed.device.deviceId, ['stopped', 'invalid_token']);

      const banned = await strictSession(scene, `banned${round}`);
      await switchOff(scene, 'user banned', banned.proxyAt, () =>
        fleet.asAdmin(`/api/admin/user/${banned.device.userId}/ban`, { reason: 'the fleet test' }),
      );
      await agentEnds(scene, banned.device.deviceId, ['banned']);

      await switchOff(
        scene,
        'the brake on everything',
        own,
        () => fleet.asAdmin('/api/admin/kill', { scope: 'all', reason: 'the fleet test' }),
        { maySoonReturn: true },
      );
    },
  };
}

/** All nodes of Redis are killed, and a buyer is suspended meanwhile: no gateway hears of it, and all let nobody in before long. */
export function redisAway(): Phase {
  const [termMs, walletTermMs] = [
    Number(FLEET_SETTINGS.TS_SNAPSHOT_TERM_MS),
    Number(FLEET_SETTINGS.TS_WALLET_TERM_MS),
  ];
  return {
    name: 'Redis stopped, a buyer suspended, Redis back empty',
    async run(scene) {
      const { fleet, note, fail } = scene;
      const buyer = fleet.buyer(AWAY_BUYER);
      const all = await Everywhere.start(
        scene,
        (gateway) => fleet.proxy(AWAY_BUYER, '', gateway),
        Number.POSITIVE_INFINITY,
      );
      scene.mayCut(); // what was set aside for a buyer may be used for so long, and no longer
      scene.strike();
      const awayMs = performance.now();
      await fleet.killRedis();
      await fleet
        .asAdmin(`/api/admin/buyers/${buyer.id}`, { status: 'suspended' }, 'PATCH')
        .catch((error: Error) => fail(`suspending without Redis: ${error.message}`));
      note(`the API took ${Math.round(performance.now() - awayMs)} ms to suspend`);
      await all.untilCut(walletTermMs + WALLET_WAIT_MS + STREAM_SLACK_MS);
      const [cutMs, inMs] = [all.cutAfterMs(awayMs), all.inAfterMs(awayMs)];
      note(
        `last let in ${Math.round(inMs)} ms after Redis was gone (term ${termMs}), streams ended after ${Math.round(cutMs)} ms`,
      );
      if (inMs > termMs + SLACK_MS * patience()) fail(`let in ${Math.round(inMs)} ms after Redis was gone`);
      if (cutMs > walletTermMs + WALLET_WAIT_MS + STREAM_SLACK_MS)
        fail(`a stream lived for ${Math.round(cutMs)} ms`);

      await fleet.startRedis();
      const backMs = performance.now();
      await served(scene, backMs);
      scene.excuse(awayMs, performance.now());
      const after = performance.now();
      await delay(SHUT_MS);
      const inAgain = all.doors.map((door) => door.lastInMs(backMs)).filter((ms) => ms !== null);
      if (inAgain.length > 0)
        fail(
          `the suspended buyer came in ${Math.round((inAgain[0] as number) - backMs)} ms after Redis came back`,
        );
      note(
        `served again ${Math.round(after - backMs)} ms after Redis came back, the suspended buyer: ${all.doors[0]?.saidLast}`,
      );
      await all.stop();
    },
  };
}

/** Resolves when buyers are served at every gateway. */
async function served({ fleet, own, fail }: Scene, sinceMs: number): Promise<void> {
  const waiting = new Set(fleet.system.gateways.map((_, n) => n));
  while (waiting.size > 0) {
    for (const gateway of waiting)
      if (await own.probe(fleet.proxy(0, '', gateway), SLACK_MS)) waiting.delete(gateway);
    if (performance.now() - sinceMs > 2 * SERVED_AGAIN_MS_MAX) break;
    await delay(50);
  }
  const tookMs = performance.now() - sinceMs;
  if (tookMs > SERVED_AGAIN_MS_MAX) fail(`served again ${Math.round(tookMs)} ms after Redis came back`);
}
