import type pg from 'pg';
import {
  NO_ORIGIN_POLICY,
  type OriginLists,
  OriginPolicy,
} from '../../gateway/runtime/origin/origin-policy.js';
import type { Origin, OriginCheck } from '../traffic/start.js';
import { type PolicyLists, readPolicyList, readPolicyVersion } from './lists.js';

/** The check of addresses by tables and files, given what admins set. */
export interface OriginTables {
  check(address: string, policy: OriginPolicy): Origin | Promise<Origin>;
}

/** As the data path takes them. */
export function originLists(lists: PolicyLists['origins']): OriginLists {
  return {
    asnRules: lists.asn_rules.map(({ match, name = null }) => ({ match, name })),
    deniedIps: lists.denied_ips,
    allowedAsns: lists.allowed_asns,
  };
}

/**
 * The check with admins' lists in it. They are looked up by their version at each check, so a change holds for the next
 * start at every control plane, and are compiled once a version.
 */
export function withOriginLists(pool: pg.Pool, tables: OriginTables): OriginCheck {
  let held = { version: 0, policy: NO_ORIGIN_POLICY };
  return {
    async check(address) {
      if ((await readPolicyVersion(pool, 'origins')) !== held.version) {
        const { version, ...lists } = await readPolicyList(pool, 'origins');
        held = { version, policy: new OriginPolicy(originLists(lists)) };
      }
      return tables.check(address, held.policy);
    },
  };
}
