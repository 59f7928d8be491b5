/** Where browsers report what the console's policy refused. */
export const VIOLATION_ENDPOINT = '/console-reports';

/**
 * The Content-Security-Policy of the console's pages (CSP level 3): everything from this origin, nothing inline, no
 * eval, no form that leaves. `frames`: who may show the page in a frame.
 */
export function csp(frames: 'none' | 'telegram'): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    `frame-ancestors ${frames === 'telegram' ? 'https://web.telegram.org' : "'none'"}`,
    `report-uri ${VIOLATION_ENDPOINT}`,
    'report-to console',
  ].join('; ');
}

/** What is kept of a report: no address in full, which may carry what is nobody's business. */
export interface Violation {
  directive: string;
  blocked: string;
  document: string;
}

/** Reports of one request at most; the rest is dropped. */
const REPORTS_MAX = 10;
const TEXT_MAX = 200;

/** Reads both forms browsers send: `{"csp-report": {…}}` and the Reporting API's list. Anything else is no report. */
export function reportsOf(body: unknown): Violation[] {
  const found: unknown[] = Array.isArray(body)
    ? body.map((report) => (report as { body?: unknown } | null)?.body)
    : [(body as { 'csp-report'?: unknown } | null)?.['csp-report']];
  return found
    .filter((report): report is Record<string, unknown> => typeof report === 'object' && report !== null)
    .slice(0, REPORTS_MAX)
    .map((report) => ({
      directive: text(
        report['effective-directive'] ?? report['violated-directive'] ?? report.effectiveDirective,
      ),
      blocked: place(report['blocked-uri'] ?? report.blockedURL),
      document: place(report['document-uri'] ?? report.documentURL),
    }));
}

function text(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, TEXT_MAX) : '';
}

/** Origin and path of an address; a keyword such as `inline` as it is. */
function place(value: unknown): string {
  const given = text(value);
  if (!URL.canParse(given)) return given;
  const { origin, pathname } = new URL(given);
  return `${origin}${pathname}`.slice(0, TEXT_MAX);
}
