import type { LiveSettings } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';
import type { SettingsStore } from '../settings/settings.js';
import { readPolicyLists } from './lists.js';
import { originLists } from './origins.js';

/** What the data path is told (`gateway/live`), as Postgres has it now. */
export async function readLiveSettings(client: Queryable, store: SettingsStore): Promise<LiveSettings> {
  const { termsVersion } = await store.read(client);
  const { destinations, ports, origins } = await readPolicyLists(client);
  return {
    policyVersion: destinations.version + ports.version + origins.version,
    termsVersion,
    deniedDomains: destinations.denied_domains,
    deniedIps: destinations.denied_ips,
    ports: { openTcp: ports.open_tcp, openUdp: ports.open_udp, neverAllowed: ports.never_allowed },
    origins: originLists(origins),
  };
}
