import { Counter, Gauge, type Registry } from 'prom-client';
import { proxyErrors } from '../errors.js';
import type { GatewayLinks } from './gateway-links.js';

/** What can come of asking another gateway. */
const OUTCOMES = ['OK', 'elsewhere', 'away', 'unspoken', ...Object.keys(proxyErrors)];

/** Shows links with other gateways, and what went over them. */
export function exposeLinks(
  registry: Registry,
  links: Pick<GatewayLinks, 'status' | 'asked' | 'failures'>,
): void {
  const registers = [registry];
  new Gauge({
    name: 'ts_links',
    help: 'Gateways linked with this one: out, that it asks for its buyers; in, that ask it for theirs',
    labelNames: ['way'],
    registers,
    collect() {
      const { to, from } = links.status;
      this.set({ way: 'out' }, to.length);
      this.set({ way: 'in' }, from.length);
    },
  });
  new Gauge({
    name: 'ts_link_streams',
    help: 'Connections and UDP associations relayed for buyers through another gateway: out, of buyers here; in, through devices here',
    labelNames: ['way'],
    registers,
    collect() {
      const { streamsOut, streamsIn } = links.status;
      this.set({ way: 'out' }, streamsOut);
      this.set({ way: 'in' }, streamsIn);
    },
  });
  new Counter({
    name: 'ts_link_requests_total',
    help: 'Requests of buyers here that other gateways were asked to serve, by what came of it',
    labelNames: ['outcome'],
    registers,
    collect() {
      this.reset();
      for (const outcome of OUTCOMES) this.inc({ outcome }, links.asked.get(outcome) ?? 0);
    },
  });
  new Counter({
    name: 'ts_link_failures_total',
    help: 'Links that came to nothing: out, not to be had; in, refused for their certificate or name',
    labelNames: ['way'],
    registers,
    collect() {
      const { failures } = links;
      this.reset();
      this.inc({ way: 'out' }, failures.out);
      this.inc({ way: 'in' }, failures.in);
    },
  });
}
