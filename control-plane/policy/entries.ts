import { isCidr } from '../../gateway/runtime/addresses.js';
import { readAsnRule } from '../../gateway/runtime/origin/deny-lists.js';
import { DEFAULT_UDP_PORTS, NEVER_ALLOWED_PORTS } from '../../gateway/runtime/ports.js';
import type { PolicyLists } from './lists.js';

/** An entry that no schema can judge: where it is in the body, and what is wrong with it. */
export interface WrongEntry {
  path: string;
  message: string;
}

/** Every network of the field that is none. */
export function wrongNetworks(field: string, networks: readonly string[]): WrongEntry[] {
  return networks.flatMap((text, i) =>
    isCidr(text) ? [] : [{ path: `/body/${field}/${i}`, message: 'must be an address or a CIDR' }],
  );
}

/** Every rule that is none. */
export function wrongAsnRules(rules: PolicyLists['origins']['asn_rules']): WrongEntry[] {
  return rules.flatMap(({ match }, i) =>
    readAsnRule(match) === null
      ? [{ path: `/body/asn_rules/${i}/match`, message: 'must be AS<number> or org <pattern>' }]
      : [],
  );
}

/**
 * Every port that can not be open to everybody: of the built-in list of ports that take a grant (port 53 by UDP is not
 * on it), or of the new one.
 */
export function wrongPorts(ports: PolicyLists['ports']): WrongEntry[] {
  const never = new Set(ports.never_allowed);
  const wrong = (field: 'open_tcp' | 'open_udp', exempt: ReadonlySet<number>) =>
    ports[field].flatMap((port, i) => {
      const path = `/body/${field}/${i}`;
      if (never.has(port)) return [{ path, message: 'is in never_allowed as well' }];
      if (NEVER_ALLOWED_PORTS.has(port) && !exempt.has(port))
        return [{ path, message: 'is never open to everybody: grant it to a buyer (granted_ports)' }];
      return [];
    });
  return [...wrong('open_tcp', new Set()), ...wrong('open_udp', DEFAULT_UDP_PORTS)];
}
