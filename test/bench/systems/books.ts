import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { createPool } from '../../../control-plane/db/pool.js';
import { offerPackages } from '../../../control-plane/packages/offer.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import type { TicketRecord } from '../../../gateway/live/records.js';
import type { Payload } from '../protocol.js';

/** The record behind a running system: what must be in it before devices earn, and what it says afterwards. */
export class Books {
  readonly #pool: pg.Pool;

  constructor(databaseUrl: string) {
    this.#pool = createPool({ databaseUrl, applicationName: 'bench', statementTimeoutMs: 120_000 });
  }

  /** Providers, devices, sessions and offers as Start makes them, for tickets that the bench writes itself. */
  async addSessions(records: readonly TicketRecord[]): Promise<void> {
    const ids = <Key extends keyof TicketRecord>(key: Key) => records.map((record) => record[key]);
    await this.#pool.query(
      `INSERT INTO users (id, referral_code, is_verified)
       SELECT id, code, true FROM unnest($1::uuid[], $2::text[]) AS u (id, code)`,
      [ids('providerId'), records.map(() => randomBytes(8).toString('hex'))],
    );
    await this.#pool.query(
      `INSERT INTO devices (id, user_id, key_hash, os, client_version)
       SELECT id, user_id, key_hash, 'linux', '0.1.0'
         FROM unnest($1::text[], $2::uuid[], $3::bytea[]) AS d (id, user_id, key_hash)`,
      [ids('deviceId'), ids('providerId'), records.map(() => randomBytes(32))],
    );
    await this.#pool.query(
      `INSERT INTO traffic_sessions (id, user_id, device_id, exit_ip, country, network_type, client_version)
       SELECT id, user_id, device_id, exit_ip, country, network_type, '0.1.0'
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::inet[], $5::text[], $6::text[])
              AS s (id, user_id, device_id, exit_ip, country, network_type)`,
      [
        ids('sessionId'),
        ids('providerId'),
        ids('deviceId'),
        ids('exitIp'),
        ids('country'),
        ids('networkType'),
      ],
    );
    await offerPackages(
      this.#pool,
      records.map(({ sessionId, providerId: userId, exitIp, country, city, asn, offerBytes: sizeBytes }) => ({
        sessionId,
        userId,
        exitIp,
        country,
        city,
        asn,
        sizeBytes,
      })),
    );
  }

  /** What settlement has booked so far, of everybody. */
  async booked(): Promise<Payload> {
    const { rows } = await this.#pool.query<{ up: string; down: string }>(
      'SELECT coalesce(sum(bytes_up), 0)::text AS up, coalesce(sum(bytes_down), 0)::text AS down FROM meters',
    );
    return { bytesUp: Number(rows[0]?.up), bytesDown: Number(rows[0]?.down) };
  }

  /** Devices among these whose sessions have bytes booked. */
  async sessionsUsed(records: readonly TicketRecord[]): Promise<number> {
    const { rows } = await this.#pool.query<{ used: number }>(
      'SELECT count(*)::int AS used FROM traffic_sessions WHERE id = ANY ($1::uuid[]) AND bytes_up > 0',
      [records.map(({ sessionId }) => sessionId)],
    );
    return rows[0]?.used ?? 0;
  }

  /** Σ of all ledger entries, micro-dollars. */
  async ledgerSum(): Promise<number> {
    const { rows } = await this.#pool.query<{ sum: string }>(
      'SELECT coalesce(sum(amount_micros), 0)::text AS sum FROM ledger_entries',
    );
    return Number(rows[0]?.sum);
  }

  /** What does not add up: ledger, meters, sessions, allocations, usage and holds. Empty: all does. */
  faults(): Promise<string[]> {
    return invariants(this.#pool);
  }

  close(): Promise<void> {
    return this.#pool.end();
  }
}
