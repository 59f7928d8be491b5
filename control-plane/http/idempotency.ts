import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Problem } from '../errors.js';
import { actorId } from './actor.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * The route honours `Idempotency-Key`. `omit`: fields of the answer that are shown once (tokens) and therefore never
     * stored; a replay has them null. `list.field` is the field of each item of a list.
     */
    idempotency?: { omit?: readonly string[] };
  }
  interface FastifyRequest {
    /** The key under which this request's answer will be stored; null: none, or already answered by replay. */
    idempotencyKey: string | null;
  }
}

/** How long an answer is kept for replay. */
export const IDEMPOTENCY_KEPT_HOURS = 24;
const KEY = /^[\x21-\x7e]{1,200}$/;

/** Object keys in order, so that the same JSON value always hashes the same. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, item]) => [name, canonical(item)]),
  );
}

/** Makes the field null, where there is one. */
function blank(value: unknown, [name = '', ...inner]: string[]): void {
  if (Array.isArray(value)) {
    for (const item of value) blank(item, [name, ...inner]);
    return;
  }
  if (value === null || typeof value !== 'object' || !(name in value)) return;
  const fields = value as Record<string, unknown>;
  if (inner.length === 0) fields[name] = null;
  else blank(fields[name], inner);
}

function owner(request: FastifyRequest): string {
  return `${request.actor.role}:${actorId(request.actor) ?? ''}`;
}

/**
 * Routes with `config.idempotency` replay their first answer for the same `Idempotency-Key` and request, and refuse
 * the key with another request (409 `idempotency_key_reused`). While the first one runs, a second one gets 409
 * `idempotency_in_progress`. Answers of 500 and above, and 429, are not kept: the caller may try again. After a crash in
 * the middle the key stays in progress for 24 h, because whether the write happened is then unknown here.
 */
export function installIdempotency(app: FastifyInstance, pool: pg.Pool, log: Log): void {
  app.decorateRequest('idempotencyKey', null);

  app.addHook('preHandler', async (request, reply) => {
    if (request.routeOptions.config.idempotency === undefined) return;
    const key = request.headers['idempotency-key'];
    if (key === undefined) return;
    if (typeof key !== 'string' || !KEY.test(key))
      throw new Problem('validation_failed', undefined, {
        errors: [{ path: '/headers/idempotency-key', message: 'must be 1 to 200 visible ASCII characters' }],
      });
    const hash = createHash('sha256')
      .update(JSON.stringify([request.method, request.url, canonical(request.body)]))
      .digest();
    const { rowCount } = await pool.query(
      `INSERT INTO idempotency_keys AS i (actor, key, request_hash) VALUES ($1, $2, $3)
       ON CONFLICT (actor, key) DO UPDATE
         SET request_hash = EXCLUDED.request_hash, status = NULL, response = NULL, created_at = now()
         WHERE i.created_at < now() - make_interval(hours => $4)`,
      [owner(request), key, hash, IDEMPOTENCY_KEPT_HOURS],
    );
    if (rowCount === 1) {
      request.idempotencyKey = key;
      return;
    }
    const { rows } = await pool.query<{ request_hash: Buffer; status: number | null; response: unknown }>(
      'SELECT request_hash, status, response FROM idempotency_keys WHERE actor = $1 AND key = $2',
      [owner(request), key],
    );
    const first = rows[0];
    if (first !== undefined && !first.request_hash.equals(hash)) throw new Problem('idempotency_key_reused');
    if (first === undefined || first.status === null) {
      reply.header('retry-after', '1');
      throw new Problem('idempotency_in_progress');
    }
    const type = first.status >= 400 ? 'application/problem+json' : 'application/json';
    return reply
      .code(first.status)
      .header('idempotency-replayed', 'true')
      .type(type)
      .serializer((body: unknown) => (first.status === 204 ? '' : JSON.stringify(body)))
      .send(first.response ?? {});
  });

  app.addHook('onSend', async (request, reply, payload) => {
    const key = request.idempotencyKey;
    if (typeof key !== 'string') return payload; // routes registered before (the documentation) have no such member
    request.idempotencyKey = null;
    if (reply.statusCode >= 500 || reply.statusCode === 429) {
      await pool
        .query('DELETE FROM idempotency_keys WHERE actor = $1 AND key = $2 AND status IS NULL', [
          owner(request),
          key,
        ])
        .catch(() => {}); // Postgres is away, which is likely why the answer is what it is
      return payload;
    }
    const answer = typeof payload === 'string' && payload !== '' ? JSON.parse(payload) : null;
    for (const path of request.routeOptions.config.idempotency?.omit ?? []) blank(answer, path.split('.'));
    await pool
      .query('UPDATE idempotency_keys SET status = $3, response = $4 WHERE actor = $1 AND key = $2', [
        owner(request),
        key,
        reply.statusCode,
        answer === null ? null : JSON.stringify(answer),
      ])
      // The write is done; its answer goes out even when it can not be kept. The key then stays in progress.
      .catch((error: { code?: string }) =>
        log.error({ request_id: request.id, error_code: error.code }, 'idempotent_answer_not_kept'),
      );
    return payload;
  });
}

/** Drops keys past their time. Returns how many. */
export async function forgetOldIdempotencyKeys(pool: pg.Pool): Promise<number> {
  const { rowCount } = await pool.query(
    'DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1)',
    [IDEMPOTENCY_KEPT_HOURS],
  );
  return rowCount ?? 0;
}
