import type { FastifyRequest } from 'fastify';
import type { Queryable } from '../db/pool.js';
import { type Actor, actorId } from '../http/actor.js';
import { clientAddress } from '../http/client-address.js';

export interface AuditRecord {
  actor: Actor | { role: 'system' };
  /** What was done: `login`, `token_created`, … */
  action: string;
  /** What it was done to: `user`, `buyer`, `setting`, … */
  objectType: string;
  objectId: string | null;
  /** JSON values without secrets. */
  before?: unknown;
  after?: unknown;
  ip?: string | null;
  requestId?: string | null;
}

/**
 * Writes one line of the audit log. Pass the client of the transaction that makes the change, so that neither
 * exists without the other. The table is append-only (refused by the database otherwise).
 */
export async function recordAudit(client: Queryable, record: AuditRecord): Promise<void> {
  const { actor } = record;
  await client.query(
    `INSERT INTO audit_log (actor_role, actor_id, action, object_type, object_id, before, after, ip, request_id)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [
      actor.role,
      actor.role === 'system' ? null : actorId(actor),
      record.action,
      record.objectType,
      record.objectId,
      record.before === undefined ? null : JSON.stringify(record.before),
      record.after === undefined ? null : JSON.stringify(record.after),
      record.ip ?? null,
      record.requestId ?? null,
    ],
  );
}

/** The request's share of an audit record: who, from where, under which id. */
export function auditContext(request: FastifyRequest): { actor: Actor; ip: string; requestId: string } {
  return { actor: request.actor, ip: clientAddress(request), requestId: request.id };
}
