import { deleteBeats, readBeats, writeBeat } from './live/beats.js';
import type { LiveRedis } from './live/connection.js';
import { BEAT_INTERVAL_MS, SUMMARY_KEPT_MS } from './live/keys.js';
import type { GatewayRun } from './live/records.js';
import type { Clock } from './runtime/clock.js';
import type { Log } from './runtime/logging.js';
import { EndedRuns } from './workers/ended-runs.js';

/** How often beats are read, ms. */
const READ_INTERVAL_MS = BEAT_INTERVAL_MS / 2;
/** Without a beat for this long nothing new is asked of a gateway; with the next one everything is as before. */
export const SILENT_AFTER_MS = 2_500;
/**
 * Without a beat for this long a gateway's process counts as over: its devices have noticed by then, too. It is far above any
 * pause of a busy process, and well below what a claim lives without renewal.
 */
export const OVER_AFTER_MS = 10_000;

interface Seen {
  epoch: string;
  beat: number;
  /** Time in which it was looked for and stood still. */
  silentMs: number;
}

export interface FleetWatchDeps {
  redis: LiveRedis;
  clock: Pick<Clock, 'monotonicMs'>;
  log: Log;
  ownRun: GatewayRun;
  /** That process of another gateway is over: what it kept out of reach may be tried again. */
  onOver: (run: GatewayRun) => void;
}

/**
 * Shows that this gateway lives and notices within 3 s when another one does not. What counts is how often a beat was looked
 * for and found unchanged, by this process's own clock: clocks of machines need not agree, a pause of this process or of
 * Redis makes nobody look dead, and an emptied Redis is silence like any other.
 */
export class FleetWatch {
  readonly #seen = new Map<string, Seen>();
  /** Processes known to have ended: another one has their gateway's id, or they said so. */
  readonly #ended: EndedRuns;
  #timer: NodeJS.Timeout | null = null;
  #working: Promise<void> | null = null;
  #beat = 0;
  #beatAtMs = Number.NEGATIVE_INFINITY;
  #readAtMs: number | null = null;
  #failing = false;

  constructor(private readonly deps: FleetWatchDeps) {
    this.#ended = new EndedRuns(() => deps.clock.monotonicMs());
  }

  /** Resolves when the others' beats were read for the first time, or could not be. */
  start(): Promise<void> {
    this.#timer ??= setInterval(() => void this.refresh(), READ_INTERVAL_MS);
    return this.refresh();
  }

  /** Says that this process is over; never rejects. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#working;
    const { redis, ownRun } = this.deps;
    await writeBeat(redis, { ...ownRun, beat: this.#beat, over: true }).catch(() => {});
  }

  /** No beat of the gateway for SILENT_AFTER_MS; false of one that was never heard of. */
  isSilent(gatewayId: string): boolean {
    return (this.#seen.get(gatewayId)?.silentMs ?? 0) >= SILENT_AFTER_MS;
  }

  /** Gateways that show signs of life, this one included. */
  get gatewayCount(): number {
    let count = 1;
    for (const { silentMs } of this.#seen.values()) if (silentMs < SILENT_AFTER_MS) count++;
    return count;
  }

  /** Whether that process counts as over. After a silence it does not any more when it beats again. */
  isOver(run: GatewayRun): boolean {
    if (this.#ended.has(run)) return true;
    const seen = this.#seen.get(run.gatewayId);
    return seen?.epoch === run.epoch && seen.silentMs >= OVER_AFTER_MS;
  }

  /** Beats, and looks at the others' beats; never rejects. While Redis is away nobody grows silent. */
  refresh(): Promise<void> {
    this.#working ??= this.#refresh().finally(() => {
      this.#working = null;
    });
    return this.#working;
  }

  async #refresh(): Promise<void> {
    const { redis, clock, log, ownRun } = this.deps;
    try {
      if (clock.monotonicMs() - this.#beatAtMs >= BEAT_INTERVAL_MS - READ_INTERVAL_MS / 2) {
        this.#beatAtMs = clock.monotonicMs();
        await writeBeat(redis, { ...ownRun, beat: this.#beat++, over: false });
      }
      await this.#read();
      this.#failing = false;
    } catch (error) {
      this.#readAtMs = null;
      if (!this.#failing) log.warn({ reason: (error as Error).message }, 'beats_not_read');
      this.#failing = true;
    }
  }

  async #read(): Promise<void> {
    const { redis, clock, ownRun } = this.deps;
    const beats = await readBeats(redis);
    const nowMs = clock.monotonicMs();
    // A pause of ours is nobody's silence: the others' beats of meanwhile can not be told from none.
    const lookedMs = this.#readAtMs === null ? 0 : Math.min(nowMs - this.#readAtMs, BEAT_INTERVAL_MS);
    this.#readAtMs = nowMs;
    const unchanged = new Set(this.#seen.keys());
    for (const { gatewayId, epoch, beat, over } of beats) {
      if (gatewayId === ownRun.gatewayId) continue;
      const before = this.#seen.get(gatewayId);
      if (before && before.epoch !== epoch) this.#end({ gatewayId, epoch: before.epoch });
      if (over) {
        this.#end({ gatewayId, epoch });
        this.#seen.delete(gatewayId);
        unchanged.delete(gatewayId);
      } else if (before?.epoch !== epoch || before.beat !== beat) {
        this.#seen.set(gatewayId, { epoch, beat, silentMs: 0 });
        unchanged.delete(gatewayId);
      }
    }
    const gone: string[] = [];
    for (const gatewayId of unchanged) {
      const seen = this.#seen.get(gatewayId) as Seen;
      const before = seen.silentMs;
      seen.silentMs += lookedMs;
      if (before < OVER_AFTER_MS && seen.silentMs >= OVER_AFTER_MS)
        this.deps.onOver({ gatewayId, epoch: seen.epoch });
      if (seen.silentMs > SUMMARY_KEPT_MS) gone.push(gatewayId);
    }
    for (const gatewayId of gone) this.#seen.delete(gatewayId);
    await deleteBeats(redis, gone);
  }

  #end(run: GatewayRun): void {
    if (this.#ended.has(run)) return;
    this.#ended.add(run);
    this.deps.onOver(run);
  }
}
