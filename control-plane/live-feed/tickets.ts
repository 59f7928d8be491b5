import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { liveKeys } from '../../gateway/live/keys.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { randomSecret, sha256 } from '../auth/secrets.js';
import { live } from '../db/redis.js';
import { findEnded, type LiveActor } from './actors.js';

export interface StreamTicketsDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  /** How long a ticket is good, seconds. */
  ttlS: number;
}

/** What a ticket looks like; anything else is not asked about. */
const TICKET = /^tsl_[A-Za-z0-9_-]{43}$/;

/** Tickets for event streams: short-lived, one use, at whichever control plane. Only their hashes are kept. */
export class StreamTickets {
  readonly #deps: StreamTicketsDeps;

  constructor(deps: StreamTicketsDeps) {
    this.#deps = deps;
  }

  /** A ticket for the actor. Rejects with LiveStateUnavailable while Redis is away. */
  async give(actor: LiveActor): Promise<string> {
    const { redis, ttlS } = this.#deps;
    const ticket = randomSecret('tsl_');
    await live(redis.set(keyOf(ticket), JSON.stringify(actor), 'EX', ttlS));
    return ticket;
  }

  /** Whom it was given to; null: unknown, used, expired, or the login it came from has ended. */
  async take(ticket: string): Promise<LiveActor | null> {
    const { pool, redis, clock } = this.#deps;
    if (!TICKET.test(ticket)) return null;
    const text = await live(redis.getdel(keyOf(ticket)));
    if (text === null) return null;
    const actor = JSON.parse(text) as LiveActor;
    return (await findEnded(pool, [actor], clock.nowMs())).get(actor) === 'token_ended' ? null : actor;
  }
}

function keyOf(ticket: string): string {
  return liveKeys.streamTicket(sha256(ticket).toString('hex'));
}
