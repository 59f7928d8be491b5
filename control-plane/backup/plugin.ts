import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { actorOf } from '../http/roles.js';
import {
  Bytes,
  jsonBytes,
  Nullable,
  pageOf,
  pageQuery,
  problemResponses,
  Timestamp,
  Uuid,
} from '../http/schemas.js';
import type { JobRunner } from '../jobs/runner.js';
import { type BackupRow, type Backups, listBackups } from './backup.js';

export interface BackupPluginDeps {
  pool: pg.Pool;
  backups: Backups;
  jobs: Pick<JobRunner, 'runNow'>;
}

const State = Type.Enum(['queued', 'running', 'done', 'failed', 'removed'], {
  description: 'removed: done, and its file is past its time',
});

const BackupSchema = Type.Object({
  id: Uuid,
  state: State,
  storage: Type.Enum(['folder', 's3']),
  requested_by: Type.Union([Uuid, Type.Null()], { description: 'null: the schedule' }),
  file: Nullable(Type.String({ description: 'name within the storage; several requests may share one' })),
  size_bytes: Nullable(Bytes),
  bytes_so_far: Nullable(Type.Union([Type.Integer(), Type.String()], { description: 'while it runs' })),
  sha256: Nullable(Type.String({ description: 'of the file as it was read back from the storage' })),
  error_code: Nullable(
    Type.String({
      description:
        '`backup_tool_missing`, `backup_tool_outdated`, `backup_storage_unusable`, `backup_no_space`, ' +
        '`backup_not_verified`, `backup_failed`, `interrupted`',
    }),
  ),
  detail: Nullable(Type.String()),
  created_at: Timestamp,
  started_at: Nullable(Timestamp),
  ended_at: Nullable(Timestamp),
});

const backupJson = (row: BackupRow) => ({
  id: row.id,
  state: row.state,
  storage: row.storage,
  requested_by: row.requested_by,
  file: row.file,
  size_bytes: row.size_bytes === null ? null : jsonBytes(row.size_bytes),
  bytes_so_far: row.bytes_so_far === null ? null : jsonBytes(row.bytes_so_far),
  sha256: row.sha256,
  error_code: row.error_code,
  detail: row.detail,
  created_at: row.created_at.toISOString(),
  started_at: row.started_at?.toISOString() ?? null,
  ended_at: row.ended_at?.toISOString() ?? null,
});

/** Backups of the database: `/api/admin/backup/db`. */
export const backupPlugin: FastifyPluginAsyncTypebox<BackupPluginDeps> = async (
  app,
  { pool, backups, jobs },
) => {
  app.post(
    '/api/admin/backup/db',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Back the database up now',
        description:
          "Beside the daily backup. In the background: `GET` shows its state. A dump in pg_dump's custom format, sealed with " +
          'TS_BACKUP_KEY, in the folder or bucket that is configured; what was stored is read back and compared.',
        response: {
          202: Type.Object({ id: Uuid, state: Type.Literal('queued') }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request, reply) => {
      await backups.assertPossible();
      const id = await withTransaction(pool, async (client) => {
        const made = await backups.request(client, actorOf(request, 'admin').userId);
        await jobs.runNow(client, 'backup');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'backup_requested',
          objectType: 'backup',
          objectId: made,
        });
        return made;
      });
      return reply.code(202).send({ id, state: 'queued' as const });
    },
  );

  app.get(
    '/api/admin/backup/db',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Backups of the database',
        description: 'Latest first, with state, size and what went wrong.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(BackupSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const [createdAt = '', id = ''] =
        cursor === undefined ? [] : decodeCursor(cursor, [cursorPart.timestamp, cursorPart.uuid]);
      const rows = await listBackups(pool, cursor === undefined ? null : { createdAt, id }, limit + 1);
      const page = cutPage(rows, limit, (row) => [row.created_at, row.id]);
      return { items: page.rows.map(backupJson), next_cursor: page.nextCursor };
    },
  );
};
