import pg from 'pg';

/** One statement as it was sent. */
export interface Statement {
  text: string;
  values: readonly unknown[];
}

/** Everything this process reads from Postgres from now on; `stop()` ends the watch. */
export function captureReads(): { statements: Statement[]; stop(): void } {
  const statements: Statement[] = [];
  const prototype = pg.Client.prototype as unknown as { query: (...args: unknown[]) => unknown };
  const real = prototype.query;
  prototype.query = function query(this: pg.Client, ...args: unknown[]) {
    const [first, second] = args;
    const given = typeof first === 'object' && first !== null ? (first as Partial<Statement>) : null;
    const text = given?.text ?? String(first);
    const values = given?.values ?? (Array.isArray(second) ? second : []);
    if (/^\s*(SELECT|WITH)\b/i.test(text)) statements.push({ text, values });
    return real.apply(this, args);
  };
  return {
    statements,
    stop: () => {
      prototype.query = real;
    },
  };
}

/** A node of a plan as EXPLAIN (FORMAT JSON) tells it. */
export interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Plan Rows': number;
  'Sort Key'?: string[];
  Plans?: PlanNode[];
}

/** Rows that may be sorted for a page: those of one owner, not of a table. */
const SORTED_ROWS_MAX = 3_000;

/** What in a plan would take longer with every row of a table that grows. */
export function planProblems(plan: PlanNode, growing: readonly string[]): string[] {
  const problems = (plan.Plans ?? []).flatMap((inner) => planProblems(inner, growing));
  const table = (plan['Relation Name'] ?? '').replace(/^(destination_usage)_.*/, '$1');
  if (plan['Node Type'].endsWith('Seq Scan') && growing.includes(table))
    problems.push(`reads all of ${table}`);
  const sorted = plan.Plans?.[0]?.['Plan Rows'] ?? 0;
  if (plan['Node Type'] === 'Sort' && sorted > SORTED_ROWS_MAX)
    problems.push(`sorts ${sorted} rows by ${plan['Sort Key']?.join(', ')}`);
  return problems;
}
