import { AddressSet } from '../addresses.js';
import type { AutonomousSystem } from './asn-table.js';
import { type AsnRules, findAsnRule, readAsnRule } from './deny-lists.js';

/** Networks that no device may share from, as admins set them beside the operator's files. */
export interface OriginLists {
  /** `match`: `AS<number>` or `org <pattern>`, as in the files; `name`: what a refusal calls the rule. */
  asnRules: { match: string; name: string | null }[];
  /** Addresses and CIDRs. */
  deniedIps: string[];
  /** Networks that ASN rules, of the files too, do not refuse. */
  allowedAsns: number[];
}

/** `OriginLists`, compiled once for each of their versions. */
export class OriginPolicy {
  readonly #rules: AsnRules;
  readonly #addresses = new AddressSet();
  readonly #allowedAsns: ReadonlySet<number>;
  /** What the rules say of a network they were asked about: names are compared once. */
  readonly #found = new Map<number, string | null>();

  /** Entries that are none match nothing: check with `readAsnRule` and `isCidr` before. */
  constructor(lists: OriginLists = { asnRules: [], deniedIps: [], allowedAsns: [] }) {
    const asns = new Map<number, string>();
    const organisations: AsnRules['organisations'][number][] = [];
    for (const { match, name } of lists.asnRules) {
      const read = readAsnRule(match);
      const rule = name === null ? match : `${name} (${match})`;
      if (read?.kind === 'asn') asns.set(read.asn, rule);
      else if (read?.kind === 'organisation') organisations.push({ pattern: read.pattern, rule });
    }
    this.#rules = { asns, organisations };
    for (const network of lists.deniedIps) this.#addresses.add(network, network);
    this.#allowedAsns = new Set(lists.allowedAsns);
  }

  allows(asn: number): boolean {
    return this.#allowedAsns.has(asn);
  }

  /** The rule that refuses the network, or null. */
  asnRule(system: AutonomousSystem): string | null {
    let rule = this.#found.get(system.asn);
    if (rule === undefined) {
      rule = findAsnRule(this.#rules, system);
      this.#found.set(system.asn, rule);
    }
    return rule;
  }

  /** The denied network that holds the address (as `plainAddress` gives it), or undefined. */
  deniedNetwork(address: string): string | undefined {
    return this.#addresses.find(address);
  }
}

/** Nothing beside the operator's files. */
export const NO_ORIGIN_POLICY = new OriginPolicy();
