import type { Clock } from '../../gateway/runtime/clock.js';
import type { Actor } from '../http/actor.js';

/** Tokens remembered at once, a few hundred bytes each; above it all are forgotten and asked about anew. */
const ENTRIES_MAX = 20_000;

/**
 * Tokens that were found good a moment ago, so that a client that calls often costs one look into Postgres per
 * `ageMsMax` and not one per call. That is how long a token may be taken for good after another process has revoked it,
 * at most a second; what is revoked in this process is forgotten at once (`forget`). Refusals are never remembered.
 */
export class AcceptedTokens {
  readonly #entries = new Map<string, { actor: Actor; untilMs: number }>();

  /** `ageMsMax` 0: nothing is remembered. */
  constructor(
    private readonly ageMsMax: number,
    private readonly clock: Pick<Clock, 'monotonicMs'>,
  ) {}

  /** Whose token it is, when it came from this address lately and was good. */
  get(token: string, ip: string): Actor | null {
    const entry = this.#entries.get(`${ip} ${token}`);
    return entry !== undefined && this.clock.monotonicMs() < entry.untilMs ? entry.actor : null;
  }

  /** A token was found good. `lifeMs`: how much longer it lives by itself; null: for good. */
  accept(token: string, ip: string, actor: Actor, lifeMs: number | null): void {
    if (this.ageMsMax === 0) return;
    if (this.#entries.size >= ENTRIES_MAX) this.#entries.clear();
    const ageMs = Math.min(this.ageMsMax, lifeMs ?? this.ageMsMax);
    this.#entries.set(`${ip} ${token}`, { actor, untilMs: this.clock.monotonicMs() + ageMs });
  }

  /** Something about who may call has changed. */
  forget(): void {
    this.#entries.clear();
  }
}
