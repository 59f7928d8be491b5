import { Counter, Gauge, type Registry } from 'prom-client';
import type { TunnelRegistry } from './tunnels/registry.js';
import type { Tunnel } from './tunnels/tunnel.js';

/** A country's two letters as ISO 3166 has them; whatever else a table of addresses says is one value. */
const COUNTRY = /^[A-Z]{2}$/;

/** Shows the devices by country and state, and how often their streams stall. */
export function exposeFleet(registry: Registry, tunnels: Pick<TunnelRegistry, 'all' | 'totals'>): void {
  const registers = [registry];
  new Gauge({
    name: 'ts_devices',
    help: 'Devices connected to this gateway, by where they are and whether they take streams',
    labelNames: ['country', 'state'],
    registers,
    collect() {
      const counts = new Map<string, Record<Tunnel['status'], number>>();
      for (const { country, status } of tunnels.all()) {
        const key = COUNTRY.test(country) ? country : 'other';
        const states = counts.get(key) ?? { sharing: 0, paused: 0, draining: 0 };
        states[status]++;
        counts.set(key, states);
      }
      this.reset();
      for (const [country, states] of counts)
        for (const [state, count] of Object.entries(states)) this.set({ country, state }, count);
    },
  });
  new Counter({
    name: 'ts_credit_stalls_total',
    help: 'Times a stream had no flow-control window left: up, its device is slow; down, its buyer',
    labelNames: ['direction'],
    registers,
    collect() {
      const { stallsUp, stallsDown } = tunnels.totals;
      this.reset();
      this.inc({ direction: 'up' }, stallsUp);
      this.inc({ direction: 'down' }, stallsDown);
    },
  });
}
