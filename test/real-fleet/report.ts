import { describeLeaks, type LeakReport } from '../helpers/leaks.js';
import type { PhaseResult } from './phase.js';

const mb = (bytes: number) => (bytes / 1e6).toFixed(2);
const seconds = (ms: number) => (ms / 1_000).toFixed(1);

/** One line of progress. */
export function line(r: PhaseResult): string {
  const gap = r.gapMs === null ? '' : `, longest gap ${seconds(r.gapMs)} s`;
  const failures = r.failures.map((failure) => `\n     ${failure}`).join('');
  return (
    `${r.failures.length === 0 ? 'ok  ' : 'FAIL'} ${r.name}: ${seconds(r.tookMs)} s, ${r.connections} connections, ` +
    `${r.refused} refused, ${r.cut} cut${gap}, ${mb(r.relayedBytes)} MB, under ${r.underBytes}, over ${r.overBytes}` +
    `${r.notes.length > 0 ? ` [${r.notes.join('; ')}]` : ''}${failures}`
  );
}

/** The table of a whole run, Markdown. */
export function table(results: readonly PhaseResult[]): string {
  const rows = results.map(
    (r) =>
      `| ${r.failures.length === 0 ? r.name : `**failed:** ${r.name}`} | ${seconds(r.tookMs)} | ${r.connections} | ${r.refused} | ${r.cut} | ` +
      `${r.gapMs === null ? '' : seconds(r.gapMs)} | ${r.relayedBytes} | ${r.bookedBytes} | ${r.underBytes} | ${r.overBytes} of ${r.overAllowedBytes} | ` +
      `${r.leaked} | ${r.loadAverage.toFixed(1)} |`,
  );
  return [
    '| phase | s | connections | refused | cut | longest gap, s | bytes relayed | bytes booked | under | over, of allowed | streams left | load |',
    '|---|---|---|---|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

/** What was found of each phase beside the table's figures, one line each. */
export function notes(results: readonly PhaseResult[]): string {
  return results
    .filter((r) => r.notes.length > 0)
    .map((r) => `- ${r.name}: ${r.notes.join('; ')}`)
    .join('\n');
}

export function leakLine(report: LeakReport): string {
  const gone = Object.entries(report.goneAfterMs).map(
    ([what, ms]) => `${what} ${ms === null ? 'never' : `${seconds(ms)} s`}`,
  );
  const left = describeLeaks(report);
  return `${left.length === 0 ? 'ok  ' : 'FAIL'} gone after the traffic: ${gone.join(', ')}${left.map((one) => `\n     ${one}`).join('')}`;
}
