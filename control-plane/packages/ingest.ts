import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import type { Queryable } from '../db/pool.js';
import { parseCsv } from './csv.js';

/** Rows of one bulk_create; more are refused as a whole. */
export const INGEST_ROWS_MAX = 10_000;

export type RowErrorCode =
  | 'invalid_row'
  | 'unknown_field'
  | 'invalid_uuid'
  | 'duplicate_uuid'
  | 'invalid_user_id'
  | 'unknown_user'
  | 'invalid_ip'
  | 'invalid_size'
  | 'exists';

/** `row` counts from 1: the first object of a JSON array, the first line after a CSV header. */
export interface RowError {
  row: number;
  code: RowErrorCode;
  detail: string;
}

interface IngestRow {
  row: number;
  id: string;
  userId: string;
  ip: string;
  sizeBytes: bigint;
}

const FIELDS = ['uuid', 'user_id', 'ip', 'size_bytes'];
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** 1 PB: more than any package; keeps sums far from the end of a bigint. */
const SIZE_BYTES_MAX = 10n ** 15n;

/** Objects of a CSV with a header of the field names; null where a line has another number of fields. */
export function rowsOfCsv(text: string): { ok: true; rows: unknown[] } | { ok: false; detail: string } {
  const csv = parseCsv(text);
  if (!csv.ok) return { ok: false, detail: `line ${csv.line}: ${csv.detail}` };
  const [header, ...lines] = csv.rows;
  if (header === undefined) return { ok: false, detail: 'there is no header line' };
  const names = header.map((name) => name.trim());
  for (const name of ['user_id', 'ip', 'size_bytes'])
    if (!names.includes(name)) return { ok: false, detail: `the header has no ${name}` };
  const unknown = names.find((name) => !FIELDS.includes(name));
  if (unknown !== undefined) return { ok: false, detail: `the header names ${JSON.stringify(unknown)}` };
  if (new Set(names).size !== names.length) return { ok: false, detail: 'the header names a field twice' };
  return {
    ok: true,
    rows: lines.map((fields) =>
      fields.length === names.length
        ? Object.fromEntries(
            names
              .map((name, i) => [name, fields[i]?.trim()] as const)
              .filter(([n, v]) => n !== 'uuid' || v !== ''),
          )
        : null,
    ),
  };
}

function sizeOf(value: unknown): bigint | null {
  if (typeof value === 'number' ? !Number.isSafeInteger(value) : !/^\d{1,16}$/.test(String(value)))
    return null;
  const size = BigInt(value as string | number);
  return size > 0n && size <= SIZE_BYTES_MAX ? size : null;
}

/** One row as a package to create, or what is wrong with it. */
function readRow(value: unknown): Omit<IngestRow, 'row'> | Omit<RowError, 'row'> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { code: 'invalid_row', detail: 'is not an object with user_id, ip and size_bytes' };
  const unknown = Object.keys(value).find((key) => !FIELDS.includes(key));
  if (unknown !== undefined) return { code: 'unknown_field', detail: `${unknown.slice(0, 40)} is not known` };
  const { uuid, user_id: userId, ip, size_bytes: size } = value as Record<string, unknown>;
  if (uuid !== undefined && (typeof uuid !== 'string' || !UUID.test(uuid)))
    return { code: 'invalid_uuid', detail: 'uuid is not a UUID' };
  if (typeof userId !== 'string' || !UUID.test(userId))
    return { code: 'invalid_user_id', detail: 'user_id is not a UUID' };
  if (typeof ip !== 'string' || isIP(ip) === 0 || ip.includes('%'))
    return { code: 'invalid_ip', detail: 'ip is not an IPv4 or IPv6 address' };
  const sizeBytes = sizeOf(size);
  if (sizeBytes === null)
    return { code: 'invalid_size', detail: `size_bytes is not a whole number from 1 to ${SIZE_BYTES_MAX}` };
  return { id: (uuid ?? randomUUID()).toLowerCase(), userId: userId.toLowerCase(), ip, sizeBytes };
}

/**
 * Creates the packages of the sound rows in one statement and says what is wrong with each other row. A package
 * takes its country, city and ASN from the provider's active session at that address, when there is one.
 */
export async function ingestPackages(
  client: Queryable,
  rows: readonly unknown[],
): Promise<{ created: number; errors: RowError[] }> {
  const errors: RowError[] = [];
  const seen = new Set<string>();
  let sound: IngestRow[] = [];
  for (const [i, value] of rows.entries()) {
    const read = readRow(value);
    if ('code' in read) errors.push({ row: i + 1, ...read });
    else if (seen.has(read.id))
      errors.push({ row: i + 1, code: 'duplicate_uuid', detail: 'an earlier row has this uuid' });
    else {
      seen.add(read.id);
      sound.push({ row: i + 1, ...read });
    }
  }

  const users = await client.query<{ id: string }>(
    "SELECT id FROM users WHERE id = ANY ($1::uuid[]) AND status <> 'deleted'",
    [[...new Set(sound.map((r) => r.userId))]],
  );
  const known = new Set(users.rows.map((u) => u.id));
  sound = sound.filter((r) => {
    if (known.has(r.userId)) return true;
    errors.push({ row: r.row, code: 'unknown_user', detail: 'there is no such provider' });
    return false;
  });
  const created = await client.query<{ id: string }>(
    `INSERT INTO packages (id, user_id, exit_ip, country, city, asn, size_bytes, origin)
     SELECT r.id, r.user_id, r.ip, s.country, s.city, s.asn, r.size_bytes, 'ingest'
       FROM unnest($1::uuid[], $2::uuid[], $3::inet[], $4::bigint[]) AS r (id, user_id, ip, size_bytes)
       LEFT JOIN LATERAL (SELECT country, city, asn FROM traffic_sessions t
                           WHERE t.user_id = r.user_id AND t.exit_ip = r.ip AND t.status = 'active' LIMIT 1) s ON true
     ON CONFLICT (id) DO NOTHING RETURNING id`,
    [
      sound.map((r) => r.id),
      sound.map((r) => r.userId),
      sound.map((r) => r.ip),
      sound.map((r) => r.sizeBytes.toString()),
    ],
  );
  const made = new Set(created.rows.map((r) => r.id));
  for (const r of sound)
    if (!made.has(r.id))
      errors.push({ row: r.row, code: 'exists', detail: 'there is a package with this uuid' });
  errors.sort((a, b) => a.row - b.row);
  return { created: made.size, errors };
}
