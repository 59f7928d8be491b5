import { loadavg } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from '../faults/random.js';
import { Traffic, type Transfer } from '../faults/traffic.js';
import type { Fleet } from './fleet.js';
import { Load, type LoadSize } from './load.js';

/** What a phase works with. */
export interface Scene {
  fleet: Fleet;
  random: Random;
  load: Load;
  /** Of the load. */
  traffic: Traffic;
  /** What the phase itself starts: its connections are judged by the phase. */
  own: Traffic;
  /** To be called when streams may lose bytes that are counted: those that live then may each be over by so much. */
  strike(): void;
  /** The load's connections that begin between the two may be refused. `performance.now()`. */
  excuse(fromMs: number, toMs: number): void;
  /** The load's streams may be cut from now on: those of a process that dies, and by the brake. */
  mayCut(): void;
  /** Longest time without service that was found, ms. */
  gap(ms: number): void;
  note(text: string): void;
  fail(text: string): void;
}

/** Something that happens to the fleet while traffic runs. */
export interface Phase {
  name: string;
  /** Its sessions are new ones, whose devices are at all gateways alike; else those of the phases before are used on. */
  newSessions?: boolean;
  run(scene: Scene): Promise<void>;
}

/** The figures of a phase. */
export interface PhaseResult {
  name: string;
  tookMs: number;
  /** Of the load. */
  connections: number;
  refused: number;
  cut: number;
  /** Longest time without service of a session that had to have it; null: the phase takes it from nobody. */
  gapMs: number | null;
  relayedBytes: number;
  bookedBytes: number;
  underBytes: number;
  overBytes: number;
  overAllowedBytes: number;
  /** Streams that were there when all traffic was over, at gateways and agents. */
  leaked: number;
  loadAverage: number;
  notes: string[];
  failures: string[];
}

/** What may be counted and not be with the operating system, of each stream that lived when a gateway was killed. */
const OVER_BYTES_MAX_PER_STREAM = 64 * 1024;
/**
 * What of a stream may be under way behind that when it is cut: on a link, in HAProxy and in the operating systems. The streams here
 * are paced to 300 KB/s, so it is what a busy machine leaves lying for a second, and not what all these could hold.
 */
const UNDER_WAY_BYTES_MAX = 300 * 1024;
const WARM_UP_MS = 1_500;
const END_TIMEOUT_MS = 20_000;
const SETTLE_TIMEOUT_MS = 30_000;
const SETTLED_QUIET_MS = 1_200;
/** Streams must be gone everywhere so soon after the traffic is over. */
const EMPTY_TIMEOUT_MS = 5_000;

/** What is held against a phase, and excused. */
export class Judge {
  readonly notes: string[] = [];
  readonly failures: string[] = [];
  readonly excused: Array<{ fromMs: number; toMs: number }> = [];
  struck = 0;
  cutsAllowed = false;
  gapMs: number | null = null;

  /** Of the load. */
  judge(transfers: ReadonlyArray<Pick<Transfer, 'state' | 'startedAtMs' | 'refusal'>>): void {
    const refused = transfers.filter(
      ({ state, startedAtMs }) =>
        state === 'refused' &&
        !this.excused.some(({ fromMs, toMs }) => fromMs <= startedAtMs && startedAtMs <= toMs),
    );
    const kinds = new Map<string, number>();
    for (const { refusal } of refused)
      kinds.set(refusal ?? 'no answer', (kinds.get(refusal ?? 'no answer') ?? 0) + 1);
    for (const [kind, count] of kinds) this.failures.push(`${count} connections refused: ${kind}`);
    const cut = transfers.filter(({ state }) => state === 'cut').length;
    if (cut > 0 && !this.cutsAllowed) this.failures.push(`${cut} streams were cut`);
  }
}

/** Runs one phase between two silences, so that its bytes can be told from others': what was relayed in it must be booked. */
export async function runPhase(
  fleet: Fleet,
  random: Random,
  phase: Phase,
  size: LoadSize,
  nth: number,
): Promise<PhaseResult> {
  const startMs = performance.now();
  const { books } = fleet;
  const before = (await books.bookedBytes()) ?? 0;
  const violationsBefore = books.violations.length;
  const [traffic, own] = [new Traffic(fleet.origin), new Traffic(fleet.origin)];
  const load = new Load(fleet, traffic, random, size, phase.newSessions ? `p${nth}` : 'all');
  const judge = new Judge();
  load.start();
  await delay(WARM_UP_MS);
  const scene: Scene = {
    fleet,
    random,
    load,
    traffic,
    own,
    strike: () => {
      judge.struck += traffic.liveCount + own.liveCount;
    },
    excuse: (fromMs, toMs) => judge.excused.push({ fromMs, toMs }),
    mayCut: () => {
      judge.cutsAllowed = true;
    },
    gap: (ms) => {
      judge.gapMs = Math.max(judge.gapMs ?? 0, ms);
    },
    note: (text) => judge.notes.push(text),
    fail: (text) => judge.failures.push(text),
  };
  // The fleet goes on, and so does the test: what broke here is told, with the bytes of all that ran meanwhile.
  await phase.run(scene).catch((error: Error) => scene.fail(error.message));
  const [loadAverage = 0] = loadavg();
  await load.stop();
  const stuck = (await traffic.end(END_TIMEOUT_MS)) + (await own.end(END_TIMEOUT_MS));
  if (stuck > 0) judge.failures.push(`${stuck} streams did not end`);
  judge.judge(traffic.transfers);

  const relayedBytes = traffic.relayedBytes + own.relayedBytes;
  const booked = await books.settled(before + relayedBytes, SETTLED_QUIET_MS, SETTLE_TIMEOUT_MS);
  const bookedBytes = booked - before;
  const underBytes = Math.max(0, relayedBytes - bookedBytes);
  const overBytes = Math.max(0, bookedBytes - relayedBytes);
  const overAllowedBytes = judge.struck * (OVER_BYTES_MAX_PER_STREAM + UNDER_WAY_BYTES_MAX);
  if (underBytes > 0) judge.failures.push(`${underBytes} bytes were relayed and not booked`);
  if (overBytes > overAllowedBytes) judge.failures.push(`${overBytes} bytes were booked and not delivered`);
  judge.failures.push(...new Set(books.violations.slice(violationsBefore)), ...(await books.proof()));
  const leaked = await streamsLeft(fleet, EMPTY_TIMEOUT_MS);
  if (leaked > 0) judge.failures.push(`${leaked} streams are still there`);
  fleet.origin.forget();
  return {
    name: phase.name,
    tookMs: performance.now() - startMs,
    connections: traffic.transfers.length,
    refused: traffic.transfers.filter(({ state }) => state === 'refused').length,
    cut: traffic.transfers.filter(({ state }) => state === 'cut').length,
    gapMs: judge.gapMs,
    relayedBytes,
    bookedBytes,
    underBytes,
    overBytes,
    overAllowedBytes,
    leaked,
    loadAverage,
    notes: judge.notes,
    failures: judge.failures,
  };
}

/** Streams at gateways and agents once all have ended, or `timeoutMs` are over. */
export async function streamsLeft(fleet: Fleet, timeoutMs: number): Promise<number> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const [statuses, streamsOpen] = await Promise.all([fleet.statuses(), fleet.agentStreams()]);
    const left = statuses.reduce((sum, status) => sum + (status?.streams ?? 0), streamsOpen);
    if (left === 0 || performance.now() > endMs) return left;
    await delay(50);
  }
}
