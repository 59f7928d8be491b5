import type { FastifyReply } from 'fastify';
import type { Queryable } from '../db/pool.js';
import { type ListExport, sendCsv } from '../http/csv-export.js';
import { auditContext, recordAudit } from './audit.js';

/**
 * `sendCsv` for a list of people, or of what they did: who took it, and by which filters, is in the audit log before a row
 * is read.
 */
export async function sendPersonalCsv<Name extends string>(
  pool: Queryable,
  reply: FastifyReply,
  ...[name, columns, page]: ListExport<Name>
): Promise<string> {
  const { request } = reply;
  if (request.method !== 'HEAD')
    await recordAudit(pool, {
      ...auditContext(request),
      action: 'list_exported',
      objectType: 'list',
      objectId: name,
      after: request.query as object,
    });
  return sendCsv(reply, name, columns, page);
}
