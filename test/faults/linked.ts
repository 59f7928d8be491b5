import { freePort } from '../../deploy/standalone/services/free-port.js';
import { type LinkCa, startLinkCa } from '../helpers/link-certificates.js';
import { Link } from './link.js';

/** Countries in which the two gateways see their devices. */
export const COUNTRIES = ['US', 'DE'] as const;

/** How a gateway takes links from the other one: past something that can be disturbed. */
export interface LinkDoor {
  readonly link: Link;
  /** Settings of the gateway when the two are linked. */
  readonly env: Readonly<Record<string, string>>;
}

/** @param undo what ends it is put there */
export async function openLinkDoor(
  gatewayId: string,
  ca: LinkCa,
  undo: Array<() => unknown>,
): Promise<LinkDoor> {
  const port = await freePort();
  const link = await Link.to(port);
  undo.push(() => link.close());
  const env = {
    ...(await ca.settings(gatewayId)),
    TS_GATEWAY_LINK_PORT: String(port),
    TS_GATEWAY_LINK_ADDRESS: `127.0.0.1:${link.port}`,
  };
  return { link, env };
}

/** As `startLinkCa`. */
export function openLinkCa(undo: Array<() => unknown>): Promise<LinkCa> {
  return startLinkCa({ teardown: (end: () => unknown) => undo.push(end) } as Parameters<
    typeof startLinkCa
  >[0]);
}
