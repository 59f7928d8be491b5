import { createHash } from 'node:crypto';
import { isRateLimitKey } from './cast.js';
import type { TestWorld } from './control-plane.js';

/** Marks keys that go by themselves. */
const EXPIRES = 'expires:';

/** A hash for each table, each live key, and what was said to Telegram. */
export type StateDigest = ReadonlyMap<string, string>;

/**
 * What the control plane keeps, hashed table by table: Postgres (background jobs too), the live state except for what
 * counts calls, messages to Telegram. Two digests are equal when nothing was written in between.
 */
export async function stateDigest({ pool, redis, codes, messages }: TestWorld): Promise<StateDigest> {
  const digest = new Map<string, string>();
  const { rows: tables } = await pool.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname IN ('public', 'graphile_worker') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      ORDER BY 1, 2`,
  );
  const one = ({ schema, name }: { schema: string; name: string }) =>
    `SELECT '${name}' AS name, md5(coalesce(string_agg(x::text, E'\\n' ORDER BY x::text), '')) AS hash
       FROM ${schema}."${name}" x`;
  const { rows } = await pool.query<{ name: string; hash: string }>(tables.map(one).join(' UNION ALL '));
  for (const { name, hash } of rows) digest.set(name, hash);
  const keys = (await redis.keys('*')).filter((key) => !isRateLimitKey(key)).sort();
  const values = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
  const livesMs = await Promise.all(keys.map((key) => redis.pttl(key)));
  for (const [i, key] of keys.entries()) {
    const value = values[i] ?? null;
    if (value === null) continue; // its time was up a moment ago
    const hash = createHash('sha256').update(value).digest('hex');
    digest.set(`key ${key}`, livesMs[i] === -1 ? hash : EXPIRES + hash);
  }
  digest.set('login codes sent', String(codes.length));
  digest.set('messages sent', String(messages.length));
  return digest;
}

/** The names of what differs; a key that went because its time was up does not count. */
export function changesBetween(before: StateDigest, after: StateDigest): string[] {
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names].filter(
    (name) =>
      before.get(name) !== after.get(name) && (after.has(name) || !before.get(name)?.startsWith(EXPIRES)),
  );
}
