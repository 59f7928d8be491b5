import { isUniqueViolation, type Queryable } from '../db/pool.js';
import { type Offer, offerPackages } from '../packages/offer.js';
import type { BookedAllocation, BookedSession } from './booked.js';
import type { MeterClaim } from './reports.js';

const LIVE = new Set(['allocated', 'in_progress']);

/**
 * Moves allocations and packages along with their meters:
 * - an allocation made on connect takes its session's open offer (in_progress); when another package of the
 *   provider + IP is live, it stays without a package;
 * - a pulled allocation that carries traffic is in_progress;
 * - an allocation whose FINAL says so is completed, its package too, and an active session is offered again.
 *
 * The sessions and allocations are locked by the caller. Several allocations of one session follow each other in
 * the order they were opened, each with the offer that the end of the one before made.
 */
export async function followAllocations(
  client: Queryable,
  claims: readonly MeterClaim[],
  sessions: ReadonlyMap<string, BookedSession>,
  allocations: ReadonlyMap<string, BookedAllocation>,
  offerBytes: number,
): Promise<void> {
  const ended = new Set<string>();
  const sessionOf = new Map<string, string>();
  const openedAtMs = new Map<string, number>();
  const used = new Set<BookedAllocation>();
  for (const c of claims) {
    const allocation = allocations.get(c.allocationId) as BookedAllocation;
    if (!LIVE.has(allocation.status)) continue;
    sessionOf.set(c.allocationId, c.sessionId);
    openedAtMs.set(c.allocationId, Math.min(c.openedAtMs, openedAtMs.get(c.allocationId) ?? c.openedAtMs));
    if (c.final && c.allocationEnded) ended.add(c.allocationId);
    if (allocation.status === 'allocated' && (c.bytesUp > 0n || c.bytesDown > 0n)) used.add(allocation);
  }
  if (used.size > 0) await startPulled(client, [...used], sessionOf);

  const fresh = [...allocations.values()]
    .filter((a) => a.fresh && a.packageId === null && sessionOf.has(a.id))
    .sort((a, b) => (openedAtMs.get(a.id) ?? 0) - (openedAtMs.get(b.id) ?? 0));
  const freshIds = new Set(fresh.map((a) => a.id));
  const complete = async (some: readonly BookedAllocation[]) => {
    await completeAllocations(client, some);
    const offers = new Map<string, Offer>();
    for (const a of some) {
      const session = sessions.get(sessionOf.get(a.id) ?? '');
      if (session?.status === 'active')
        offers.set(session.id, {
          sessionId: session.id,
          userId: session.userId,
          exitIp: session.exitIp,
          country: session.country,
          city: session.city,
          asn: session.asn,
          sizeBytes: offerBytes,
        });
    }
    await offerPackages(client, [...offers.values()]);
  };
  const over = [...ended]
    .filter((id) => !freshIds.has(id))
    .map((id) => allocations.get(id) as BookedAllocation);
  if (over.length > 0) await complete(over);

  // Each session's new allocations in their order; a session is dry when the one before took its offer, or found none,
  // and goes on: only an allocation that ends brings a new offer.
  const queues = new Map<string, BookedAllocation[]>();
  for (const a of fresh) {
    const sessionId = sessionOf.get(a.id) as string;
    const queue = queues.get(sessionId);
    if (queue) queue.push(a);
    else queues.set(sessionId, [a]);
  }
  const dry = new Set<string>();
  while (queues.size > 0) {
    const takers = new Map<string, BookedAllocation>();
    const round: BookedAllocation[] = [];
    for (const [sessionId, queue] of queues) {
      while (dry.has(sessionId) && queue[0] && !ended.has(queue[0].id)) queue.shift();
      const next = queue.shift();
      if (next === undefined) {
        queues.delete(sessionId);
        continue;
      }
      round.push(next);
      if (!dry.has(sessionId)) takers.set(sessionId, next);
      if (ended.has(next.id)) dry.delete(sessionId);
      else dry.add(sessionId);
    }
    if (takers.size > 0) await attachOffers(client, takers);
    const done = round.filter((a) => ended.has(a.id));
    if (done.length > 0) await complete(done);
  }
}

/** First traffic on pulled allocations: allocated → in_progress, and the session that serves them becomes known. */
async function startPulled(
  client: Queryable,
  used: readonly BookedAllocation[],
  sessionOf: ReadonlyMap<string, string>,
): Promise<void> {
  await client.query(
    `UPDATE allocations a SET status = 'in_progress', session_id = coalesce(a.session_id, w.session_id)
       FROM unnest($1::uuid[], $2::uuid[]) AS w (id, session_id)
      WHERE a.id = w.id AND a.status = 'allocated'`,
    [used.map((a) => a.id), used.map((a) => sessionOf.get(a.id))],
  );
  for (const a of used) a.status = 'in_progress';
  await movePackages(client, used, "status = 'allocated'", 'in_progress');
}

async function completeAllocations(client: Queryable, some: readonly BookedAllocation[]): Promise<void> {
  await client.query(
    `UPDATE allocations SET status = 'completed', ended_at = now()
      WHERE id = ANY ($1::uuid[]) AND status IN ('allocated', 'in_progress')`,
    [some.map((a) => a.id)],
  );
  for (const a of some) a.status = 'completed';
  await movePackages(client, some, "status IN ('allocated', 'in_progress')", 'completed');
}

async function movePackages(
  client: Queryable,
  some: readonly BookedAllocation[],
  from: string,
  to: 'in_progress' | 'completed',
): Promise<void> {
  const ids = some.flatMap((a) => (a.packageId === null ? [] : [a.packageId]));
  if (ids.length === 0) return;
  await client.query('SELECT 1 FROM packages WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE', [
    ids,
  ]);
  await client.query(
    `UPDATE packages SET status = $2, updated_at = now() WHERE id = ANY ($1::uuid[]) AND ${from}`,
    [ids, to],
  );
}

/** Gives each session's open offer to the allocation; an allocation that finds none keeps package null. */
async function attachOffers(
  client: Queryable,
  bySession: ReadonlyMap<string, BookedAllocation>,
): Promise<void> {
  const { rows } = await client.query<{ id: string; session_id: string; size_bytes: bigint }>(
    `SELECT id, session_id, size_bytes FROM packages
      WHERE session_id = ANY ($1::uuid[]) AND status = 'available' AND origin = 'offer'
      ORDER BY id FOR NO KEY UPDATE`,
    [[...bySession.keys()]],
  );
  const take = async (ids: string[]): Promise<string[]> => {
    const taken = await client.query<{ id: string }>(
      `UPDATE packages p SET status = 'in_progress', updated_at = now()
        WHERE p.id = ANY ($1::uuid[]) AND p.status = 'available'
          AND NOT EXISTS (SELECT 1 FROM packages o WHERE o.user_id = p.user_id AND o.exit_ip = p.exit_ip
                                                     AND o.status IN ('allocated', 'in_progress'))
      RETURNING p.id`,
      [ids],
    );
    return taken.rows.map((r) => r.id);
  };
  const taken = new Set(
    await takeOrSkip(
      client,
      rows.map((r) => r.id),
      take,
    ),
  );
  const attached = rows.filter((r) => taken.has(r.id));
  if (attached.length === 0) return;
  await client.query(
    `UPDATE allocations a SET package_id = w.package_id, size_bytes = w.size_bytes
       FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS w (id, package_id, size_bytes) WHERE a.id = w.id`,
    [
      attached.map((r) => bySession.get(r.session_id)?.id),
      attached.map((r) => r.id),
      attached.map((r) => r.size_bytes.toString()),
    ],
  );
  for (const r of attached) {
    const allocation = bySession.get(r.session_id);
    if (allocation) allocation.packageId = r.id;
  }
}

/**
 * `take` for all ids at once; when that breaks "one live package a provider + IP" (two of them share one, or a
 * concurrent pull was faster), one by one, leaving out those that break it.
 */
async function takeOrSkip(
  client: Queryable,
  ids: string[],
  take: (ids: string[]) => Promise<string[]>,
): Promise<string[]> {
  if (ids.length === 0) return [];
  await client.query('SAVEPOINT attach');
  try {
    const taken = await take(ids);
    await client.query('RELEASE SAVEPOINT attach');
    return taken;
  } catch (error) {
    await client.query('ROLLBACK TO SAVEPOINT attach');
    if (!isUniqueViolation(error, 'packages_one_live')) throw error;
    if (ids.length === 1) return [];
    const taken: string[] = [];
    for (const id of ids) taken.push(...(await takeOrSkip(client, [id], take)));
    return taken;
  }
}
