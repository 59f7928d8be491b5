import type { TicketRecord } from '../../gateway/live/records.js';
import type { GatewayRig } from './gateway.js';
import { PlainDevice } from './plain-device.js';

/** Settings under which devices of a rig may come from any address: they say it in X-Forwarded-For. */
export const FLEET_ENV = { TS_TRUSTED_PROXIES: '127.0.0.1' };

/**
 * Addresses of access networks as the shipped tables know them: `n` 1 to 200 gives as many exits. US is Comcast,
 * DE Deutsche Telekom, FR Orange, IT Telecom Italia.
 */
export const NETWORKS = {
  US: (n: number) => `73.0.0.${n}`,
  DE: (n: number) => `84.128.0.${n}`,
  FR: (n: number) => `90.0.0.${n}`,
  IT: (n: number) => `79.0.0.${n}`,
};

export interface FleetDevice {
  plain: PlainDevice;
  record: TicketRecord;
  exitIp: string;
}

/** A device at a public address, connected and greeted; it dials nothing until `plain.echo()` or `onFrame` is set. */
export async function joinFleet(
  rig: GatewayRig,
  exitIp: string,
  fields: Partial<TicketRecord> = {},
): Promise<FleetDevice> {
  const { text, record } = await rig.ticket(fields);
  const plain = await PlainDevice.connect(rig.gateway.tunnelPort, text, { 'x-forwarded-for': exitIp });
  await plain.greet();
  return { plain, record, exitIp };
}
