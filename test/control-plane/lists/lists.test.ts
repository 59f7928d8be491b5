/**
 * Every list of the API, with each of its filters and on a later page, over tables large enough for the planner to care:
 * what it asks Postgres is found by index. The lists are found in OpenAPI, what they ask by listening.
 */
import t from 'tap';
import { migrateJobQueue } from '../../../control-plane/db/job-queue.js';
import { Cast, UNHURRIED_ENV } from '../../helpers/cast.js';
import { type Operation, operationsOf, type Schema } from '../../helpers/openapi.js';
import { startPaymentsWorld } from '../../helpers/payments-world.js';
import { ROWS } from '../walk/rows.js';
import { captureReads, type PlanNode, planProblems, type Statement } from './captured-sql.js';
import { FILLED, fillTables, GROWING } from './large-tables.js';

t.setTimeout(300_000);

/** What a filter is tried with where any value of its kind will not do. */
const VALUES: Record<string, string> = {
  from: '2026-11-01',
  to: '2030-01-01',
  query: 'name1',
  country: 'DE',
  region: 'EU',
  ip: '84.128.0.5',
  exit_ip: '84.128.0.5',
  host: 'host5.example',
  gateway_id: 'gw-1',
  actor_id: 'x',
  action: 'login',
  object_type: 'user',
  object_id: 'o5',
  page: '3',
  days: '30',
  points: '30',
};

t.test('plans are judged', async (t) => {
  const scan = (table: string): PlanNode => ({
    'Node Type': 'Seq Scan',
    'Relation Name': table,
    'Plan Rows': 9_000,
  });
  t.same(planProblems(scan('settings'), GROWING), []);
  t.same(planProblems(scan('users'), GROWING), ['reads all of users']);
  t.same(planProblems(scan('destination_usage_2026_11'), GROWING), ['reads all of destination_usage']);
  const sort = { 'Node Type': 'Sort', 'Sort Key': ['at'], 'Plan Rows': 9_000, Plans: [scan('settings')] };
  t.same(planProblems({ 'Node Type': 'Limit', 'Plan Rows': 50, Plans: [sort] }, GROWING), [
    'sorts 9000 rows by at',
  ]);
});

/** They take a limit, but what they list is the live state, read once for all. */
const NOT_OF_POSTGRES = ['GET /api/buyer/locations'];

t.test('every list is found by index', async (t) => {
  const world = await startPaymentsWorld(t, { env: UNHURRIED_ENV });
  await migrateJobQueue(world.databaseUrl);
  const { pool, call } = world;
  t.same([...GROWING].sort(), [...FILLED].sort());
  await fillTables(pool);
  const cast = new Cast(world);
  const userId = await cast.userId();
  const known: Record<string, string> = {
    ...VALUES,
    user_id: userId,
    buyer_id: await cast.buyerId(),
    session_id: await cast.sessionId(),
    finding_id: await cast.findingId(),
  };
  const operations = operationsOf((await call('GET', '/openapi.json')).body);
  const lists = operations.filter(isList);
  t.ok(lists.length > 30, `${lists.length} lists`);
  t.same(
    operations
      .filter((o) => o.parameters.some(({ name }) => name === 'limit') && !isList(o))
      .map((o) => o.call),
    NOT_OF_POSTGRES,
    'what takes a limit is a list',
  );

  for (const operation of lists)
    await t.test(operation.call, async (t) => {
      const row = ROWS.find((r) => r.call === operation.call);
      if (row === undefined) return t.fail('has no row');
      const seen = new Map<string, Statement>();
      for (const caller of row.callers) {
        if (caller === 'init') continue; // the user once more
        const ask = await row.ask(cast, caller);
        const must: Record<string, string> =
          caller === 'admin' && ask.query?.user_id ? { user_id: userId } : {};
        const fixed = Object.fromEntries(
          operation.parameters
            .filter((p) => p.in === 'query' && p.required && p.schema.default === undefined)
            .map(({ name }) => [name, String(ask.query?.[name])]),
        );
        for (const filter of filtersOf(operation, known)) {
          if (caller !== 'admin' && filter.user_id !== undefined) continue;
          let query: Record<string, string> = { ...must, ...fixed, ...filter };
          // Two pages: a cursor changes what is asked.
          for (const page of [1, 2]) {
            const path = operation.path.replace(/\{(\w+)\}/g, (_, name) => String(ask.path?.[name]));
            const reads = captureReads();
            const answer = await call('GET', `${path}?${new URLSearchParams(query)}`, {
              headers: await cast.credentials(caller),
            }).finally(() => reads.stop());
            if (answer.status !== 200) t.fail(`${JSON.stringify(query)}: ${JSON.stringify(answer.body)}`);
            for (const statement of reads.statements) {
              const key = `${statement.text}${statement.values.map((value) => value === null)}`;
              if (!seen.has(key)) seen.set(key, statement);
            }
            const { next_cursor: cursor } = answer.body;
            if (page === 2 || typeof cursor !== 'string') break;
            query = { ...query, cursor };
          }
        }
      }
      t.ok(seen.size > 0 || NOT_FROM_POSTGRES.includes(operation.call), 'asks Postgres');
      for (const { text, values } of seen.values()) {
        const { rows } = await pool.query(`EXPLAIN (FORMAT JSON) ${text}`, [...values]);
        const { Plan } = rows[0]['QUERY PLAN'][0] as { Plan: PlanNode };
        t.same(planProblems(Plan, GROWING), [], text.replace(/\s+/g, ' ').slice(0, 300));
      }
    });
});

/** Kept in memory or in the live state; who asks is read all the same. */
const NOT_FROM_POSTGRES: readonly string[] = ['GET /api/admin/gateways'];

function isList({ method, answers }: Operation): boolean {
  return method === 'GET' && answers.get(200)?.schema?.properties?.items !== undefined;
}

/** No filter, then each by itself, with the values it can have. */
function filtersOf({ parameters }: Operation, known: Record<string, string>): Record<string, string>[] {
  const small: Record<string, string> = parameters.some((p) => p.name === 'limit') ? { limit: '2' } : {};
  const one = ({ name, schema }: { name: string; schema: Schema }): Record<string, string>[] => {
    if (['limit', 'cursor'].includes(name)) return [];
    const values: string[] =
      schema.enum ??
      (schema.type === 'boolean' ? ['true', 'false'] : [known[name] ?? String(schema.default)]);
    const asTime = (value: string) => (schema.format === 'date-time' ? `${value}T00:00:00Z` : value);
    const beside: Record<string, string> = name === 'object_id' ? { object_type: 'user' } : {};
    return values.map((value) => ({ ...small, ...beside, [name]: asTime(value) }));
  };
  return [{ ...small }, ...parameters.filter((p) => p.in === 'query').flatMap(one)];
}
