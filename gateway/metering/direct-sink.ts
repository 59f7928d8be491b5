import { meterKey, type SettledMark } from '../live/records.js';
import { isBoolean, isCount, isListOf, isRecordOf, isString } from '../live/validation.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { MeterSink } from './meter-sink.js';

/** The control plane answered with something else than marks. */
export class DirectDeliveryError extends Error {
  readonly code = 'DIRECT_DELIVERY_FAILED';
  /** HTTP status; 0: the answer could not be read. */
  readonly status: number;
  constructor(status: number) {
    super(`the control plane answered ${status === 0 ? 'what cannot be read' : status}`);
    this.status = status;
  }
}

interface DirectMark {
  key: string;
  bytes_up: number;
  bytes_down: number;
  final: boolean;
}
const isAnswer = isRecordOf<{ marks: DirectMark[] }>({
  marks: isListOf(
    isRecordOf<DirectMark>({ key: isString, bytes_up: isCount, bytes_down: isCount, final: isBoolean }),
  ),
});

export interface DirectSinkOptions {
  /** Where the control plane's API is, `http://host:port`. */
  controlPlaneUrl: string;
  /** Shared with the control plane (TS_INTERNAL_SECRET). */
  secret: string;
  /** A request without an answer for this long fails, ms; its meters are sent again. */
  timeoutMs: number;
}

/**
 * Settlement itself as the place where meters are delivered, for when Redis is away: a report is booked before the
 * call resolves, and its mark is kept here until it is forgotten.
 */
export function directMeterSink(options: DirectSinkOptions): MeterSink {
  const url = new URL('/internal/meters', options.controlPlaneUrl);
  /** FINAL ones only: a gateway asks for no others. */
  const marks = new Map<string, SettledMark>();
  return {
    async report(gatewayId, reports) {
      if (reports.length === 0) return;
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-internal-secret': options.secret },
        body: JSON.stringify({ gateway_id: gatewayId, reports }),
        signal: AbortSignal.timeout(options.timeoutMs),
        redirect: 'error',
      });
      const answer: unknown = await response.json().catch(() => null);
      if (response.status !== 200) throw new DirectDeliveryError(response.status);
      if (!isAnswer(answer)) throw new DirectDeliveryError(0);
      const sent = new Set(reports.map(meterKey));
      for (const m of answer.marks)
        if (m.final && sent.has(m.key))
          marks.set(m.key, { bytesUp: m.bytes_up, bytesDown: m.bytes_down, final: true });
    },
    async settled(_gatewayId, keys) {
      return keys.map((key) => marks.get(key) ?? null);
    },
    async forget(_gatewayId, keys) {
      for (const key of keys) marks.delete(key);
    },
    async marked() {
      return { cursor: '0', keys: [...marks.keys()] };
    },
  };
}

export interface FailoverOptions {
  /** The live state: tried first, and returned to. */
  redis: MeterSink;
  /** The way around it. */
  direct: MeterSink;
  /** How long the live state must have failed before the way around it is taken, ms. */
  directAfterMs: number;
  /**
   * The gateway starts with meters of an earlier run, which nobody else may have heard of: until the live state has
   * answered once, the way around it is taken at once.
   */
  atOnce: boolean;
  /** Pause between two attempts to come back to the live state, ms. */
  probeIntervalMs?: number;
  clock: Clock;
  log: Log;
}

/** How often the live state is tried again while meters go around it. */
const PROBE_INTERVAL_MS = 500;

/** A sink that takes the direct way while the live state is away. */
export interface FailoverSink extends MeterSink {
  /** Whether meters go the direct way now. */
  readonly direct: boolean;
  /** Reports that went the direct way since start. */
  readonly reportsDirect: number;
}

/**
 * Delivers to the live state, and straight to settlement once that has failed for `directAfterMs`. While it goes the
 * direct way the live state is probed beside it and never waited for; the first answer brings the delivery back.
 * Both lead to the same books, so a meter that went both ways is booked once.
 */
export function failoverMeterSink(options: FailoverOptions): FailoverSink {
  const { redis, clock, log } = options;
  const probeIntervalMs = options.probeIntervalMs ?? PROBE_INTERVAL_MS;
  /** Monotonic ms of the first failure since the live state last answered. */
  let failingSinceMs: number | null = null;
  let answered = !options.atOnce;
  let direct = false;
  let probing = false;
  let probedAtMs = 0;
  let reportsDirect = 0;

  function succeeded(): void {
    answered = true;
    failingSinceMs = null;
    if (direct) log.info({}, 'meters_go_through_the_live_state_again');
    direct = false;
  }

  function failed(): void {
    failingSinceMs ??= clock.monotonicMs();
    const dueAfterMs = answered ? options.directAfterMs : 0;
    if (direct || clock.monotonicMs() - failingSinceMs < dueAfterMs) return;
    direct = true;
    log.warn({}, 'meters_go_the_direct_way');
  }

  function probe(gatewayId: string): void {
    if (probing || clock.monotonicMs() - probedAtMs < probeIntervalMs) return;
    probing = true;
    probedAtMs = clock.monotonicMs();
    redis
      .settled(gatewayId, ['probe'])
      .then(succeeded, () => {})
      .finally(() => {
        probing = false;
      });
  }

  async function by<T>(gatewayId: string, call: (sink: MeterSink) => Promise<T>): Promise<T> {
    if (!direct)
      try {
        const result = await call(redis);
        succeeded();
        return result;
      } catch (error) {
        failed();
        if (!direct) throw error;
      }
    probe(gatewayId);
    return call(options.direct);
  }

  return {
    get direct() {
      return direct;
    },
    get reportsDirect() {
      return reportsDirect;
    },
    report: (gatewayId, reports) =>
      by(gatewayId, async (sink) => {
        await sink.report(gatewayId, reports);
        if (sink === options.direct) reportsDirect += reports.length;
      }),
    // A mark of the direct way stands, whichever way is taken now.
    async settled(gatewayId, keys) {
      const known = await options.direct.settled(gatewayId, keys);
      if (known.every((mark) => mark !== null)) return known;
      const marks = await by(gatewayId, (sink) => sink.settled(gatewayId, keys));
      return marks.map((mark, i) => known[i] ?? mark);
    },
    async forget(gatewayId, keys) {
      await options.direct.forget(gatewayId, keys);
      await by(gatewayId, (sink) => sink.forget(gatewayId, keys));
    },
    marked: (gatewayId, cursor) => by(gatewayId, (sink) => sink.marked(gatewayId, cursor)),
  };
}
