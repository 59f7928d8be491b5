import { createHash } from 'node:crypto';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { withTransaction } from '../db/pool.js';

/** A row of the audit log as it is hashed: what is JSON or a time in Postgres comes as Postgres's own text. */
export interface ChainedRow {
  id: bigint;
  /** Microseconds since the Unix epoch. */
  at_us: bigint;
  actor_role: string;
  actor_id: string | null;
  action: string;
  object_type: string;
  object_id: string | null;
  before: string | null;
  after: string | null;
  ip: string | null;
  request_id: string | null;
}

/** The select list for `ChainedRow`, of `audit_log l`. */
export const CHAINED_COLUMNS = `l.id, (extract(epoch FROM l.at) * 1000000)::bigint AS at_us, l.actor_role, l.actor_id,
  l.action, l.object_type, l.object_id, l.before::text AS before, l.after::text AS after, host(l.ip) AS ip, l.request_id`;

/**
 * sha256(hash of the link before, 32 bytes ‖ the row as a JSON array in the order of `ChainedRow`, UTF-8): what the
 * chain keeps of a row. Independent of Postgres, so that a copy of the log can be proven elsewhere.
 */
export function linkHash(previous: Buffer, row: ChainedRow): Buffer {
  const canonical = JSON.stringify([
    row.id.toString(),
    row.at_us.toString(),
    row.actor_role,
    row.actor_id,
    row.action,
    row.object_type,
    row.object_id,
    row.before,
    row.after,
    row.ip,
    row.request_id,
  ]);
  return createHash('sha256').update(previous).update(canonical).digest();
}

/** Where the chain ends. Kept somewhere else, it proves later that nothing up to here was changed or cut off. */
export interface ChainHead {
  /** Number of links. */
  seq: bigint;
  hash: Buffer;
}

/** `<seq>:<hash in hex>` */
export function formatHead(head: ChainHead): string {
  return `${head.seq}:${head.hash.toString('hex')}`;
}

/** Null: not a head. */
export function parseHead(text: string): ChainHead | null {
  const match = /^(\d{1,18}):([0-9a-f]{64})$/.exec(text);
  return match ? { seq: BigInt(match[1] ?? ''), hash: Buffer.from(match[2] ?? '', 'hex') } : null;
}

/** Links made in one transaction. */
const LINKS_PER_STEP = 1_000;
const INTERVAL_MS = 1_000;

/**
 * Links rows that have none yet, in the order of their ids as far as they are committed; resolves to how many, and the
 * head afterwards. Null: another control plane is at it. No writer of the log ever waits for this.
 */
export async function extendChain(pool: pg.Pool): Promise<{ linked: number; head: ChainHead } | null> {
  let linked = 0;
  for (;;) {
    const step = await withTransaction(pool, linkSome);
    if (step === null) return null;
    linked += step.linked;
    if (step.linked < LINKS_PER_STEP) return { linked, head: step.head };
  }
}

async function linkSome(client: pg.PoolClient): Promise<{ linked: number; head: ChainHead } | null> {
  const { rows: heads } = await client.query<ChainHead>(
    'SELECT seq, hash FROM audit_head FOR UPDATE SKIP LOCKED',
  );
  const head = heads[0];
  if (head === undefined) return null;
  const { rows } = await client.query<ChainedRow>(
    `SELECT ${CHAINED_COLUMNS}
       FROM (SELECT audit_id FROM audit_unchained ORDER BY audit_id LIMIT ${LINKS_PER_STEP}) u
       JOIN audit_log l ON l.id = u.audit_id ORDER BY l.id`,
  );
  if (rows.length === 0) return { linked: 0, head };
  let { seq, hash } = head;
  const links = rows.map((row) => {
    seq++;
    hash = linkHash(hash, row);
    return { seq, id: row.id, hash };
  });
  await client.query(
    `INSERT INTO audit_chain (seq, audit_id, hash) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])`,
    [links.map((link) => link.seq), links.map((link) => link.id), links.map((link) => link.hash)],
  );
  await client.query('DELETE FROM audit_unchained WHERE audit_id = ANY ($1)', [links.map((link) => link.id)]);
  await client.query('UPDATE audit_head SET seq = $1, hash = $2', [seq, hash]);
  return { linked: links.length, head: { seq, hash } };
}

export interface AuditChainerDeps {
  pool: pg.Pool;
  log: Log;
  /** Pause between two rounds. Default 1 s: so long a new row can be changed unseen. */
  intervalMs?: number;
}

/**
 * Extends the chain every second, and writes each new head to the process's log: whoever ships that log elsewhere has
 * anchors that somebody with all rights in the database can not reach.
 */
export class AuditChainer {
  readonly #job: Periodic;

  constructor({ pool, log, intervalMs }: AuditChainerDeps) {
    this.#job = new Periodic({
      run: async () => {
        const extended = await extendChain(pool);
        if (extended !== null && extended.linked > 0)
          log.info({ head: formatHead(extended.head), linked: extended.linked }, 'audit_chained');
      },
      intervalMs: intervalMs ?? INTERVAL_MS,
      onError: (error) => log.warn({ err: error }, 'audit_not_chained'),
    });
  }

  start(): void {
    this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }
}
