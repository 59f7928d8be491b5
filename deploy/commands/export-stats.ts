import { readDays } from '../../control-plane/figures/figures.js';
import { type CsvValue, csvLine } from '../../control-plane/http/csv.js';
import { withDatabase } from './database-command.js';

/**
 * `traffic-share export-stats`: the figures of the last days, oldest first, as CSV with a line of names, or JSON, to stdout.
 * They are as fresh as the job `stats`, which adds them up each hour. Resolves to the exit code.
 */
export function runExportStats(options: { days: number; dryRun: boolean; json: boolean }): Promise<number> {
  return withDatabase('export-stats', async (pool) => {
    const rows = await readDays(pool, options.days);
    if (options.dryRun) {
      const [first, last] = [rows[0]?.day, rows.at(-1)?.day];
      process.stdout.write(`${rows.length} days would be exported, ${first} to ${last}\n`);
      return 0;
    }
    if (options.json) {
      // Counts and micro-dollars below 2^53 by far: numbers as everywhere in the API
      const plain = (_key: string, value: unknown) => (typeof value === 'bigint' ? Number(value) : value);
      process.stdout.write(`${JSON.stringify(rows, plain, 2)}\n`);
      return 0;
    }
    const columns = Object.keys(rows[0] ?? {});
    process.stdout.write(csvLine(columns));
    for (const row of rows) process.stdout.write(csvLine(Object.values(row) as CsvValue[]));
    return 0;
  });
}
