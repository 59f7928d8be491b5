/** Devices of the bench's own beside the demo's: who they are, and the processes they live in. */
import { randomUUID } from 'node:crypto';
import type { TicketRecord } from '../../../gateway/live/records.js';
import { type Role, startRole } from '../role.js';
import type { DeviceSite } from '../roles/bench-device.js';
import type { TunnelsCalls } from '../roles/tunnels.js';

/** Devices that nothing else is like: usernames reach just them by `net-mobile`, the demo's device by the others. */
export const FLEET_NETWORK = 'mobile';

/** Device number `n` (0 to 16 millions): a provider and an exit of its own, in an access network of the US. */
export function fleetRecord(n: number): TicketRecord {
  return {
    sessionId: randomUUID(),
    deviceId: `bench-${randomUUID()}`,
    providerId: randomUUID(),
    exitIp: `73.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`,
    country: 'US',
    city: null,
    asn: null,
    networkType: FLEET_NETWORK,
    offerBytes: 1e12,
    capBytesPerDay: null,
    termsVersion: '1',
    clientVersion: '0.1.0',
  };
}

/** So many different devices. */
export function fleetRecords(count: number): TicketRecord[] {
  return Array.from({ length: count }, (_, n) => fleetRecord(n));
}

/** Devices in a process of their own. */
export interface Fleet {
  readonly role: Role<TunnelsCalls>;
  /** Ends their tunnels and the process. */
  close(): Promise<void>;
}

/** A process for devices; none has a tunnel yet. */
export function startFleet(): Fleet {
  const role = startRole<TunnelsCalls>('tunnels');
  return {
    role,
    async close() {
      await role.call.close();
      await role.stop();
    },
  };
}

/** Devices with a tunnel each, welcomed. */
export async function openFleet(site: DeviceSite, records: TicketRecord[]): Promise<Fleet> {
  const fleet = startFleet();
  try {
    await fleet.role.call.open(site, records);
    return fleet;
  } catch (error) {
    await fleet.role.stop();
    throw error;
  }
}
