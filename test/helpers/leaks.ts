import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { GatewayStatus } from '../../gateway/private-server.js';

/** A running system that is looked at from outside. */
export interface Leaky {
  /** Straight to the record. */
  readonly databaseUrl: string;
  /** The destination of all traffic; `openCount`: connections that devices have open there. */
  readonly origin: { readonly openCount: number };
  /** Of each gateway; null: it does not answer, and counts as one that has one of everything. */
  statuses(): Promise<Array<GatewayStatus | null>>;
  /** Claims in Redis. */
  claims(): Promise<number>;
  /** Open streams as the devices' agents see them; left out: nobody can ask them. */
  agentStreams?(): Promise<number>;
}

/** What is left of traffic that is over. */
export interface Leaks {
  streams: number;
  /** Of devices, at the destination. */
  destinations: number;
  /** Of buyers, at gateways. */
  connections: number;
  claims: number;
  /** Runs and owners that have some of a balance or package set aside for them. */
  leases: number;
  /** Meters whose last count is not committed. */
  meters: number;
}

/** What each was when last looked at, and when all of it was gone, ms after the traffic's end; null: it was not. */
export interface LeakReport extends Leaks {
  goneAfterMs: Partial<Record<keyof Leaks, number | null>>;
}

/** What is gone within seconds, and what named sessions keep for a minute after their last use: all of it. */
export const SOON_GONE = ['streams', 'destinations', 'connections'] as const;
export const ALL_GONE = [...SOON_GONE, 'claims', 'leases', 'meters'] as const;

const LOOK_INTERVAL_MS = 500;

/** Holds that set something aside which nobody has used. */
const LEASES = `SELECT count(*)::int AS count FROM wallet_holds
                 WHERE closed_at IS NULL AND granted - renounced > spent`;

/** Looks until nothing of `what` is left, or `timeoutMs` are over. */
export async function leaksAfter(
  system: Leaky,
  timeoutMs: number,
  what: ReadonlyArray<keyof Leaks>,
): Promise<LeakReport> {
  const client = new pg.Client({ connectionString: system.databaseUrl });
  await client.connect();
  const startMs = performance.now();
  const goneAfterMs: LeakReport['goneAfterMs'] = {};
  try {
    for (;;) {
      const [statuses, atAgents, claims, leases] = await Promise.all([
        system.statuses(),
        system.agentStreams?.() ?? 0,
        system.claims(),
        client.query<{ count: number }>(LEASES),
      ]);
      const sum = (of: 'streams' | 'connections' | 'unsettledMeters') =>
        statuses.reduce((total, status) => total + (status?.[of] ?? 1), 0);
      const leaks: Leaks = {
        streams: sum('streams') + atAgents,
        destinations: system.origin.openCount,
        connections: sum('connections'),
        claims,
        leases: leases.rows[0]?.count ?? 0,
        meters: sum('unsettledMeters'),
      };
      const tookMs = performance.now() - startMs;
      for (const one of what) goneAfterMs[one] = leaks[one] > 0 ? null : (goneAfterMs[one] ?? tookMs);
      if (Object.values(goneAfterMs).every((ms) => ms !== null) || tookMs > timeoutMs)
        return { ...leaks, goneAfterMs };
      await delay(LOOK_INTERVAL_MS);
    }
  } finally {
    await client.end();
  }
}

/** What is there that should not be, in words; empty: nothing. */
export function describeLeaks(report: LeakReport): string[] {
  const names: Record<keyof Leaks, string> = {
    streams: 'streams',
    destinations: 'connections of devices to destinations',
    connections: 'connections',
    claims: 'claims',
    leases: 'leases',
    meters: 'meters not committed',
  };
  return (Object.keys(names) as Array<keyof Leaks>)
    .filter((what) => report.goneAfterMs[what] === null)
    .map((what) => `${report[what]} ${names[what]} left`);
}
