import type pg from 'pg';
import { recordAudit } from '../audit/audit.js';
import { updateBuyer } from '../buyers/buyers.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import type { Job } from '../jobs/job.js';
import { tellBuyer } from './buyer-notices.js';
import { readBuyerFacts, readTargetFacts } from './facts.js';
import { type Automatic, keepFinding, noteAutomatic } from './findings.js';
import { type DetectionRule, judgeBuyer, judgeTarget, type Suspicion, type Thresholds } from './rules.js';

/** How detection is set (`TS_ABUSE_*`). */
export interface DetectionSettings {
  thresholds: Thresholds;
  windowHours: number;
  /** Rules whose buyer is held to so many connections a second, or suspended, without an admin. */
  throttleRules: readonly string[];
  suspendRules: readonly string[];
  throttleConnectionsPerSecond: number;
  quietHours: number;
  /** How buyers reach us; their notices say it. */
  contact: string | null;
}

export interface DetectionDeps {
  pool: pg.Pool;
  settings: DetectionSettings;
  /** Tells the gateways of changed buyers. */
  live: { accountsChanged(buyerIds: string[]): Promise<void> };
}

/** Longest time one reading may take; then the run fails, which is told as that of every job. */
const STATEMENT_TIMEOUT_MS = 20_000;

/** The job `abuse_detection`. */
export function detectionJob(deps: DetectionDeps): Job {
  return {
    name: 'abuse_detection',
    description: 'Looks for patterns of abuse over all buyers, and opens findings.',
    schedule: '*/2 * * * *',
    atStart: true,
    attemptsMax: 1, // the next run looks at the same hours
    run: () => detect(deps),
  };
}

/** One look. Resolves to how many suspicions there were, findings are new, and buyers were throttled or suspended. */
export async function detect(
  deps: DetectionDeps,
): Promise<{ suspicions: number; opened: number; throttled: number; suspended: number }> {
  const { pool, settings } = deps;
  const suspicions = await withTransaction(pool, async (client) => {
    await client.query(`SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
    const { thresholds, windowHours } = settings;
    const buyers = await readBuyerFacts(client, windowHours, thresholds);
    const targets = await readTargetFacts(client, windowHours, thresholds);
    return [
      ...buyers.flatMap((facts) => judgeBuyer(facts, thresholds)),
      ...targets.flatMap((facts) => judgeTarget(facts, thresholds)),
    ];
  });
  const counts = { suspicions: suspicions.length, opened: 0, throttled: 0, suspended: 0 };
  for (const suspicion of suspicions) {
    const { opened, done } = await keep(deps, suspicion);
    if (opened) counts.opened++;
    if (done !== null) counts[done]++;
    if (done !== null && suspicion.buyerId !== null) await deps.live.accountsChanged([suspicion.buyerId]);
  }
  return counts;
}

/** Opens or updates the finding and does what the settings say, both or neither. */
async function keep(
  { pool, settings }: DetectionDeps,
  suspicion: Suspicion,
): Promise<{ opened: boolean; done: Automatic | null }> {
  return withTransaction(pool, async (client) => {
    const kept = await keepFinding(client, suspicion, settings.quietHours);
    if (kept === null || !kept.fresh) return { opened: false, done: null };
    await recordAudit(client, {
      actor: { role: 'system' },
      action: 'abuse_finding_opened',
      objectType: 'abuse_finding',
      objectId: kept.id,
      after: { rule: suspicion.rule, buyer_id: suspicion.buyerId, measured: suspicion.measured },
    });
    const { buyerId } = suspicion;
    return {
      opened: true,
      done:
        buyerId === null ? null : await act(client, settings, { id: kept.id, rule: suspicion.rule, buyerId }),
    };
  });
}

/** Suspends or throttles the buyer when the settings say so of this rule; who is so already stays as they are. */
async function act(
  client: Queryable,
  settings: DetectionSettings,
  finding: { id: string; rule: DetectionRule; buyerId: string },
): Promise<Automatic | null> {
  const { id: findingId, rule, buyerId } = finding;
  const wanted = settings.suspendRules.includes(rule)
    ? 'suspended'
    : settings.throttleRules.includes(rule)
      ? 'throttled'
      : null;
  if (wanted === null) return null;
  const { rows } = await client.query<{ status: string; limit: number | null }>(
    `SELECT status, (limits ->> 'connections_per_second_max')::int AS limit FROM buyers WHERE id = $1 FOR UPDATE`,
    [buyerId],
  );
  const [before] = rows;
  if (before?.status !== 'active') return null;
  const max = settings.throttleConnectionsPerSecond;
  if (wanted === 'throttled' && before.limit !== null && before.limit <= max) return null;
  if (wanted === 'suspended') await updateBuyer(client, buyerId, { status: 'suspended' });
  else await setConnectionLimit(client, buyerId, max);
  await noteAutomatic(client, findingId, wanted, {
    before: before.limit,
    after: wanted === 'throttled' ? max : null,
  });
  await recordAudit(client, {
    actor: { role: 'system' },
    action: wanted === 'suspended' ? 'abuse_buyer_suspended' : 'abuse_buyer_throttled',
    objectType: 'buyer',
    objectId: buyerId,
    before: { status: before.status, connections_per_second_max: before.limit },
    after: {
      finding_id: findingId,
      rule,
      ...(wanted === 'suspended' ? { status: 'suspended' } : { connections_per_second_max: max }),
    },
  });
  await tellBuyer(client, finding, { kind: wanted, message: null, contact: settings.contact });
  return wanted;
}

/** Changes this one limit of a buyer; null: the default. Tell the gateways after the commit. */
export async function setConnectionLimit(
  client: Queryable,
  buyerId: string,
  max: number | null,
): Promise<void> {
  const { rows } = await client.query<{ limits: Record<string, unknown> }>(
    'SELECT limits FROM buyers WHERE id = $1 FOR UPDATE',
    [buyerId],
  );
  const { connections_per_second_max: _before, ...others } = rows[0]?.limits ?? {};
  await updateBuyer(client, buyerId, {
    limits: max === null ? others : { ...others, connections_per_second_max: max },
  });
}
