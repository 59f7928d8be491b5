/** Faults of two linked gateways; a part of the catalogue. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Fault } from './catalogue.js';

/** A stream's window on a link, and what two operating systems and the way between hold for it. */
const LINK_BYTES_MAX = 12 * 1024 * 1024;

export const linkFaults: readonly Fault[] = [
  {
    id: 'link-cut',
    title: 'links between two gateways cut or silent for 30 s, in mid-transfer',
    streams: 'some',
    linked: true,
    linkBytesMaxPerStream: LINK_BYTES_MAX,
    lastsS: 30,
    async run({ site, other, random, scale, note, world, traffic, fail }, strike) {
      const hit = random.chance(0.5) ? [site] : [site, other];
      const mode = random.pick(['cut', 'stall', 'stall'] as const);
      note(`${mode}, ${hit.length === 1 ? 'one way' : 'both ways'}`);
      await delay(random.integer(0, 1_500));
      strike();
      for (const { door } of hit) door.link.mode = mode;
      await delay(15_000 * scale);
      // A gateway's own devices serve whoever holds them, and do not wait for the other gateway.
      for (const one of world.sites) {
        const probes = [0, 1].map((buyer) => traffic.probe(world.proxy(one, buyer), 5_000));
        if (!(await Promise.all(probes)).some(Boolean)) fail('no device of the gateway itself served');
      }
      await delay(15_000 * scale);
      for (const { door } of hit) door.link.mode = 'pass';
    },
  },
  {
    id: 'gateway-redis-partition',
    title: 'partition of 30 s between one of two linked gateways and Redis',
    streams: 'some',
    linked: true,
    linkBytesMaxPerStream: LINK_BYTES_MAX,
    lastsS: 30,
    async run({ site, scale }, strike) {
      strike();
      site.links.gatewayRedis.mode = 'stall';
      await delay(30_000 * scale);
      site.links.gatewayRedis.mode = 'pass';
    },
  },
];
