/** Whole bytes of a number of gigabytes (10⁹) as people write it; null: empty; undefined: no such number. */
export function parseGigabytes(text: string): number | null | undefined {
  const given = text.trim().replace(',', '.');
  if (given === '') return null;
  if (!/^\d{1,6}(\.\d{1,9})?$/.test(given)) return undefined;
  return Math.round(Number(given) * 1e9);
}

export function gigabytesText(bytes: number | null | undefined): string {
  return bytes == null ? '' : String(bytes / 1e9);
}

/** Hosts, one a line or between commas or spaces; addresses of pages give their host; each once. */
export function parseBlockList(text: string): string[] {
  const hosts = text
    .split(/[\s,;]+/)
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== '')
    .map((entry) => (/^[a-z]+:\/\//.test(entry) && URL.canParse(entry) ? new URL(entry).hostname : entry))
    .map((entry) => entry.replace(/\/.*$/, ''));
  return [...new Set(hosts)].filter((host) => host !== '');
}
