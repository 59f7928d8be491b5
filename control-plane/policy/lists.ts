import type { Queryable } from '../db/pool.js';
import { Problem } from '../errors.js';

/** The lists that admins replace, as the API and table `policy_lists` hold them. */
export interface PolicyLists {
  /** What no buyer may reach. */
  destinations: { denied_domains: string[]; denied_ips: string[] };
  /** Destination ports open to every buyer, and those that take a grant beside the ones that are built in. */
  ports: { open_tcp: number[]; open_udp: number[]; never_allowed: number[] };
  /** Networks that no device may share from, beside the operator's files. */
  origins: {
    asn_rules: { match: string; name?: string | undefined }[];
    denied_ips: string[];
    allowed_asns: number[];
  };
}

export type PolicyName = keyof PolicyLists;

/** `version` grows by one with each change. */
export type Versioned<N extends PolicyName> = PolicyLists[N] & { version: number };

/** The list in force. `lock`: nobody else changes it until the transaction ends. */
export async function readPolicyList<N extends PolicyName>(
  client: Queryable,
  name: N,
  lock = false,
): Promise<Versioned<N>> {
  const { rows } = await client.query<{ entries: PolicyLists[N]; version: number }>(
    `SELECT entries, version FROM policy_lists WHERE name = $1 ${lock ? 'FOR UPDATE' : ''}`,
    [name],
  );
  const row = rows[0];
  if (row === undefined) throw new Error(`table policy_lists has no row ${name}`);
  return { ...row.entries, version: row.version };
}

/** All of them, at one moment. */
export async function readPolicyLists(client: Queryable): Promise<{ [N in PolicyName]: Versioned<N> }> {
  const { rows } = await client.query<{ name: PolicyName; entries: object; version: number }>(
    'SELECT name, entries, version FROM policy_lists',
  );
  return Object.fromEntries(
    rows.map(({ name, entries, version }) => [name, { ...entries, version }]),
  ) as never;
}

/** For those who keep a list: whether it is still the one in force. */
export async function readPolicyVersion(client: Queryable, name: PolicyName): Promise<number> {
  const { rows } = await client.query<{ version: number }>(
    'SELECT version FROM policy_lists WHERE name = $1',
    [name],
  );
  return rows[0]?.version ?? 0;
}

/**
 * Replaces a list, in the caller's transaction. Throws `policy_changed` when another version than `version` is in
 * force: somebody else changed it since it was read. Resolves to what was before and what is now.
 */
export async function replacePolicyList<N extends PolicyName>(
  client: Queryable,
  name: N,
  { version, ...entries }: Versioned<N>,
  adminId: string,
): Promise<{ before: Versioned<N>; after: Versioned<N> }> {
  const before = await readPolicyList(client, name, true);
  if (before.version !== version)
    throw new Problem('policy_changed', `Version ${before.version} is in force, not ${version}.`, {
      version: before.version,
    });
  await client.query(
    `UPDATE policy_lists SET entries = $2, version = version + 1, updated_by = $3, updated_at = now()
      WHERE name = $1`,
    [name, JSON.stringify(entries), adminId],
  );
  return { before, after: { ...entries, version: version + 1 } as unknown as Versioned<N> };
}

/** Entries of one field that a summary names; the others it counts. */
const NAMED_MAX = 100;

interface ListSummary {
  entries: number;
  added: unknown[];
  added_count: number;
  removed: unknown[];
  removed_count: number;
}

/** What a change did, field by field, small enough for the audit log however long the lists are. */
export function summarizeChange(before: object, after: object): Record<string, ListSummary> {
  const was = new Map(Object.entries(before));
  return Object.fromEntries(
    Object.entries(after)
      .filter(([, entries]) => Array.isArray(entries))
      .map(([field, entries]: [string, unknown[]]) => {
        const old = (was.get(field) ?? []) as unknown[];
        const added = missingIn(old, entries);
        const removed = missingIn(entries, old);
        return [
          field,
          {
            entries: entries.length,
            added: added.slice(0, NAMED_MAX),
            added_count: added.length,
            removed: removed.slice(0, NAMED_MAX),
            removed_count: removed.length,
          },
        ];
      }),
  );
}

/** Entries of `candidates` that `list` does not have. */
function missingIn(list: readonly unknown[], candidates: readonly unknown[]): unknown[] {
  const known = new Set(list.map((entry) => JSON.stringify(entry)));
  return candidates.filter((entry) => !known.has(JSON.stringify(entry)));
}
