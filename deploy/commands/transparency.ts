import { readTransparency, TRANSPARENCY_COLUMNS } from '../../control-plane/abuse/transparency.js';
import { csvLine } from '../../control-plane/http/csv.js';
import { withDatabase } from './database-command.js';

/**
 * `traffic-share transparency`: reports of abuse, findings, suspensions and legal holds of this quarter and those before it, as
 * CSV or JSON, to stdout. Resolves to the exit code.
 */
export function runTransparency(options: { quarters: number; json: boolean }): Promise<number> {
  return withDatabase('transparency', async (pool) => {
    const rows = await readTransparency(pool, options.quarters);
    if (options.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
    else {
      process.stdout.write(csvLine(TRANSPARENCY_COLUMNS));
      for (const row of rows)
        process.stdout.write(csvLine(TRANSPARENCY_COLUMNS.map((name) => row[name] ?? null)));
    }
    return 0;
  });
}
