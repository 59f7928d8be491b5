import { AddressSet } from '../addresses.js';
import type { AutonomousSystem } from './asn-table.js';
import type { Parse } from './live-file.js';

/** Networks that no device may share from, by who announces them. */
export interface AsnRules {
  /** asn → the rule as written, with its line. */
  readonly asns: ReadonlyMap<number, string>;
  readonly organisations: ReadonlyArray<{ pattern: RegExp; rule: string }>;
}

/** Lines with their number, without comments (`#` to the end of the line) and empty ones. */
function* meaningfulLines(text: string): Generator<[number, string]> {
  let number = 0;
  for (const raw of text.split('\n')) {
    number++;
    const line = raw.replace(/#.*$/, '').trim();
    if (line !== '') yield [number, line];
  }
}

/**
 * Reads a list of ASN rules, one a line: `AS16509`, or `org *hosting*` (the organisation's name, any case, `*` for any
 * text). `#` begins a comment. `name` appears in the rules.
 */
export function parseAsnRules(name: string): Parse<AsnRules> {
  return (text) => {
    const asns = new Map<number, string>();
    const organisations: Array<{ pattern: RegExp; rule: string }> = [];
    const problems: string[] = [];
    for (const [number, line] of meaningfulLines(text)) {
      const asn = /^AS(\d{1,10})$/i.exec(line);
      const organisation = /^org\s+(\S.*)$/i.exec(line);
      if (asn && Number(asn[1]) > 0 && Number(asn[1]) <= 0xffff_ffff)
        asns.set(Number(asn[1]), `${line} (${name}:${number})`);
      else if (organisation && /[^*\s]/.test(organisation[1] as string))
        organisations.push({
          pattern: globPattern(organisation[1] as string),
          rule: `${line} (${name}:${number})`,
        });
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
  const { organisation } = system;
  if (organisation === null) return null;
  return rules.organisations.find(({ pattern }) => pattern.test(organisation))?.rule ?? null;
}

function globPattern(glob: string): RegExp {
  const parts = glob
    .trim()
    .split(/\*+/)
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 'iu');
}
