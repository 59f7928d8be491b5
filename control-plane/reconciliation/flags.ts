import type { Queryable } from '../db/pool.js';
import type { Finding, FlagKind } from './judge.js';

/** A difference that was found, as it is kept. */
export interface Flag extends Finding {
  id: bigint;
  sessionId: string;
  firstSeenAt: Date;
  lastSeenAt: Date;
  /** A later look did not find it any more; null: it is there. */
  resolvedAt: Date | null;
}

/**
 * Keeps what a look at these sessions found, and resolves what it did not find any more. Returns the findings of
 * kind `books` that are new or have come back.
 */
export async function keepFindings(
  client: Queryable,
  looks: ReadonlyArray<{ sessionId: string; findings: readonly Finding[] }>,
): Promise<Array<{ sessionId: string; detail: string }>> {
  const flat = looks.flatMap(({ sessionId, findings }) => findings.map((f) => ({ sessionId, ...f })));
  const columns = [flat.map((f) => f.sessionId), flat.map((f) => f.kind), flat.map((f) => f.allocationId)];
  const { rows: open } = await client.query<{ session_id: string }>(
    `SELECT session_id FROM reconciliation_flags
      WHERE session_id = ANY ($1::uuid[]) AND kind = 'books' AND resolved_at IS NULL`,
    [looks.map((look) => look.sessionId)],
  );
  if (flat.length > 0)
    await client.query(
      `INSERT INTO reconciliation_flags
         (session_id, kind, allocation_id, metered_bytes, difference_bytes, difference_micros, detail)
       SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
       ON CONFLICT (session_id, kind, allocation_id) DO UPDATE
          SET metered_bytes = excluded.metered_bytes, difference_bytes = excluded.difference_bytes,
              difference_micros = excluded.difference_micros, detail = excluded.detail, last_seen_at = now(),
              resolved_at = NULL`,
      [
        ...columns,
        flat.map((f) => f.meteredBytes.toString()),
        flat.map((f) => f.differenceBytes.toString()),
        flat.map((f) => f.differenceMicros.toString()),
        flat.map((f) => f.detail),
      ],
    );
  await client.query(
    `UPDATE reconciliation_flags f SET resolved_at = now()
      WHERE f.session_id = ANY ($4::uuid[]) AND f.resolved_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS w (session_id, kind, allocation_id)
                         WHERE w.session_id = f.session_id AND w.kind = f.kind
                           AND w.allocation_id IS NOT DISTINCT FROM f.allocation_id)`,
    [...columns, looks.map((look) => look.sessionId)],
  );
  const known = new Set(open.map((row) => row.session_id));
  return flat.filter((f) => f.kind === 'books' && !known.has(f.sessionId));
}

/** The flags of these sessions, first seen first. */
export async function readFlags(db: Queryable, sessionIds: readonly string[]): Promise<Map<string, Flag[]>> {
  const { rows } = await db.query<{
    id: bigint;
    session_id: string;
    kind: FlagKind;
    allocation_id: string | null;
    metered_bytes: bigint;
    difference_bytes: bigint;
    difference_micros: bigint;
    detail: string;
    first_seen_at: Date;
    last_seen_at: Date;
    resolved_at: Date | null;
  }>(
    `SELECT id, session_id, kind, allocation_id, metered_bytes, difference_bytes, difference_micros, detail,
            first_seen_at, last_seen_at, resolved_at
       FROM reconciliation_flags WHERE session_id = ANY ($1::uuid[]) ORDER BY id`,
    [sessionIds],
  );
  const flags = new Map<string, Flag[]>(sessionIds.map((id) => [id, []]));
  for (const r of rows)
    flags.get(r.session_id)?.push({
      id: r.id,
      sessionId: r.session_id,
      kind: r.kind,
      allocationId: r.allocation_id,
      meteredBytes: r.metered_bytes,
      differenceBytes: r.difference_bytes,
      differenceMicros: r.difference_micros,
      detail: r.detail,
      firstSeenAt: r.first_seen_at,
      lastSeenAt: r.last_seen_at,
      resolvedAt: r.resolved_at,
    });
  return flags;
}
