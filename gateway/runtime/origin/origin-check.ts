import { basename } from 'node:path';
import { classifyAddress } from '../../../agent-protocol/address.js';
import { type AddressSet, plainAddress } from '../addresses.js';
import type { Log } from '../logging.js';
import { projectPath } from '../project-path.js';
import { type AsnTable, type AutonomousSystem, loadAsnCsv, openAsnMmdb } from './asn-table.js';
import { DEFAULT_COUNTRIES } from './countries.js';
import { type LocationTable, openLocations } from './countries-mmdb.js';
import { type AsnRules, findAsnRule, parseAddressRules, parseAsnRules } from './deny-lists.js';
import { LiveFile } from './live-file.js';
import { NO_ORIGIN_POLICY, type OriginPolicy } from './origin-policy.js';

export interface OriginCheckOptions {
  log: Log;
  /** ISO 3166 alpha-2; left out or empty: the US and the EU/EEA. */
  allowedCountries?: readonly string[];
  /** mmdb with countries (and cities); null: the CC0 database that comes with the package. */
  countryPath?: string | null;
  /** mmdb with ASNs; null: the CSV table that comes with the package. */
  asnPath?: string | null;
  /** Lists of ASN rules, live-reloaded; left out: `deploy/policy/asn-hosting.txt`. */
  asnRulePaths?: readonly string[];
  /** Lists of addresses and CIDRs, live-reloaded; left out: `deploy/policy/ip-denylist.txt`. */
  addressRulePaths?: readonly string[];
  /**
   * Development only: addresses that are not public count as being in this country and pass. The caller refuses it in
   * production.
   */
  devLoopbackCountry?: string | null;
}

/**
 * Whether a device may share from an address. `rule` says which rule refused it, in words for the device's owner.
 * region_not_allowed: the country, or no public address at all. vpn_detected: the network belongs to a hosting or VPN
 * company. denylisted: on a list of addresses.
 */
export type Origin =
  | {
      ok: true;
      country: string;
      city: string | null;
      state: string | null;
      /** See `Location`. */
      stateCode: string | null;
      asn: number | null;
      /** Who announces the address: what buyers call the ISP. */
      asOrganisation: string | null;
    }
  | { ok: false; code: 'region_not_allowed' | 'vpn_detected' | 'denylisted'; rule: string };

const NOWHERE = { city: null, state: null, stateCode: null, asn: null, asOrganisation: null };

/** Decides from the address that a server sees, never from one that a device claims. */
export class OriginCheck {
  private constructor(
    private readonly locations: LocationTable,
    private readonly systems: AsnTable,
    private readonly asnRules: ReadonlyArray<LiveFile<AsnRules>>,
    private readonly addressRules: ReadonlyArray<LiveFile<AddressSet>>,
    private readonly allowedCountries: ReadonlySet<string>,
    private readonly devLoopbackCountry: string | null,
  ) {}

  /** Loads the tables (about a second, in steps of a few ms) and the lists. Rejects when one cannot be read: nothing is let in unchecked. */
  static async open(options: OriginCheckOptions): Promise<OriginCheck> {
    const { log, countryPath, asnPath } = options;
    const asnRulePaths = options.asnRulePaths ?? [projectPath('deploy/policy/asn-hosting.txt')];
    const addressRulePaths = options.addressRulePaths ?? [projectPath('deploy/policy/ip-denylist.txt')];
    const opened: Array<LiveFile<unknown>> = [];
    const openList = async <T>(file: Promise<LiveFile<T>>): Promise<LiveFile<T>> => {
      const list = await file;
      opened.push(list);
      return list;
    };
    try {
      const asnRules: Array<LiveFile<AsnRules>> = [];
      for (const path of asnRulePaths)
        asnRules.push(await openList(LiveFile.open(path, parseAsnRules(basename(path)), log)));
      const addressRules: Array<LiveFile<AddressSet>> = [];
      for (const path of addressRulePaths)
        addressRules.push(await openList(LiveFile.open(path, parseAddressRules(basename(path)), log)));
      const countries = projectPath(
        'node_modules/@ip-location-db/geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb',
      );
      const locations = await openLocations(countryPath ?? countries);
      const asnCsv = (file: string) => projectPath(`node_modules/@ip-location-db/asn/${file}`);
      const systems = asnPath
        ? await openAsnMmdb(asnPath)
        : await loadAsnCsv(asnCsv('asn-ipv4-num.csv'), asnCsv('asn-ipv6-num.csv'));
      const named = (options.allowedCountries ?? []).map((country) => country.toUpperCase());
      const allowed = named.length > 0 ? new Set(named) : DEFAULT_COUNTRIES;
      const dev = options.devLoopbackCountry?.toUpperCase() ?? null;
      return new OriginCheck(locations, systems, asnRules, addressRules, allowed, dev);
    } catch (error) {
      for (const list of opened) list.close();
      throw error;
    }
  }

  /** Takes about 10 µs. `ip`: any text; what is no public address is refused. `policy`: what admins set. */
  check(ip: string, policy: OriginPolicy = NO_ORIGIN_POLICY): Origin {
    const address = plainAddress(ip);
    if (address === null || classifyAddress(address) !== 'global') {
      if (address !== null && this.devLoopbackCountry !== null)
        return { ok: true, country: this.devLoopbackCountry, ...NOWHERE };
      return { ok: false, code: 'region_not_allowed', rule: 'address is not public' };
    }
    const location = this.locations.find(address);
    if (location === null) return { ok: false, code: 'region_not_allowed', rule: 'country unknown' };
    if (!this.allowedCountries.has(location.country))
      return { ok: false, code: 'region_not_allowed', rule: `country ${location.country}` };

    const system = this.systems.find(address);
    const asnRule = system && !policy.allows(system.asn) ? this.#asnRule(system, policy) : null;
    if (asnRule !== null) return { ok: false, code: 'vpn_detected', rule: asnRule };
    const denied = this.#deniedNetwork(address) ?? policy.deniedNetwork(address);
    if (denied !== undefined) return { ok: false, code: 'denylisted', rule: denied };
    return {
      ok: true,
      ...location,
      asn: system?.asn ?? null,
      asOrganisation: system?.organisation ?? null,
    };
  }

  #asnRule(system: AutonomousSystem, policy: OriginPolicy): string | null {
    for (const { value } of this.asnRules) {
      const rule = findAsnRule(value, system);
      if (rule !== null) return rule;
    }
    return policy.asnRule(system);
  }

  #deniedNetwork(address: string): string | undefined {
    for (const { value } of this.addressRules) {
      const rule = value.find(address);
      if (rule !== undefined) return rule;
    }
    return undefined;
  }

  /** Reads changed lists now (they are also watched). */
  async reload(): Promise<void> {
    await Promise.all([...this.asnRules, ...this.addressRules].map((list) => list.check()));
  }

  /** Stops watching the lists. */
  close(): void {
    for (const list of [...this.asnRules, ...this.addressRules]) list.close();
  }
}
