/** Exits as buyers are told of them. */
import { hash } from 'node:crypto';
import type { Exit } from './listeners/connect-pipeline.js';
import type { Tunnel } from './tunnels/tunnel.js';

/** The exit of a connection through the tunnel; `session`: the name it asked for. */
export function exitOf(tunnel: Tunnel, session: string | null): Exit {
  return { id: exitId(tunnel), country: tunnel.country, session };
}

/** Each made once: the exit of a tunnel never changes. */
const exitIds = new WeakMap<Tunnel, string>();

/** Names an exit to a buyer without telling what it is: the provider's id is random and never shown. */
function exitId(tunnel: Tunnel): string {
  let id = exitIds.get(tunnel);
  if (id === undefined) {
    id = hash('sha256', `${tunnel.providerId}|${tunnel.exitIp}`, 'base64url').slice(0, 16);
    exitIds.set(tunnel, id);
  }
  return id;
}
