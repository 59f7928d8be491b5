import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { problemResponses } from '../http/schemas.js';
import { INGEST_ROWS_MAX, ingestPackages, rowsOfCsv } from './ingest.js';

/** About 400 bytes a row at INGEST_ROWS_MAX; above it 413. */
const INGEST_BODY_BYTES_MAX = 4 * 1024 * 1024;

/** Packages in bulk. A plugin of its own: only this route takes CSV. */
export const ingestPlugin: FastifyPluginAsyncTypebox<{ pool: pg.Pool }> = async (app, { pool }) => {
  app.addContentTypeParser('text/csv', { parseAs: 'string' }, (_request, body, done) => done(null, body));
  app.post(
    '/api/admin/packages/bulk_create',
    {
      bodyLimit: INGEST_BODY_BYTES_MAX,
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Ingest packages',
        description:
          `JSON (an array, or \`{packages: […]}\`) or CSV with a header line, up to ${INGEST_ROWS_MAX} rows of ` +
          '`uuid?, user_id, ip, size_bytes`. Sound rows are created, each other row is told with its number (from 1).',
        // Rows are judged one by one, not by a schema: a bad one must not keep the others out.
        body: {
          content: {
            'application/json': {
              schema: Type.Unknown({
                examples: [
                  [
                    {
                      user_id: '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11',
                      ip: '203.0.113.7',
                      size_bytes: 1_000_000_000,
                    },
                  ],
                ],
              }),
            },
            'text/csv': {
              schema: Type.String({
                examples: [
                  'user_id,ip,size_bytes\r\n7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11,203.0.113.7,1000000000\r\n',
                ],
              }),
            },
          },
        },
        response: {
          201: Type.Object({
            created: Type.Integer(),
            errors: Type.Array(
              Type.Object({ row: Type.Integer(), code: Type.String(), detail: Type.String() }),
            ),
          }),
          ...problemResponses(401, 403, 409, 413, 415),
        },
      },
    },
    async (request, reply) => {
      const rows = rowsOf(request.body);
      if (rows.length > INGEST_ROWS_MAX)
        throw new Problem('validation_failed', `At most ${INGEST_ROWS_MAX} rows at once.`, {
          errors: [{ path: '/body', message: `must not have more than ${INGEST_ROWS_MAX} rows` }],
        });
      const result = await withTransaction(pool, async (client) => {
        const ingested = await ingestPackages(client, rows);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'packages_ingested',
          objectType: 'package',
          objectId: null,
          after: { created: ingested.created, errors: ingested.errors.length },
        });
        return ingested;
      });
      return reply.code(201).send(result);
    },
  );
};

function rowsOf(body: unknown): unknown[] {
  if (typeof body === 'string') {
    const csv = rowsOfCsv(body);
    if (!csv.ok) throw new Problem('csv_malformed', csv.detail);
    return csv.rows;
  }
  const rows =
    typeof body === 'object' && body !== null && Object.keys(body).join() === 'packages'
      ? (body as { packages: unknown }).packages
      : body;
  if (!Array.isArray(rows))
    throw new Problem('validation_failed', undefined, {
      errors: [{ path: '/body', message: 'must be an array of packages, {packages: […]}, or CSV' }],
    });
  return rows;
}
