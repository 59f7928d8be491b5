import type pg from 'pg';
import type { ActorOf } from '../http/actor.js';

/** Who may listen. */
export type LiveActor = ActorOf<'user' | 'buyer' | 'admin'>;

/**
 * Why a listener is not listened to any more: its login or token was revoked, has expired or belongs to nobody now; the
 * person is banned.
 */
export type Ended = 'token_ended' | 'banned';

/** Whose figures a listener gets: its own, or for any admin those of all. */
export function subjectOf(actor: LiveActor): string {
  if (actor.role === 'admin') return 'all';
  return actor.role === 'buyer' ? `buyer:${actor.buyerId}` : `user:${actor.userId}`;
}

/** Who of them is ended now, in two questions however many they are. */
export async function findEnded(
  pool: pg.Pool,
  actors: readonly LiveActor[],
  nowMs: number,
): Promise<Map<LiveActor, Ended>> {
  const ended = new Map<LiveActor, Ended>();
  const people = actors.filter((actor) => actor.role !== 'buyer');
  const buyers = actors.filter((actor) => actor.role === 'buyer');
  const [persons, tokens] = await Promise.all([
    people.length === 0 ? [] : readPersons(pool, people),
    buyers.length === 0
      ? new Set<string>()
      : readGoodTokens(
          pool,
          buyers.map(({ tokenId }) => tokenId),
        ),
  ]);
  people.forEach((actor, i) => {
    const person = persons[i];
    const expired = actor.expiresAtMs !== undefined && actor.expiresAtMs <= nowMs;
    if (person?.status === 'banned') ended.set(actor, 'banned');
    else if (expired || person?.status !== 'active' || !person.login_good) ended.set(actor, 'token_ended');
    else if (actor.role === 'admin' && !person.is_admin) ended.set(actor, 'token_ended');
  });
  for (const actor of buyers) if (!tokens.has(actor.tokenId)) ended.set(actor, 'token_ended');
  return ended;
}

interface PersonRow {
  status: 'active' | 'banned' | 'deleted' | null;
  is_admin: boolean | null;
  login_good: boolean;
}

/** In the order of the actors. */
async function readPersons(
  pool: pg.Pool,
  actors: readonly ActorOf<'user' | 'admin'>[],
): Promise<PersonRow[]> {
  const { rows } = await pool.query<PersonRow>(
    `SELECT u.status, u.is_admin, a.login_id IS NULL OR (l.id IS NOT NULL AND l.revoked_at IS NULL) AS login_good
       FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS a (user_id, login_id, nth)
       LEFT JOIN users u ON u.id = a.user_id
       LEFT JOIN logins l ON l.id = a.login_id AND l.user_id = a.user_id
      ORDER BY a.nth`,
    [actors.map(({ userId }) => userId), actors.map(({ loginId }) => loginId)],
  );
  return rows;
}

async function readGoodTokens(pool: pg.Pool, tokenIds: readonly string[]): Promise<Set<string>> {
  const { rows } = await pool.query<{ id: string }>(
    `SELECT k.id FROM buyer_tokens k JOIN buyers b ON b.id = k.buyer_id
      WHERE k.id = ANY ($1::uuid[]) AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
        AND b.status <> 'closed'`,
    [tokenIds],
  );
  return new Set(rows.map(({ id }) => id));
}
