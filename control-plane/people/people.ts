import type { Queryable } from '../db/pool.js';
import { listOrder, SORTED_TEXT_MAX, type SortedRow, type SortOf } from '../http/list-order.js';
import type { ProviderSettings } from '../users/provider-settings.js';
import { findUser, type Language, type UserRow } from '../users/users.js';

/** A user with what an admin's list shows of them. */
export interface Person extends UserRow {
  ban_reason: string | null;
  banned_at: Date | null;
  deleted_at: Date | null;
  referred_by: string | null;
  country: string | null;
  devices: number;
  available_micros: bigint;
  pending_micros: bigint;
}

/** What the list of users can be sorted by. */
export const PEOPLE_SORTS = {
  created_at: { expression: 'u.created_at', kind: 'timestamptz' },
  username: {
    expression: `left(lower(coalesce(u.username, '')), ${SORTED_TEXT_MAX})`,
    kind: 'text',
  },
} as const;

const balance = (kind: string) => `coalesce((SELECT balance_micros FROM ledger_accounts
  WHERE kind = '${kind}' AND owner_id = u.id), 0)::bigint`;
const COLUMNS = `
         u.id, u.telegram_id, u.username, u.phone, u.email, u.language, u.is_verified, u.is_admin, u.status,
         u.referral_code, u.referred_by, u.settings, u.created_at, u.ban_reason, u.banned_at, u.deleted_at,
         d.devices, d.country,
         ${balance('provider_available')} AS available_micros, ${balance('provider_pending')} AS pending_micros`;
const FROM = `
    FROM users u
    CROSS JOIN LATERAL (SELECT count(*)::int AS devices,
                               (array_agg(last_country ORDER BY last_seen_at DESC NULLS LAST))[1] AS country
                          FROM devices WHERE user_id = u.id AND removed_at IS NULL) d`;

export interface PeopleFilter {
  /** A Telegram id, a user id, a referral code, or how a username, an email or a phone number begins. */
  query?: string | undefined;
  status?: string | undefined;
  /** Of a device that is not removed, ISO 3166. */
  country?: string | undefined;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const TELEGRAM_ID = /^[0-9]{1,15}$/;
/** `LIKE` pattern of what begins with the text. */
const begins = (text: string) => `${text.replace(/[\\%_]/g, '\\$&')}%`;

/** Users, in the order asked for. */
export async function listPeople(
  db: Queryable,
  filter: PeopleFilter,
  page: { limit: number; cursor?: string | undefined; sort: SortOf<keyof typeof PEOPLE_SORTS> },
): Promise<{ rows: Person[]; nextCursor: string | null }> {
  const conditions: string[] = [];
  const values: unknown[] = [];
  const value = (given: unknown) => `$${values.push(given)}`;
  const order = listOrder(PEOPLE_SORTS, { sort: page.sort, cursor: page.cursor, id: 'u.id', value });
  if (order.condition !== null) conditions.push(order.condition);
  if (filter.status !== undefined) conditions.push(`u.status = ${value(filter.status)}`);
  if (filter.country !== undefined)
    conditions.push(
      `u.id IN (SELECT user_id FROM devices WHERE removed_at IS NULL AND last_country = ${value(filter.country)})`,
    );
  if (filter.query !== undefined) {
    const text = filter.query.replace(/^@/, '');
    const lower = value(begins(text.toLowerCase()));
    conditions.push(
      `(${[
        `lower(u.username) LIKE ${lower}`,
        `lower(u.email) LIKE ${lower}`,
        `u.phone LIKE ${value(begins(text))}`,
        `u.referral_code = ${value(text.toUpperCase())}`,
        ...(UUID.test(text) ? [`u.id = ${value(text)}`] : []),
        ...(TELEGRAM_ID.test(text)
          ? [`u.id = (SELECT user_id FROM telegram_accounts WHERE telegram_id = ${value(text)}::bigint)`]
          : []),
      ].join(' OR ')})`,
    );
  }
  const { rows } = await db.query<Person & SortedRow>(
    `SELECT ${COLUMNS}, ${order.selected} ${FROM} WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}
      ORDER BY ${order.orderBy} LIMIT ${page.limit + 1}`,
    values,
  );
  return order.cut(rows, page.limit);
}

export async function readPerson(db: Queryable, userId: string): Promise<Person | null> {
  const { rows } = await db.query<Person>(`SELECT ${COLUMNS} ${FROM} WHERE u.id = $1`, [userId]);
  return rows[0] ?? null;
}

export interface PersonChanges {
  username?: string | null;
  phone?: string | null;
  email?: string | null;
  language?: Language;
  is_verified?: boolean;
  is_admin?: boolean;
  /** Only the fields given change. */
  settings?: ProviderSettings;
}

/** What an admin may change, in the order of the columns. */
const CHANGEABLE = ['username', 'phone', 'email', 'language', 'is_verified', 'is_admin'] as const;

export type ChangeResult =
  | { ok: true; before: Record<string, unknown> }
  | { ok: false; code: 'not_found' | 'user_deleted' | 'last_admin' };

/** Changes a user, in the caller's transaction. There is always an admin left: the last one can not be made none. */
export async function changePerson(
  client: Queryable,
  userId: string,
  changes: PersonChanges,
): Promise<ChangeResult> {
  if (changes.is_admin === false && !(await lockAdmins(client, userId)))
    return { ok: false, code: 'last_admin' };
  await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
  const user = await findUser(client, userId);
  if (user === null) return { ok: false, code: 'not_found' };
  if (user.status === 'deleted') return { ok: false, code: 'user_deleted' };
  const given = CHANGEABLE.filter((name) => changes[name] !== undefined);
  const sets = given.map((name, i) => `${name} = $${i + 3}`);
  await client.query(
    `UPDATE users SET settings = settings || $2::jsonb, updated_at = now()${sets.map((s) => `, ${s}`).join('')}
      WHERE id = $1`,
    [userId, JSON.stringify(changes.settings ?? {}), ...given.map((name) => changes[name])],
  );
  return {
    ok: true,
    before: Object.fromEntries(
      [...given, ...(changes.settings ? (['settings'] as const) : [])].map((name) => [name, user[name]]),
    ),
  };
}

/** Holds the admins as they are until the transaction ends; whether there is one beside this user. */
async function lockAdmins(client: Queryable, exceptUserId: string): Promise<boolean> {
  const { rows } = await client.query<{ id: string }>(
    "SELECT id FROM users WHERE is_admin AND status = 'active' ORDER BY id FOR UPDATE",
  );
  return rows.some((row) => row.id !== exceptUserId);
}
