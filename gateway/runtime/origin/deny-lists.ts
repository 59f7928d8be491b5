import { AddressSet } from '../addresses.js';
import type { AutonomousSystem } from './asn-table.js';
import type { Parse } from './live-file.js';

/** Networks that no device may share from, by who announces them. */
export interface AsnRules {
  /** asn → the rule as written, with its line. */
  readonly asns: ReadonlyMap<number, string>;
  readonly organisations: ReadonlyArray<{ pattern: NamePattern; rule: string }>;
}

/** Whether a name, in lower case, fits. */
export type NamePattern = (name: string) => boolean;

/** Lines with their number, without comments (`#` to the end of the line) and empty ones. */
function* meaningfulLines(text: string): Generator<[number, string]> {
  let number = 0;
  for (const raw of text.split('\n')) {
    number++;
    const line = raw.replace(/#.*$/, '').trim();
    if (line !== '') yield [number, line];
  }
}

/** One rule of a list: `AS<number>`, or `org <pattern>`; null: it is none. */
export function readAsnRule(
  text: string,
): { kind: 'asn'; asn: number } | { kind: 'organisation'; pattern: NamePattern } | null {
  const asn = Number(/^AS(\d{1,10})$/i.exec(text)?.[1] ?? 0);
  if (asn > 0 && asn <= 0xffff_ffff) return { kind: 'asn', asn };
  const glob = /^org\s+(\S.*)$/i.exec(text)?.[1];
  return glob !== undefined && /[^*\s]/.test(glob)
    ? { kind: 'organisation', pattern: namePattern(glob) }
    : null;
}

/**
 * Reads a list of ASN rules, one a line: `AS16509`, or `org *hosting*` (the organisation's name, any case, `*` for any
 * text). `#` begins a comment. `name` appears in the rules.
 */
export function parseAsnRules(name: string): Parse<AsnRules> {
  return (text) => {
    const asns = new Map<number, string>();
    const organisations: Array<{ pattern: NamePattern; rule: string }> = [];
    const problems: string[] = [];
    for (const [number, line] of meaningfulLines(text)) {
      const read = readAsnRule(line);
      const rule = `${line} (${name}:${number})`;
      if (read?.kind === 'asn') asns.set(read.asn, rule);
      else if (read?.kind === 'organisation') organisations.push({ pattern: read.pattern, rule });
      else problems.push(`${name}:${number}: expected AS<number> or org <pattern>: ${line.slice(0, 80)}`);
    }
    return problems.length > 0 ? { ok: false, problems } : { ok: true, value: { asns, organisations } };
  };
}

/** Reads a list of addresses and CIDRs, one a line; `#` begins a comment. */
export function parseAddressRules(name: string): Parse<AddressSet> {
  return (text) => {
    const set = new AddressSet();
    const problems: string[] = [];
    for (const [number, line] of meaningfulLines(text))
      if (!set.add(line, `${line} (${name}:${number})`))
        problems.push(`${name}:${number}: expected an address or CIDR: ${line.slice(0, 80)}`);
    return problems.length > 0 ? { ok: false, problems } : { ok: true, value: set };
  };
}

/** The rule that refuses the network, or null. */
export function findAsnRule(rules: AsnRules, system: AutonomousSystem): string | null {
  const byNumber = rules.asns.get(system.asn);
  if (byNumber !== undefined) return byNumber;
  if (system.organisation === null) return null;
  const name = system.organisation.toLowerCase();
  return rules.organisations.find(({ pattern }) => pattern(name))?.rule ?? null;
}

/**
 * `*` for any text. Not a regular expression: with many stars those take time that grows with a power of the name's
 * length, and admins write patterns through the API.
 */
function namePattern(glob: string): NamePattern {
  const [first = '', ...others] = glob.trim().toLowerCase().split(/\*+/);
  const last = others.pop();
  if (last === undefined) return (name) => name === first;
  return (name) => {
    if (!name.startsWith(first)) return false;
    let at = first.length;
    for (const part of others) {
      const found = name.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return name.length - last.length >= at && name.endsWith(last);
  };
}
