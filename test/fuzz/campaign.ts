import { setTimeout as delay } from 'node:timers/promises';
import { openAssociations, servedWell } from './bystander.js';
import type { GatewayReading } from './gateway-process.js';
import { generate, isParser } from './generate.js';
import { type Kind, type ParserInput, type SocketInput, seedOfLabel } from './input.js';
import { parserProblem } from './parsers.js';
import { Player } from './player.js';
import { type Profile, World } from './world.js';

/** Seeds that are played together and then looked at; batches begin at its multiples. */
export const BATCH_INPUTS = 2_000;
/** Every so many batches one meets a gateway with its defences as they are by default. */
const DEFAULTS_EVERY = 10;
/** Clients at once. */
const CLIENTS_MAX = 192;
/** Associations that a batch's datagrams go to. */
const ASSOCIATIONS = 8;
/** Time the gateway has after a batch until everything of it is gone; generous, for machines that do other things. */
const QUIET_TIMEOUT_MS = 30_000;
const QUIET_POLL_MS = 10;
/** What is left over then is watched for so much longer: an idle connection of plain HTTP, say, ends by itself. */
const LATER_MS = 90_000;
/** Time that a client with a good login may have to wait. */
const SERVED_TIMEOUT_MS = 5_000;
/** Socket inputs after which the gateway's caches are taken for filled. */
export const WARM_INPUTS = 4_000;
/** What its memory may have grown by since then, at any later look. */
export const GROWTH_BYTES_MAX = 96 * 1024 * 1024;
/**
 * What may be counted of a stream beyond what its client wrote: a plain request gets a `Host`, `Connection` or
 * `Content-Length`, its chunks new sizes, and it may be sent twice when a kept stream turns out closed.
 */
const REWRITTEN_FACTOR = 3;
const REWRITTEN_BYTES_A_STREAM = 4_096;

/** Something that must not be. */
export interface Violation {
  /** The input it is due to; null: one of the batch. */
  seed: number | null;
  what: string;
}

export interface Outcome {
  /** Inputs by kind. */
  inputs: Partial<Record<Kind, number>>;
  /** Streams and datagrams that valid inputs were granted. */
  granted: number;
  violation: Violation | null;
}

/** Which set-up of the gateway the seed meets. */
export function profileOf(seed: number): Profile {
  return Math.floor(seed / BATCH_INPUTS) % DEFAULTS_EVERY === DEFAULTS_EVERY - 1 ? 'defaults' : 'open';
}

export interface CampaignOptions {
  kinds: readonly Kind[];
  /** A module that breaks the gateway. */
  preload?: string | null;
  quietTimeoutMs?: number;
  /** How long what is left over after that is watched. */
  laterMs?: number;
}

/** One world for each profile, started when it is first needed, and what was seen of it. */
export class Campaign {
  readonly #options: CampaignOptions;
  readonly #sites = new Map<Profile, Site>();

  constructor(options: CampaignOptions) {
    this.#options = options;
  }

  /** Plays the seeds from `first` to before `end`, which must belong to one batch. */
  async run(first: number, end: number): Promise<Outcome> {
    const outcome: Outcome = { inputs: {}, granted: 0, violation: null };
    const played: SocketInput[] = [];
    for (let seed = first; seed < end; seed++) {
      const input = generate(seed, this.#options.kinds);
      outcome.inputs[input.kind] = (outcome.inputs[input.kind] ?? 0) + 1;
      if (!isParser(input.kind)) played.push(input as SocketInput);
      else {
        const what = parserProblem(input as ParserInput);
        if (what !== null) return { ...outcome, violation: { seed, what } };
      }
    }
    if (played.length === 0) return outcome;
    const profile = profileOf(first);
    const site = this.#sites.get(profile) ?? (await Site.start(profile, this.#options));
    this.#sites.set(profile, site);
    outcome.violation = await site.play(played);
    outcome.granted = site.grantedInBatch;
    return outcome;
  }

  /** Memory of the gateways, MB, and how long the last of a batch took to be gone, ms; for the report. */
  get memory(): Array<{
    profile: Profile;
    warmMb: number | null;
    latestMb: number;
    descriptors: number;
    quietMsMax: number;
  }> {
    return [...this.#sites].map(([profile, site]) => ({ profile, ...site.memory }));
  }

  /** Ends the gateways; to what went wrong with that, or null. */
  async stop(): Promise<string | null> {
    let problem: string | null = null;
    for (const site of this.#sites.values()) problem = (await site.stop()) ?? problem;
    this.#sites.clear();
    return problem;
  }
}

/** A world with what is compared between batches. */
class Site {
  grantedInBatch = 0;
  #warmBytes: number | null = null;
  #latestBytes = 0;
  #played = 0;
  #quietMsMax = 0;

  private constructor(
    private readonly world: World,
    private readonly player: Player,
    /** Descriptors of a gateway that has served and has nothing to do. */
    private readonly descriptors: number,
    private readonly quietTimeoutMs: number,
    private readonly laterMs: number,
  ) {}

  static async start(profile: Profile, options: CampaignOptions): Promise<Site> {
    const { preload = null, quietTimeoutMs = QUIET_TIMEOUT_MS, laterMs = LATER_MS } = options;
    const world = await World.start(profile, preload);
    const player = new Player(world);
    const problem = await servedWell(world, SERVED_TIMEOUT_MS);
    if (problem !== null) throw new Error(`before any input: ${problem}`);
    const associations = await openAssociations(world, 1);
    associations.close();
    const site = new Site(world, player, Number.POSITIVE_INFINITY, quietTimeoutMs, laterMs);
    const restless = await site.#untilQuiet();
    if (restless !== null) throw new Error(`before any input: ${restless}`);
    return new Site(world, player, world.gateway.descriptors, quietTimeoutMs, laterMs);
  }

  get memory() {
    const mb = (bytes: number) => Math.round(bytes / 1e6);
    return {
      warmMb: this.#warmBytes === null ? null : mb(this.#warmBytes),
      latestMb: mb(this.#latestBytes),
      descriptors: this.descriptors,
      quietMsMax: Math.round(this.#quietMsMax),
    };
  }

  /** Those without a login first, so that whatever is granted meanwhile is granted wrongly; then the others. */
  async play(inputs: readonly SocketInput[]): Promise<Violation | null> {
    try {
      return await this.#play(inputs);
    } catch (error) {
      const ended = await this.world.gateway.endedSoon();
      return batch(
        ended === null ? (error as Error).message : `the gateway ended: ${ended}${this.#logTail()}`,
      );
    }
  }

  async #play(inputs: readonly SocketInput[]): Promise<Violation | null> {
    const { world, player } = this;
    const withDatagrams = inputs.some(({ kind }) => kind === 'udp');
    const associations = await openAssociations(world, withDatagrams ? ASSOCIATIONS : 0);
    player.associations = associations.ports;
    const refused = await this.#playWithout(inputs.filter(({ valid }) => !valid));
    if (refused !== null) {
      associations.close();
      return refused;
    }

    const before = await world.gateway.status();
    const opensBefore = world.counts.opens;
    const countsBefore = { ...world.counts };
    const writtenBefore = { ...player.written };
    const broken = await this.#playAll(inputs.filter(({ valid }) => valid));
    associations.close();
    if (broken !== null) return broken;
    const restless = await this.#untilQuiet();
    if (restless !== null) return batch(restless);
    const unserved = await servedWell(world, SERVED_TIMEOUT_MS);
    if (unserved !== null) return batch(unserved);
    const alone = await this.#untilQuiet();
    if (alone !== null) return batch(alone);

    const after = await world.gateway.status();
    const delta = {
      up: after.bytesUp - before.bytesUp,
      down: after.bytesDown - before.bytesDown,
      deviceIn: world.counts.bytesIn - countsBefore.bytesIn,
      deviceOut: world.counts.bytesOut - countsBefore.bytesOut,
      buyers: player.written.buyersBytes - writtenBefore.buyersBytes,
      tunnels: player.written.tunnelsBytes - writtenBefore.tunnelsBytes,
    };
    const streams = world.counts.opens - opensBefore;
    this.grantedInBatch = streams - 1 + (world.counts.datagramsIn - countsBefore.datagramsIn);
    const upMax = delta.buyers * REWRITTEN_FACTOR + streams * REWRITTEN_BYTES_A_STREAM;
    if (delta.up > upMax) return batch(`${delta.up} bytes counted up, at most ${upMax} were sent`);
    if (delta.up < delta.deviceIn) return batch(`${delta.deviceIn} bytes relayed up, ${delta.up} counted`);
    const downMax = delta.deviceOut + delta.tunnels;
    if (delta.down > downMax) return batch(`${delta.down} bytes counted down, at most ${downMax} were sent`);
    return this.#look(inputs.length);
  }

  /** What carries nothing that may open something: no stream, no datagram, no tunnel, no byte. */
  async #playWithout(inputs: readonly SocketInput[]): Promise<Violation | null> {
    const { world } = this;
    const before = await this.#grants();
    world.opened.length = 0;
    const broken = await this.#playAll(inputs);
    if (broken !== null) return broken;
    const restless = await this.#untilQuiet(this.player.associations.length);
    if (restless !== null) return batch(restless);
    const after = await this.#grants();
    for (const [what, count] of Object.entries(after)) {
      const gained = count - (before[what as keyof typeof before] ?? 0);
      if (gained === 0) continue;
      const seeds = world.opened
        .map(seedOfLabel)
        .filter((seed) => inputs.some((input) => input.seed === seed));
      return { seed: seeds[0] ?? null, what: `granted without a login: ${gained} ${what}` };
    }
    return null;
  }

  async #grants() {
    const { world } = this;
    const status = await world.gateway.status();
    const metrics = await world.gateway.metrics();
    return {
      'streams at a device': world.counts.opens,
      'datagrams at a device': world.counts.datagramsIn,
      'bytes at a device': world.counts.bytesIn,
      'bytes counted': status.bytesUp + status.bytesDown,
      'connections that were OK': metrics.get('ts_connections_total OK') ?? 0,
      tunnels: status.tunnels,
    };
  }

  /** All inputs, many at a time. */
  async #playAll(inputs: readonly SocketInput[]): Promise<Violation | null> {
    let next = 0;
    let found: Violation | null = null;
    const client = async () => {
      for (let input = inputs[next++]; input !== undefined && found === null; input = inputs[next++]) {
        const what = await this.player.play(input);
        if (what !== null) found ??= { seed: input.seed, what };
      }
    };
    await Promise.all(Array.from({ length: Math.min(CLIENTS_MAX, inputs.length) }, client));
    return found;
  }

  /**
   * Waits until nothing is left of any client but the associations; to what does not go away, or null. The private
   * port is asked all the while.
   */
  async #untilQuiet(associations = 0): Promise<string | null> {
    const { gateway } = this.world;
    const sinceMs = performance.now();
    for (;;) {
      const left = await this.#leftOver(await gateway.status(), associations);
      const tookMs = performance.now() - sinceMs;
      this.#quietMsMax = Math.max(this.#quietMsMax, tookMs);
      if (left === null) return null;
      if (tookMs > this.quietTimeoutMs)
        return `left over after ${this.quietTimeoutMs} ms: ${left}${await this.#whatStays(associations)}`;
      await delay(QUIET_POLL_MS);
    }
  }

  /** Whether it goes away later, and what it was at: a rare leftover may not come back for whoever looks for its cause. */
  async #whatStays(associations: number): Promise<string> {
    const { gateway } = this.world;
    const lines = await gateway.describeSockets();
    const sinceMs = performance.now();
    while (performance.now() - sinceMs < this.laterMs) {
      await delay(1_000);
      const left = await this.#leftOver(await gateway.status(), associations);
      if (left !== null) continue;
      return `; gone ${Math.round(performance.now() - sinceMs)} ms later; before:\n${lines.join('\n')}`;
    }
    return `; the same ${this.laterMs} ms later:\n${lines.join('\n')}`;
  }

  async #leftOver(status: GatewayReading, associations: number): Promise<string | null> {
    const { gateway, deviceCount, lostDevice } = this.world;
    if (lostDevice !== null) return `a device that did nothing wrong lost its tunnel: ${lostDevice}`;
    const { connections, streams, tunnels } = status;
    if (connections !== associations || streams !== associations || tunnels !== deviceCount)
      return `${connections} connections, ${streams} streams, ${tunnels} tunnels`;
    const metrics = await gateway.metrics();
    const strangers = metrics.get('ts_client_strangers');
    const live = metrics.get('ts_associations');
    if (strangers !== 0) return `${strangers} strangers`;
    if (live !== associations) return `${live} associations`;
    const descriptors = gateway.descriptors - 2 * associations;
    return descriptors > this.descriptors ? `${descriptors} descriptors, ${this.descriptors} at first` : null;
  }

  /** Log and memory. */
  #look(inputs: number): Violation | null {
    const { gateway } = this.world;
    const lines = gateway.newLogProblems();
    if (lines.length > 0) return batch(`in the gateway's log: ${lines.slice(0, 5).join('\n')}`);
    this.#played += inputs;
    this.#latestBytes = gateway.residentBytes;
    if (this.#played < WARM_INPUTS) return null;
    if (this.#warmBytes === null) this.#warmBytes = this.#latestBytes;
    const grownBytes = this.#latestBytes - this.#warmBytes;
    if (grownBytes <= GROWTH_BYTES_MAX) return null;
    return batch(`the gateway's memory grew by ${Math.round(grownBytes / 1e6)} MB`);
  }

  #logTail(): string {
    return `\n${this.world.gateway.newLogProblems().slice(-20).join('\n')}`;
  }

  async stop(): Promise<string | null> {
    const { gateway } = this.world;
    this.player.close();
    const stopped = gateway.ended === null ? await gateway.stop() : true;
    await this.world.stop();
    return stopped ? null : 'the gateway did not stop in good order';
  }
}

function batch(what: string): Violation {
  return { seed: null, what };
}

/**
 * The single seed that a batch's violation is due to, found by playing halves of it at fresh gateways; null: it takes
 * several of them, or does not come back.
 */
export async function narrow(
  options: CampaignOptions,
  first: number,
  end: number,
): Promise<{ first: number; end: number; what: string } | null> {
  let found: { first: number; end: number; what: string } | null = null;
  let [low, high] = [first, end];
  for (;;) {
    const middle = Math.floor((low + high) / 2);
    const halves: Array<[number, number]> =
      found === null
        ? [[low, high]]
        : [
            [low, middle],
            [middle, high],
          ];
    let failing: [number, number] | null = null;
    for (const [from, to] of halves) {
      if (from === to) continue;
      const campaign = new Campaign(options);
      const { violation } = await campaign.run(from, to);
      await campaign.stop();
      if (violation === null) continue;
      if (violation.seed !== null)
        return { first: violation.seed, end: violation.seed + 1, what: violation.what };
      failing = [from, to];
      found = { first: from, end: to, what: violation.what };
      break;
    }
    if (failing === null || failing[1] - failing[0] <= 1) return found;
    [low, high] = failing;
  }
}
