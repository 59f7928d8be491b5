/** Load on one control plane: who calls what, how it is started, how it is measured. */
import type pg from 'pg';
import { issueAccessToken } from '../../control-plane/auth/access-token.js';
import { insertLogin } from '../../control-plane/auth/logins.js';
import { createToken } from '../../control-plane/buyers/tokens.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { Program } from '../faults/program.js';
import { UNHURRIED_ENV } from '../helpers/cast.js';
import { TEST_ENV } from '../helpers/control-plane.js';
import { type LoadResult, load, type Wire, wireRequest } from './http-load.js';
import { cpuSeconds } from './processes.js';

/** Connections of the load, one request at a time on each. */
export const CONNECTIONS = 32;
/** Windows; figures are their medians. */
export const REPEATS = 3;
/** People whose tokens take turns. */
const CALLERS = 1_000;
const WARM_MS = 3_000;

/** One call, from many callers. */
export interface Case {
  name: string;
  /** Answers a second that must be reached. */
  targetPerSecond: number;
  requests: readonly Wire[];
}

/** A control plane as a process of its own on this database and Redis, without limits that one machine's load meets. */
export async function startControlPlane(
  databaseUrl: string,
  redisUrl: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Program> {
  const program = new Program({
    name: 'control-plane',
    entry: projectPath('dist/control-plane/main.js'),
    logFd: 2,
    preload: null,
    env: {
      ...TEST_ENV,
      ...UNHURRIED_ENV,
      TS_LOG_LEVEL: 'warn',
      TS_BOT_UPDATES: 'off',
      TS_DATABASE_URL: databaseUrl,
      TS_REDIS_URL: redisUrl,
      TS_API_HOST: '127.0.0.1',
      TS_API_PORT: '0',
      TS_CONTROL_METRICS_PORT: '0',
      ...env,
    },
  });
  try {
    await program.start();
  } catch (error) {
    await program.stop();
    throw error;
  }
  return program;
}

export async function makeCases(pool: pg.Pool): Promise<Case[]> {
  const people = await pool.query<{ id: string }>('SELECT id FROM users ORDER BY id LIMIT $1', [CALLERS]);
  const users: string[] = [];
  for (const { id: userId } of people.rows) {
    const loginId = await insertLogin(pool, { userId, ip: '127.0.0.1', userAgent: 'bench' });
    users.push(
      await issueAccessToken(TEST_ENV.TS_JWT_SECRET, { userId, role: 'user', loginId, ttlS: 86_400 }),
    );
  }
  const buyers = await buyerTokens(pool);
  const get = (path: string, tokens: string[]) =>
    tokens.map((token) => wireRequest('GET', path, { authorization: `Bearer ${token}` }));
  return [
    pullCase(buyers),
    { name: 'balance of a provider', targetPerSecond: 1_500, requests: get('/api/balance', users) },
    { name: 'balance of a buyer', targetPerSecond: 1_500, requests: get('/api/buyer/me/balance', buyers) },
    { name: 'summary of traffic', targetPerSecond: 1_500, requests: get('/api/traffic/summary', users) },
  ];
}

/** A token for each of the first buyers there are. */
export async function buyerTokens(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM buyers ORDER BY id LIMIT $1', [CALLERS]);
  const tokens: string[] = [];
  for (const { id: buyerId } of rows) tokens.push((await createToken(pool, { buyerId })).secret);
  return tokens;
}

/** Each of them pulls one package after the other. */
export function pullCase(buyers: readonly string[]): Case {
  const body = { max_count: 1 };
  return {
    name: 'pull, one package',
    targetPerSecond: 1_000,
    requests: buyers.map((token) =>
      wireRequest('POST', '/api/buyer/packets/pull', { authorization: `Bearer ${token}` }, body),
    ),
  };
}

export interface MeasuredWindow extends LoadResult {
  /** CPU of the control plane, seconds a second. */
  cpu: number;
}

/** Warms up, then measures REPEATS windows. Throws when an answer is no 200. */
export async function measureCase(
  { requests, name }: Case,
  program: Program,
  windowMs: number,
  warmMs = WARM_MS,
): Promise<MeasuredWindow[]> {
  let at = 0;
  const next = () => requests[at++ % requests.length] as Wire;
  const port = program.port ?? 0;
  const cpuS = () => cpuSeconds([program.pid ?? 0]);
  await load({ port, connections: CONNECTIONS, windowMs: warmMs, next });
  const results: MeasuredWindow[] = [];
  for (let n = 0; n < REPEATS; n++) {
    const [beganCpuS, beganMs] = [cpuS(), performance.now()];
    const result = await load({ port, connections: CONNECTIONS, windowMs, next });
    const cpu = ((cpuS() - beganCpuS) * 1_000) / (performance.now() - beganMs);
    const bad = Object.keys(result.statuses).filter((status) => status !== '200');
    if (bad.length > 0) throw new Error(`${name}: ${JSON.stringify(result.statuses)}`);
    results.push({ ...result, cpu });
  }
  return results;
}
