import type { CaseResult } from './case.js';
import { catalogue } from './catalogue.js';

const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
const seconds = (ms: number) => (Number.isFinite(ms) ? (ms / 1_000).toFixed(1) : 'never');

const clean = (r: CaseResult) => r.cleanAfterMs ?? Number.POSITIVE_INFINITY;

/** One line of progress. */
export function line(r: CaseResult): string {
  const verdict = r.failures.length === 0 ? 'ok  ' : 'FAIL';
  const figures = `${r.transfers} transfers, ${mb(r.relayedBytes)} MB, under ${r.underBytes}, over ${r.overBytes} (${r.streams} live), serves ${seconds(r.servesAfterMs)} s, books ${seconds(r.bookedAfterMs)} s, nothing left ${seconds(clean(r))} s, ${r.samples} looks`;
  const notes = r.notes.length > 0 ? ` [${r.notes.join('; ')}]` : '';
  const failures = r.failures.map((f) => `\n       ${f}`).join('');
  return `${verdict} ${r.fault} seed ${r.seed}: ${figures}${notes}${failures}`;
}

/** The table of a whole run, Markdown. */
export function table(results: readonly CaseResult[]): string {
  const rows = catalogue.flatMap((fault) => {
    const of = results.filter((r) => r.fault === fault.id);
    if (of.length === 0) return [];
    const max = (pick: (r: CaseResult) => number) => Math.max(...of.map(pick));
    const sum = (pick: (r: CaseResult) => number) => of.reduce((total, r) => total + pick(r), 0);
    const perStream = max((r) => (r.streams === 0 ? r.overBytes : r.overBytes / r.streams));
    return [
      `| ${fault.title} | ${of.filter((r) => r.failures.length === 0).length} of ${of.length} | ${sum((r) => r.transfers)} | ${mb(sum((r) => r.relayedBytes))} | ${sum((r) => r.underBytes)} | ${Math.round(perStream)} | ${seconds(max((r) => r.servesAfterMs))} | ${seconds(max((r) => r.bookedAfterMs))} | ${seconds(max(clean))} | ${sum((r) => r.samples)} |`,
    ];
  });
  return [
    '| fault | passed | transfers | MB relayed | bytes under | most bytes over a live stream | serves again, s | books again, s | nothing left, s | looks at the invariants |',
    '|---|---|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}
