import type { SeqRange } from '../../gateway/live/usage.js';
import type { Queryable } from '../db/pool.js';
import { addActivity } from './activity.js';
import { addRefusals } from './refusals.js';
import type { UsageBatch, UsageClaim } from './usage-batch.js';

/** What one transaction did with a batch. */
export interface UsageBooked {
  /** False: the batch had been booked before, and nothing was changed. */
  fresh: boolean;
  /** All batches of its run that are booked now. */
  booked: SeqRange[];
  /** Claims and refusals of sessions or buyers that do not exist; they are left out. */
  unknown: number;
}

/**
 * Books a batch of usage, once, in the caller's transaction: its number and its sums are committed together. Any number
 * of control planes may try at once; they wait for each other at the run's row. Partitions for the claims' days must
 * be there.
 */
export async function bookUsageBatch(
  client: Queryable,
  gatewayId: string,
  batch: UsageBatch,
): Promise<UsageBooked> {
  const { run, seq, claims, refusals } = batch;
  const taken = await client.query<{ booked: SeqRange[] }>(
    `INSERT INTO usage_runs AS r (gateway_id, run, booked)
     VALUES ($1, $2, int8multirange(int8range($3::bigint, $3::bigint + 1)))
     ON CONFLICT (gateway_id, run) DO UPDATE SET booked = r.booked + excluded.booked, booked_at = now()
      WHERE NOT r.booked @> $3::bigint
     RETURNING ${RANGES} AS booked`,
    [gatewayId, run, seq],
  );
  const [row] = taken.rows;
  if (row === undefined)
    return { fresh: false, booked: await readBooked(client, gatewayId, run), unknown: 0 };
  const known = await readKnown(client, batch);
  const sound = claims.filter((c) => known.sessions.has(c.sessionId) && known.buyers.has(c.buyerId));
  if (sound.length > 0) await addUp(client, sound, known.sessions);
  const told = refusals.filter((r) => known.buyers.has(r.buyerId));
  if (told.length > 0) await addRefusals(client, told);
  await addActivity(client, sound, told);
  const unknown = claims.length - sound.length + refusals.length - told.length;
  return { fresh: true, booked: row.booked, unknown };
}

const RANGES =
  '(SELECT jsonb_agg(jsonb_build_array(lower(b), upper(b)) ORDER BY b) FROM unnest(r.booked) AS b)';

async function readBooked(client: Queryable, gatewayId: string, run: string): Promise<SeqRange[]> {
  const { rows } = await client.query<{ booked: SeqRange[] }>(
    `SELECT ${RANGES} AS booked FROM usage_runs r WHERE gateway_id = $1 AND run = $2`,
    [gatewayId, run],
  );
  return rows[0]?.booked ?? [];
}

interface KnownSession {
  userId: string;
  exitIp: string;
  country: string;
}

async function readKnown(
  client: Queryable,
  { claims, refusals }: UsageBatch,
): Promise<{ sessions: Map<string, KnownSession>; buyers: Set<string> }> {
  const sessions = await client.query<{ id: string; user_id: string; exit_ip: string; country: string }>(
    'SELECT id, user_id, host(exit_ip) AS exit_ip, country FROM traffic_sessions WHERE id = ANY ($1::uuid[])',
    [[...new Set(claims.map((c) => c.sessionId))]],
  );
  const buyers = await client.query<{ id: string }>('SELECT id FROM buyers WHERE id = ANY ($1::uuid[])', [
    [...new Set([...claims, ...refusals].map(({ buyerId }) => buyerId))],
  ]);
  return {
    sessions: new Map(
      sessions.rows.map((r) => [r.id, { userId: r.user_id, exitIp: r.exit_ip, country: r.country }]),
    ),
    buyers: new Set(buyers.rows.map((r) => r.id)),
  };
}

async function addUp(
  client: Queryable,
  claims: readonly UsageClaim[],
  sessions: ReadonlyMap<string, KnownSession>,
): Promise<void> {
  const rows = claims.map((c) => {
    const session = sessions.get(c.sessionId) as KnownSession;
    return {
      day: c.day,
      session_id: c.sessionId,
      allocation_id: c.allocationId,
      buyer_id: c.buyerId,
      sub_user_id: c.subUserId,
      user_id: session.userId,
      exit_ip: session.exitIp,
      country: session.country,
      host: c.host,
      port: c.port,
      tag: c.tag,
      session_name: c.sessionName,
      bytes_up: c.bytesUp,
      bytes_down: c.bytesDown,
      streams: c.streams,
      first_at: new Date(c.firstAtMs),
      last_at: new Date(c.lastAtMs),
    };
  });
  // Added up before (a day's entries may come in two), and in one order for all, so that nobody deadlocks.
  await client.query(
    `INSERT INTO destination_usage AS u
       (day, session_id, allocation_id, buyer_id, sub_user_id, user_id, exit_ip, country, host, port, tag, session_name,
        bytes_up, bytes_down, streams, first_at, last_at)
     SELECT day, session_id, allocation_id, buyer_id, sub_user_id, user_id, exit_ip, country, host, port, tag,
            session_name, sum(bytes_up), sum(bytes_down), sum(streams), min(first_at), max(last_at)
       FROM json_to_recordset($1::json) AS r
            (day date, session_id uuid, allocation_id uuid, buyer_id uuid, sub_user_id uuid, user_id uuid, exit_ip inet,
             country text, host text, port int, tag text, session_name text, bytes_up bigint, bytes_down bigint,
             streams bigint, first_at timestamptz, last_at timestamptz)
      GROUP BY day, session_id, allocation_id, buyer_id, sub_user_id, user_id, exit_ip, country, host, port, tag,
               session_name
      ORDER BY session_id, day, allocation_id, sub_user_id, host, port, tag, session_name
     ON CONFLICT (session_id, day, allocation_id, sub_user_id, host, port, tag, session_name) DO UPDATE
        SET bytes_up = u.bytes_up + excluded.bytes_up, bytes_down = u.bytes_down + excluded.bytes_down,
            streams = u.streams + excluded.streams, first_at = least(u.first_at, excluded.first_at),
            last_at = greatest(u.last_at, excluded.last_at)`,
    [JSON.stringify(rows)],
  );
}
