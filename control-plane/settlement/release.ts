import type pg from 'pg';
import { withTransaction } from '../db/pool.js';
import { post } from '../ledger/ledger.js';

/** Providers handled in one transaction. */
const PROVIDERS_PER_STEP = 200;
/** Entries of one provider that come of age in one step; the rest follow in the next one. */
const ENTRIES_PER_STEP = 2_000;

/**
 * Moves earnings that are past the hold from pending to available. `cutoffMs`: entries booked up to then are (null:
 * all of them, for a hold of 0). Exactly once: the ledger's key is the version up to which the account has matured,
 * and the cursor moves in the same transaction. Resolves to the providers whose balances changed.
 */
export async function releaseHolds(pool: pg.Pool, cutoffMs: number | null): Promise<string[]> {
  const released: string[] = [];
  for (;;) {
    const step = await withTransaction(pool, (client) => releaseStep(client, cutoffMs));
    released.push(...step.providerIds);
    if (!step.more) return released;
  }
}

async function releaseStep(
  client: pg.ClientBase,
  cutoffMs: number | null,
): Promise<{ providerIds: string[]; more: boolean }> {
  // Versions are gapless and in commit order, so a prefix by version never misses an entry that committed late; the
  // next entry alone tells whether an account has anything to mature.
  const { rows } = await client.query<{
    id: bigint;
    owner_id: string;
    balance_micros: bigint;
    owed_micros: bigint;
    matured_version: bigint;
    last_version: bigint;
    matured_micros: string;
    entries: bigint;
  }>(
    `WITH due AS (
       SELECT a.id, a.owner_id, a.balance_micros, coalesce(h.matured_version, 0) AS matured_version,
              coalesce(h.owed_micros, 0) AS owed_micros
         FROM ledger_accounts a LEFT JOIN provider_holds h ON h.account_id = a.id
        WHERE a.kind = 'provider_pending' AND a.version > coalesce(h.matured_version, 0)
          AND EXISTS (SELECT 1 FROM ledger_entries e
                       WHERE e.account_id = a.id AND e.account_version = coalesce(h.matured_version, 0) + 1
                         AND ($1::timestamptz IS NULL OR e.created_at <= $1))
        ORDER BY a.id LIMIT ${PROVIDERS_PER_STEP} FOR NO KEY UPDATE OF a
     )
     SELECT d.*, m.last_version, m.matured_micros, m.entries
       FROM due d CROSS JOIN LATERAL (
         SELECT max(w.account_version) AS last_version, count(*) AS entries,
                coalesce(sum(w.amount_micros) FILTER (WHERE w.kind <> 'hold_release'), 0)::text AS matured_micros
           FROM (SELECT e.account_version, e.amount_micros, e.kind,
                        bool_and($1::timestamptz IS NULL OR e.created_at <= $1)
                          OVER (ORDER BY e.account_version) AS mature
                   FROM (SELECT * FROM ledger_entries x
                          WHERE x.account_id = d.id AND x.account_version > d.matured_version
                          ORDER BY x.account_version LIMIT ${ENTRIES_PER_STEP}) e) w
          WHERE w.mature) m
      ORDER BY d.id`,
    [cutoffMs === null ? null : new Date(cutoffMs)],
  );
  // The locked rows are re-read after a wait, but the cursor joined to them is not: another step may have moved it.
  const cursors = await client.query<{ account_id: bigint; matured_version: bigint }>(
    'SELECT account_id, matured_version FROM provider_holds WHERE account_id = ANY ($1::bigint[])',
    [rows.map((r) => r.id.toString())],
  );
  const now = new Map(cursors.rows.map((c) => [c.account_id, c.matured_version]));
  const due = rows.filter((r) => (now.get(r.id) ?? 0n) === r.matured_version && r.last_version !== null);
  if (due.length === 0) return { providerIds: [], more: rows.length > 0 };

  const balances = await client.query<{ id: bigint; balance_micros: bigint }>(
    'SELECT id, balance_micros FROM ledger_accounts WHERE id = ANY ($1::bigint[])',
    [due.map((r) => r.id.toString())],
  );
  const balanceOf = new Map(balances.rows.map((b) => [b.id, b.balance_micros]));
  const steps = due.map((r) => {
    const owed = r.owed_micros + BigInt(r.matured_micros);
    const pending = balanceOf.get(r.id) ?? 0n;
    // An adjustment may have taken from pending, or made it negative: never release what is not there.
    const amount = owed < pending ? owed : pending;
    return { ...r, owed, amount: amount > 0n ? amount : 0n };
  });
  const results = await post(
    client,
    steps.map((s) => ({
      kind: 'hold_release',
      sourceId: `release:${s.owner_id}:${s.last_version}`,
      entries: [
        {
          account: { kind: 'provider_pending', ownerId: s.owner_id },
          entryKind: 'hold_release',
          amountMicros: -s.amount,
        },
        {
          account: { kind: 'provider_available', ownerId: s.owner_id },
          entryKind: 'hold_release',
          amountMicros: s.amount,
        },
      ],
    })),
  );
  results.forEach((r, i) => {
    const step = steps[i];
    if (step && step.amount > 0n && !(r.ok && r.fresh))
      throw new Error(
        `hold release of account ${step.id} up to version ${step.last_version} was booked before`,
      );
  });
  await client.query(
    `INSERT INTO provider_holds AS h (account_id, matured_version, owed_micros)
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
     ON CONFLICT (account_id) DO UPDATE
        SET matured_version = excluded.matured_version, owed_micros = excluded.owed_micros`,
    [
      steps.map((s) => s.id.toString()),
      steps.map((s) => s.last_version.toString()),
      steps.map((s) => (s.owed - s.amount).toString()),
    ],
  );
  return {
    providerIds: steps.filter((s) => s.amount > 0n).map((s) => s.owner_id),
    more: rows.length === PROVIDERS_PER_STEP || steps.some((s) => s.entries === BigInt(ENTRIES_PER_STEP)),
  };
}
