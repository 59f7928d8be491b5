import type { AccessWatch } from './access-watch.js';
import type { Allocator } from './allocation/allocator.js';
import type { GatewayCommand } from './live/records.js';
import type { LiveSettingsCache } from './live-settings.js';
import type { Relay } from './relay/relay.js';
import type { Splice } from './relay/splice.js';
import type { TunnelRegistry } from './tunnels/registry.js';
import type { Tunnel } from './tunnels/tunnel.js';

/** What commands of the control plane are about. */
export interface CommandTargets {
  access: AccessWatch;
  relay: Relay;
  registry: TunnelRegistry;
  allocator: Allocator<Tunnel>;
  live: LiveSettingsCache;
  /** Which gateway this is, and which run of it. */
  self: { gatewayId: string; run: string };
  /** This run is to end. */
  onDrain(): void;
  /** Prices of open meters are compared with those in force. */
  reprice(): void;
}

/** Does what the control plane says. Every command may come twice. */
export async function obey(command: GatewayCommand, targets: CommandTargets): Promise<void> {
  const { relay, registry, allocator, live } = targets;
  switch (command.kind) {
    case 'account_changed':
      return targets.access.accountChanged(command.account);
    case 'price_changed':
    case 'settings_changed':
      await live.refresh();
      targets.reprice();
      return targets.access.everythingChanged();
    case 'stop_session':
      registry.closeSession(command.sessionId, command.reason);
      allocator.sessionStopped(command.sessionId);
      relay.closeSession(command.sessionId);
      return;
    case 'end_allocation':
      allocator.end(command.allocationId);
      return;
    case 'kill':
      relay.cut(concerns(command, registry));
      return;
    case 'drain':
      if (command.gatewayId === targets.self.gatewayId && command.run === targets.self.run) targets.onDrain();
  }
}

function concerns(
  { scope, id }: Extract<GatewayCommand, { kind: 'kill' }>,
  registry: TunnelRegistry,
): (splice: Splice) => boolean {
  return (splice) =>
    scope === 'all' ||
    (scope === 'buyer' && splice.subject.buyerId === id) ||
    (scope === 'device' && splice.subject.deviceId === id) ||
    (scope === 'provider' && registry.byDevice(splice.subject.deviceId)?.providerId === id) ||
    (scope === 'destination' && id !== null && splice.reaches(id));
}
