import type { Queryable } from '../db/pool.js';
import { type BusinessSettings, settingsFromJson, settingsJson } from './settings.js';

/**
 * Settings that say who has to agree to a payout. Each is an amount, and the higher it is the fewer have to: one admin
 * alone may lower it, raising it takes a second one. Otherwise one admin could do alone what takes two.
 */
const TWO_ADMIN_SETTINGS = ['payoutAutoApproveMicrosMax', 'payoutTwoAdminMicrosMin'] as const;

/** A value that an admin wants and another one has not agreed to. */
export interface Proposal {
  /** As the API names the setting. */
  setting: string;
  value: unknown;
  proposedBy: string;
  proposedAt: Date;
}

/** What became of a change. */
export interface Sorted {
  /** To be written: what one admin may change, and what now has its second one. */
  changes: Partial<BusinessSettings>;
  /** What waits for another admin, as the API names it. */
  proposed: Record<string, unknown>;
  /** Of `changes`, what another admin had proposed: who. */
  agreed: Record<string, { value: unknown; proposed_by: string }>;
  /** Proposals that this change made void. */
  withdrawn: Record<string, { value: unknown; proposed_by: string }>;
}

/** Changes of settings wait for each other until the transaction ends: each is judged by what is in force. */
export async function lockSettings(client: Queryable): Promise<void> {
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended('settings', 0))");
}

export async function readProposals(client: Queryable): Promise<Proposal[]> {
  const { rows } = await client.query<{
    key: string;
    value: unknown;
    proposed_by: string;
    proposed_at: Date;
  }>('SELECT key, value, proposed_by, proposed_at FROM setting_proposals ORDER BY key');
  return rows.map((row) => ({
    setting: row.key,
    value: row.value,
    proposedBy: row.proposed_by,
    proposedAt: row.proposed_at,
  }));
}

/**
 * Sorts an admin's changes, under `lockSettings`: raising a setting that takes two becomes a proposal, unless another
 * admin, who is one still, proposed the same value. A change that needs nobody else (lower, or as it is) makes a proposal
 * of that setting void.
 */
export async function sortChanges(
  client: Queryable,
  inForce: BusinessSettings,
  changes: Partial<BusinessSettings>,
  adminId: string,
): Promise<Sorted> {
  const sorted: Sorted = { changes: { ...changes }, proposed: {}, agreed: {}, withdrawn: {} };
  for (const name of TWO_ADMIN_SETTINGS) {
    const wanted = changes[name];
    if (wanted === undefined) continue;
    const [[key, value]] = Object.entries(settingsJson({ [name]: wanted })) as [[string, unknown]];
    const proposal = await findProposal(client, key);
    const before = proposal && { value: proposal.value, proposed_by: proposal.proposed_by };
    if (wanted <= inForce[name]) {
      if (before !== null) sorted.withdrawn[key] = before;
      await dropProposal(client, key);
    } else if (
      proposal?.is_good &&
      proposal.proposed_by !== adminId &&
      settingsFromJson({ [key]: proposal.value })[name] === wanted
    ) {
      sorted.agreed[key] = before as NonNullable<typeof before>;
      await dropProposal(client, key);
    } else {
      delete sorted.changes[name];
      sorted.proposed[key] = value;
      await client.query(
        `INSERT INTO setting_proposals (key, value, proposed_by) VALUES ($1, $2, $3)
         ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, proposed_by = EXCLUDED.proposed_by, proposed_at = now()`,
        [key, JSON.stringify(value), adminId],
      );
    }
  }
  return sorted;
}

/** `is_good`: who proposed it is an admin still. */
async function findProposal(
  client: Queryable,
  key: string,
): Promise<{ value: unknown; proposed_by: string; is_good: boolean } | null> {
  const { rows } = await client.query<{ value: unknown; proposed_by: string; is_good: boolean }>(
    `SELECT p.value, p.proposed_by, u.is_admin AND u.status = 'active' AS is_good
       FROM setting_proposals p JOIN users u ON u.id = p.proposed_by WHERE p.key = $1`,
    [key],
  );
  return rows[0] ?? null;
}

async function dropProposal(client: Queryable, key: string): Promise<void> {
  await client.query('DELETE FROM setting_proposals WHERE key = $1', [key]);
}
