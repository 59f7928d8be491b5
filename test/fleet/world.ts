import { backoffMs, SOON_BACKOFF } from '../../agent-protocol/agent/backoff.js';
import type { Connected } from '../../gateway/listeners/connect-pipeline.js';
import { ManualClock } from '../../gateway/runtime/clock.js';
import { Random } from '../sim/random.js';
import { ascending, type PhaseFigures, perSecond, quantile } from './figures.js';
import { SimGateway, type SimTunnel } from './gateway.js';
import { drawDevices, SimBuyers, type SimDevice, tunnelOf } from './people.js';
import { FleetRedis } from './redis.js';

export interface FleetOptions {
  devices: number;
  gateways: number;
  connectionsPerSecond: number;
  buyers: number;
  seed: number;
  /** Told about once a second of real time. */
  onProgress?: (text: string) => void;
}

/** Simulated time moves in steps of so many ms. */
const STEP_MS = 10;
/** A balancer asks `/ready` each second and believes the second answer. */
const BALANCER_NOTICES_MS = 2_000;
/** A device needs so long for TCP, TLS, WebSocket and the handshake; half of it at least. */
const CONNECT_MS = 300;
/** How long a connection of a buyer lasts, ms: mostly short, some long. */
const MEAN_LIFE_MS = 4_000;
/** Tunnels end by themselves after so long: networks change, phones sleep. */
const MEAN_TUNNEL_LIFE_MS = 2 * 3_600_000;
/** As `gateway/stopping.ts`: in so many parts, half of the time for the rest. */
const MOVE_PARTS = 10;
const MOVE_MS = 5_000;
const SECOND = 1_000;
const COST_SAMPLES_MAX = 200_000;

type Work = () => unknown;

/** A fleet in simulated time: devices, gateways, a balancer before each, and buyers. */
export class FleetWorld {
  readonly clock = new ManualClock();
  readonly redis = new FleetRedis(this.clock);
  readonly #random: Random;
  readonly #buyers: SimBuyers;
  readonly #devices: SimDevice[];
  readonly #gateways = new Map<string, SimGateway>();
  /** Where each device hangs. */
  readonly #at = new Map<SimDevice, { gateway: SimGateway; tunnel: SimTunnel }>();
  /** Until when a balancer does not know that a gateway is gone or drains. */
  readonly #believedMs = new Map<string, number>();
  /** What balancers choose from; gateways that are gone stay until it is noticed. */
  #targets: SimGateway[] = [];
  readonly #due = new Map<number, Work[]>();
  #gatewaysMade = 0;
  #counts: Record<string, number> = {};
  #costUs: number[] = [];
  #linked = 0;
  #asked = 0;
  #trafficPerStep = 0;
  #saidAtMs = 0;

  constructor(private readonly options: FleetOptions) {
    this.#random = new Random(options.seed);
    this.#buyers = new SimBuyers(options.buyers, this.#random);
    this.#devices = drawDevices(options.devices, this.#random);
    for (let i = 0; i < options.gateways; i++) this.#start();
  }

  get random(): number {
    return this.#random.below(1_000_000) / 1_000_000;
  }

  /** One more gateway, which knows of the others before it serves anybody. */
  async addGateway(): Promise<void> {
    const gateway = this.#start();
    await gateway.directory.refresh();
  }

  #start(): SimGateway {
    const gateway = new SimGateway(`gw-${this.#gatewaysMade++}`, {
      ...{ clock: this.clock, redis: this.redis },
      random: () => this.random,
      logIn: (username) => this.#buyers.logIn(username),
      gateway: (id) => this.#gateways.get(id),
      onAsked: (outcome) => {
        this.#asked++;
        if (outcome === 'OK') this.#linked++;
      },
    });
    this.#gateways.set(gateway.gatewayId, gateway);
    this.#targets.push(gateway);
    const each = (everyMs: number, work: () => Promise<void> | void) => {
      const again = async () => {
        if (this.#gateways.get(gateway.gatewayId) !== gateway) return;
        await work();
        this.#in(everyMs, again);
      };
      this.#in(this.random * everyMs, again);
    };
    each(SECOND, async () => {
      gateway.allocator.sweep();
      await gateway.directory.refresh();
    });
    each(5 * SECOND, () => gateway.refreshPresence());
    each(10 * SECOND, () => gateway.allocator.renew());
    return gateway;
  }

  // ---- what may happen ---------------------------------------------------------------------------------------

  /** All devices come, evenly over so long. */
  arriveWithin(ms: number): void {
    for (const device of this.#devices) this.#in(this.random * ms, () => this.#connect(device));
  }

  startTraffic(): void {
    this.#trafficPerStep = (this.options.connectionsPerSecond * STEP_MS) / SECOND;
  }

  /** kill -9: its devices notice and come back as agents do. Resolves the times at which they were all back. */
  kill(count: number): () => Record<string, number> {
    const killedAtMs = this.clock.monotonicMs();
    const backAtMs: number[] = [];
    let lost = 0;
    for (const gateway of [...this.#gateways.values()].slice(0, count)) {
      this.#gateways.delete(gateway.gatewayId);
      this.#believedMs.set(gateway.gatewayId, killedAtMs + BALANCER_NOTICES_MS);
      for (const tunnel of gateway.tunnels) {
        const device = this.#deviceOf(tunnel);
        if (this.#at.get(device)?.tunnel !== tunnel) continue;
        this.#at.delete(device);
        lost++;
        const back = () => backAtMs.push(this.clock.monotonicMs() - killedAtMs);
        this.#in(backoffMs(0, this.random, SOON_BACKOFF), () => this.#connect(device, back));
      }
    }
    const refusedBefore = this.redis.claimsRefused;
    return () => {
      const sorted = ascending(backAtMs);
      return {
        'devices that lost their gateway': lost,
        'half of them back after, ms': quantile(sorted, 0.5),
        '99 % back after, ms': quantile(sorted, 0.99),
        'all back after, ms': backAtMs.length === lost ? (sorted.at(-1) ?? 0) : Number.NaN,
        'claims that somebody else still held': this.redis.claimsRefused - refusedBefore,
      };
    };
  }

  /** One gateway leaves as at a rolling restart. */
  drain(): () => Record<string, number> {
    const [gateway] = this.#gateways.values();
    if (gateway === undefined) throw new Error('no gateway is left');
    const startMs = this.clock.monotonicMs();
    gateway.draining = true;
    this.#believedMs.set(gateway.gatewayId, startMs + BALANCER_NOTICES_MS);
    const tunnels = [...gateway.tunnels];
    let goneAfterMs = Number.NaN;
    tunnels.forEach((tunnel, i) => {
      const part = Math.floor((i * MOVE_PARTS) / tunnels.length);
      this.#in((part * MOVE_MS) / (2 * MOVE_PARTS), () => this.#move(gateway, tunnel));
    });
    let mostGoneAfterMs = Number.NaN;
    const look = () => {
      if (Number.isNaN(mostGoneAfterMs) && gateway.tunnels.size <= tunnels.length / 100)
        mostGoneAfterMs = this.clock.monotonicMs() - startMs;
      if (gateway.tunnels.size > 0 && this.clock.monotonicMs() - startMs < 30 * SECOND)
        return this.#in(50, look);
      goneAfterMs = this.clock.monotonicMs() - startMs;
      this.#gateways.delete(gateway.gatewayId);
    };
    this.#in(50, look);
    return () => ({
      'devices that were asked to move': tunnels.length,
      '99 % gone after, ms': mostGoneAfterMs,
      'the last gone after, ms': goneAfterMs,
    });
  }

  /** Redis comes back empty; gateways write everything again as soon as they notice. */
  wipeRedis(): void {
    this.redis.wipe();
    for (const gateway of this.#gateways.values())
      this.#in(this.random * 100, async () => {
        await gateway.refreshPresence();
        await gateway.directory.refresh();
        await gateway.allocator.renew();
      });
  }

  // ---- time --------------------------------------------------------------------------------------------------

  /** Goes on for so long and tells what happened. `tell`: what the phase is about. */
  async phase(
    name: string,
    seconds: number,
    tell: () => Record<string, number> = () => ({}),
  ): Promise<PhaseFigures> {
    this.redis.takeUse();
    this.#counts = {};
    this.#costUs = [];
    this.#linked = 0;
    this.#asked = 0;
    const untilMs = this.clock.monotonicMs() + seconds * SECOND;
    while (this.clock.monotonicMs() < untilMs) await this.#step(name, untilMs);
    const gateways = [...this.#gateways.values()];
    const per = ascending(gateways.map((gateway) => gateway.tunnels.size));
    const costs = ascending(this.#costUs);
    const served = this.#counts.OK ?? 0;
    const allocations = gateways.flatMap((gateway) => [...gateway.allocator.all()]);
    return {
      ...{ phase: name, seconds, gateways: gateways.length, devicesOnline: this.#at.size },
      devicesPerGateway: { least: per[0] ?? 0, median: quantile(per, 0.5), most: per.at(-1) ?? 0 },
      connections: this.#counts,
      linkedShare: served === 0 ? 0 : this.#linked / served,
      asked: this.#asked,
      exitsHeld: allocations.length,
      exitsInUse: allocations.filter(({ streams }) => streams > 0).length,
      allocationCpuUs: { p50: quantile(costs, 0.5), p99: quantile(costs, 0.99) },
      redis: perSecond(this.redis.takeUse(), seconds),
      events: tell(),
    };
  }

  async #step(phase: string, untilMs: number): Promise<void> {
    const nowMs = this.clock.monotonicMs();
    const due = this.#due.get(nowMs / STEP_MS);
    this.#due.delete(nowMs / STEP_MS);
    for (const work of due ?? []) await work();
    const traffic = Math.floor(this.#trafficPerStep) + (this.random < this.#trafficPerStep % 1 ? 1 : 0);
    for (let i = 0; i < traffic; i++) await this.#request();
    await this.#churn();
    this.clock.advance(STEP_MS);
    if (performance.now() - this.#saidAtMs < SECOND) return;
    this.#saidAtMs = performance.now();
    this.options.onProgress?.(`${phase}: ${((untilMs - nowMs) / SECOND).toFixed(0)} s left`);
    await new Promise((resolve) => setImmediate(resolve));
  }

  #in(ms: number, work: Work): void {
    const step = Math.max(
      Math.floor((this.clock.monotonicMs() + ms) / STEP_MS),
      this.clock.monotonicMs() / STEP_MS + 1,
    );
    const due = this.#due.get(step);
    if (due) due.push(work);
    else this.#due.set(step, [work]);
  }

  // ---- balancers ---------------------------------------------------------------------------------------------

  /** Those that a balancer takes for alive and serving, right or not. */
  #forget(): void {
    const nowMs = this.clock.monotonicMs();
    const isOver = ({ gatewayId }: SimGateway) =>
      (this.#believedMs.get(gatewayId) ?? Number.POSITIVE_INFINITY) <= nowMs;
    if (this.#targets.some(isOver)) this.#targets = this.#targets.filter((gateway) => !isOver(gateway));
  }

  #anyGateway(): SimGateway {
    this.#forget();
    return this.#random.pick(this.#targets);
  }

  /** Least connections, as balancers are told to do for tunnels. */
  #leastLoaded(): SimGateway {
    this.#forget();
    return this.#targets.reduce((least, one) => (one.tunnels.size < least.tunnels.size ? one : least));
  }

  // ---- devices -----------------------------------------------------------------------------------------------

  readonly #byId = new Map<string, SimDevice>();
  #deviceOf({ deviceId }: SimTunnel): SimDevice {
    if (this.#byId.size === 0) for (const device of this.#devices) this.#byId.set(device.deviceId, device);
    return this.#byId.get(deviceId) as SimDevice;
  }

  async #connect(device: SimDevice, onUp: Work = () => {}): Promise<void> {
    const gateway = this.#leastLoaded();
    if (!this.#serves(gateway) || gateway.draining) {
      device.failures++;
      this.#in(backoffMs(device.failures, this.random, SOON_BACKOFF), () => this.#connect(device, onUp));
      return;
    }
    device.failures = 0;
    const tunnel = tunnelOf(device, this.clock.nowMs());
    this.#at.set(device, { gateway, tunnel });
    await gateway.attach(tunnel);
    onUp();
  }

  #serves(gateway: SimGateway): boolean {
    return this.#gateways.get(gateway.gatewayId) === gateway;
  }

  /** The device is asked to move: it connects elsewhere, then says so here. */
  #move(from: SimGateway, tunnel: SimTunnel): void {
    const device = this.#deviceOf(tunnel);
    if (this.#at.get(device)?.tunnel !== tunnel) return;
    this.#in(CONNECT_MS * (0.5 + this.random / 2), () => this.#connect(device, () => from.moved(tunnel)));
  }

  /** Tunnels that end by themselves; their devices come back at once. */
  async #churn(): Promise<void> {
    const expected = (this.#at.size * STEP_MS) / MEAN_TUNNEL_LIFE_MS;
    const count = Math.floor(expected) + (this.random < expected % 1 ? 1 : 0);
    for (let i = 0; i < count; i++) {
      const device = this.#random.pick(this.#devices);
      const at = this.#at.get(device);
      if (at === undefined) continue;
      at.gateway.detach(at.tunnel);
      this.#at.delete(device);
      this.#in(backoffMs(0, this.random, SOON_BACKOFF) + CONNECT_MS, () => this.#connect(device));
    }
  }

  // ---- buyers ------------------------------------------------------------------------------------------------

  async #request(): Promise<void> {
    const username = this.#buyers.draw();
    const gateway = this.#anyGateway();
    if (!this.#serves(gateway)) return this.#tally('gateway_gone');
    const startMs = performance.now();
    const login = { username, password: 'x', clientAddress: '192.0.2.1' };
    const auth = await gateway.pipeline.authenticate(login);
    if (!auth.ok) return this.#tally(auth.code);
    const answer = gateway.pipeline.connect(auth, { host: 'example.com', port: 443 });
    const outcome = answer instanceof Promise ? await answer : answer;
    if (this.#costUs.length < COST_SAMPLES_MAX) this.#costUs.push((performance.now() - startMs) * 1_000);
    this.#tally(outcome.ok ? 'OK' : outcome.code);
    if (outcome.ok) this.#endLater(outcome);
  }

  #endLater(connection: Connected): void {
    this.#in(-Math.log(1 - this.random) * MEAN_LIFE_MS, () => connection.abandon());
  }

  #tally(code: string): void {
    this.#counts[code] = (this.#counts[code] ?? 0) + 1;
  }
}
