import t from 'tap';
import type { PhaseFigures } from './figures.js';
import { simulateFleet } from './scenario.js';

const PLAN = {
  devices: 2_000,
  gateways: 5,
  connectionsPerSecond: 40,
  buyers: 50,
  seed: 7,
  phaseSeconds: 20,
};

/** Without what differs from machine to machine. */
const facts = (phases: PhaseFigures[]) => phases.map(({ allocationCpuUs: _, ...rest }) => rest);

t.test('a fleet in simulated time', async (t) => {
  const phases = await simulateFleet(PLAN);
  const [arrival, coming, service, killed, manyKilled, drained, added, wiped, after] = phases as [
    ...PhaseFigures[],
  ];
  t.equal(phases.length, 9);

  t.test('devices are where balancers put them', async (t) => {
    // One or two are between two tunnels at any moment.
    t.ok((arrival?.devicesOnline ?? 0) > PLAN.devices - 5);
    t.ok((arrival?.devicesPerGateway.least ?? 0) > PLAN.devices / PLAN.gateways - 5);
    t.ok((arrival?.devicesPerGateway.most ?? 0) <= PLAN.devices / PLAN.gateways + 1);
    t.ok(
      (added?.devicesPerGateway.least ?? 0) < (added?.devicesPerGateway.median ?? 0),
      'nobody is asked to move',
    );
  });

  t.test(
    'with devices to spare, buyers are refused by nobody but by a gateway that died a moment ago',
    async (t) => {
      for (const { phase, connections } of [coming, service, drained, wiped, after].flatMap(
        (one) => one ?? [],
      ))
        t.same(Object.keys(connections), ['OK'], phase);
      for (const { phase, connections } of [killed, manyKilled].flatMap((one) => one ?? []))
        t.strictSame(
          Object.keys(connections).filter((code) => code !== 'OK'),
          ['gateway_gone'],
          phase,
        );
      t.ok((service?.linkedShare ?? 0) > 0.2, 'sessions go where their device is');
    },
  );

  t.test('devices of a gateway that died come back as fast as agents are told to', async (t) => {
    const lost = killed?.events['devices that lost their gateway'];
    t.ok((lost ?? 0) > PLAN.devices / PLAN.gateways - 5);
    const allBackMs = killed?.events['all back after, ms'] ?? Number.NaN;
    t.ok(allBackMs > 0 && allBackMs < 10_000, `${allBackMs} ms`);
  });

  t.test('a gateway that leaves gives its devices away', async (t) => {
    t.ok((drained?.events['99 % gone after, ms'] ?? Number.NaN) < 20_000);
  });

  t.test('after Redis was lost everything is written again at once', async (t) => {
    t.ok((wiped?.redis.device?.commands ?? 0) > PLAN.devices - 5);
    t.ok((after?.devicesOnline ?? 0) > PLAN.devices - 5);
  });
});

t.test('equal seeds give equal histories', async (t) => {
  const small = { ...PLAN, devices: 300, phaseSeconds: 5 };
  t.same(facts(await simulateFleet(small)), facts(await simulateFleet(small)));
});
