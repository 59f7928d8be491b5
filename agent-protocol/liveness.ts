import {
  DEAD_AFTER_IDLE_PINGS,
  DEAD_AFTER_LIVE_PINGS,
  QUIET_PING_BYTES_MAX,
  type SessionTimings,
} from './limits.js';

const PING_BYTES = 8;

/** What is due at a beat. */
export type Due = { due: 'nothing' } | { due: 'ping' } | { due: 'death'; silentMs: number };

const nothingDue: Due = { due: 'nothing' };
const pingDue: Due = { due: 'ping' };

/**
 * Whether the peer is still there, and how far away. With streams both ends ping; without, only the gateway does (one
 * radio wake-up of a phone instead of two) and the agent just listens.
 */
export class Liveness {
  /** Smoothed round-trip time, ms (each sample counts an eighth); 0 until the first PONG. */
  rttMs = 0;
  /**
   * The same without queues, ms: the smallest one seen. Only a PING that met no traffic can raise it (each counts a
   * quarter): a longer one beside traffic may be the queue of that traffic.
   */
  pathRttMs = 0;
  timings: SessionTimings;
  readonly #pingsWhenIdle: boolean;
  readonly #beatMs: number;
  #heardAtMs: number;
  /** Since when streams live without a break. */
  #liveSinceMs = 0;
  #pingedAtMs = 0;
  /** Number in the PING that measures; 0: none is out. */
  #awaitedPing = 0;
  #awaitedSinceMs = 0;
  #movedBytesBefore = 0;
  #pingCount = 0;

  constructor(timings: SessionTimings, pingsWhenIdle: boolean, beatMs: number, nowMs: number) {
    this.timings = timings;
    this.#pingsWhenIdle = pingsWhenIdle;
    this.#beatMs = beatMs;
    this.#heardAtMs = nowMs;
  }

  /**
   * The first stream came: from now on silence counts by the shorter time. Returns whether to ask for a sign of life
   * at once: the peer may be long gone. Not for every stream that comes alone; many do in a second.
   */
  wentLive(nowMs: number): boolean {
    this.#liveSinceMs = nowMs;
    return nowMs - this.#pingedAtMs >= this.timings.pingLiveMs;
  }

  /**
   * @param lateMs time for which this process stood still: its own silence is not the peer's
   * @param heard whether anything came since the last beat
   * @param live whether there are streams
   */
  beat(nowMs: number, lateMs: number, heard: boolean, live: boolean): Due {
    this.#heardAtMs = heard ? nowMs : this.#heardAtMs + lateMs;
    const { pingLiveMs, pingIdleMs } = this.timings;
    const silentMs = nowMs - (live ? Math.max(this.#heardAtMs, this.#liveSinceMs) : this.#heardAtMs);
    if (silentMs >= (live ? pingLiveMs * DEAD_AFTER_LIVE_PINGS : pingIdleMs * DEAD_AFTER_IDLE_PINGS))
      return { due: 'death', silentMs };
    if (!live && !this.#pingsWhenIdle) return nothingDue;
    // The beat nearest to the time, not the one after it.
    const dueInMs = this.#pingedAtMs + (live ? pingLiveMs : pingIdleMs) - nowMs;
    return dueInMs <= this.#beatMs / 2 ? pingDue : nothingDue;
  }

  /** Payload of a PING to send now; `movedBytes` of the tunnel so far, both directions. */
  ping(nowMs: number, movedBytes: number): Buffer {
    const payload = Buffer.alloc(PING_BYTES);
    this.#pingedAtMs = nowMs;
    // While a PONG is awaited, further PINGs carry 0 and measure nothing: they only ask for a sign of life.
    if (this.#awaitedPing === 0) {
      this.#awaitedPing = ++this.#pingCount;
      this.#awaitedSinceMs = nowMs;
      this.#movedBytesBefore = movedBytes;
      payload.writeUInt32BE(this.#awaitedPing, PING_BYTES - 4);
    }
    return payload;
  }

  /** A PONG came; one that answers no PING of ours is ignored. */
  pong(payload: Buffer, nowMs: number, movedBytes: number): void {
    if (this.#awaitedPing === 0 || payload.readUInt32BE(PING_BYTES - 4) !== this.#awaitedPing) return;
    this.#awaitedPing = 0;
    const sampleMs = nowMs - this.#awaitedSinceMs;
    this.rttMs = this.rttMs === 0 ? sampleMs : this.rttMs * 0.875 + sampleMs * 0.125;
    if (this.pathRttMs === 0 || sampleMs < this.pathRttMs) this.pathRttMs = sampleMs;
    else if (movedBytes - this.#movedBytesBefore <= QUIET_PING_BYTES_MAX)
      this.pathRttMs = this.pathRttMs * 0.75 + sampleMs * 0.25;
  }
}
