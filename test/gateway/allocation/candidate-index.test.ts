import fc from 'fast-check';
import t from 'tap';
import { CandidateIndex } from '../../../gateway/allocation/candidate-index.js';
import { exitKey, fits, type Place, placesOf } from '../../../gateway/allocation/candidates.js';
import { type Device, device, wish } from './world.js';

const NONE: ReadonlySet<string> = new Set();
const anywhere: Place = { country: null, state: null, city: null, asn: null, isp: null, net: 'any' };

t.test('agrees with a plain list, whatever comes and goes', async (t) => {
  const shape = fc.record({
    country: fc.constantFrom('US', 'DE', 'FR', 'BR'),
    city: fc.constantFrom(null, 'Berlin', 'Paris', 'New York'),
    asn: fc.constantFrom(null, 1, 2),
    state: fc.constantFrom(null, 'New York', 'Île-de-France'),
    stateCode: fc.constantFrom(null, 'NY', 'BE'),
    isp: fc.constantFrom(null, 'Comcast Cable', 'Cable One, Inc.', 'Deutsche Telekom AG'),
    networkType: fc.constantFrom('wifi', 'mobile') as fc.Arbitrary<Device['networkType']>,
    providerId: fc.constantFrom('p1', 'p2', 'p3'),
    exitIp: fc.constantFrom('192.0.2.1', '192.0.2.2'),
    status: fc.constantFrom('sharing', 'sharing', 'paused') as fc.Arbitrary<Device['status']>,
  });
  const action = fc.record({
    kind: fc.constantFrom('add', 'add', 'add', 'remove', 'pause', 'share', 'take', 'give', 'network'),
    n: fc.nat(12),
    shape,
  });
  const place: fc.Arbitrary<Place> = fc.record({
    country: fc.constantFrom(null, 'US', 'DE', 'EU', 'XX'),
    state: fc.constantFrom(null, null, 'new york', 'be', 'ile de france'),
    city: fc.constantFrom(null, null, 'berlin', 'new york'),
    asn: fc.constantFrom(null, null, 1, 3),
    isp: fc.constantFrom(null, null, 'cable', 'deutsche telekom', 'one cable', ''),
    net: fc.constantFrom('any', 'any', 'mobile') as fc.Arbitrary<Place['net']>,
  });
  fc.assert(
    fc.property(
      fc.array(action, { maxLength: 60 }),
      fc.array(place, { maxLength: 6 }),
      fc.nat(1_000),
      (actions, places, seed) => {
        let turn = seed;
        const index = new CandidateIndex<Device>(() => (turn++ % 97) / 97);
        const list = new Map<string, Device>();
        const taken = new Set<string>();
        for (const { kind, n, shape } of actions) {
          const one = list.get(`device-${n}`);
          if (kind === 'add') {
            const added = device(n, shape);
            list.set(added.deviceId, added);
            index.add(added);
          } else if (kind === 'remove' && one) {
            if (!index.remove(one) || index.remove(one)) return false;
            list.delete(one.deviceId);
          } else if ((kind === 'pause' || kind === 'share') && one) {
            one.status = kind === 'pause' ? 'paused' : 'sharing';
            index.changed(one);
          } else if (kind === 'network' && one) {
            one.networkType = shape.networkType;
            index.changed(one);
          } else if (kind === 'take' || kind === 'give') {
            const exit = exitKey(device(n, shape));
            if (kind === 'take') taken.add(exit);
            else taken.delete(exit);
            index.setTaken(exit, kind === 'take');
          }
          const sharing = [...list.values()].filter((d) => d.status === 'sharing');
          for (const country of ['US', 'DE', 'FR', 'BR'])
            for (const network of ['wifi', 'mobile'] as const) {
              const there = sharing.filter((d) => d.country === country && d.networkType === network);
              const free = there.filter((d) => !taken.has(exitKey(d)));
              const counted = index.counts()[country]?.[network] ?? [0, 0];
              if (counted[0] !== free.length || counted[1] !== there.length) return false;
            }
          for (const at of places) {
            const free = [...list.values()].filter(
              (d) => d.status === 'sharing' && !taken.has(exitKey(d)) && fits(d, at),
            );
            // Every device that is free can be drawn, by excluding the ones before it; and no other ever is.
            const drawn = new Set<string>();
            for (let pick = index.pickFree(at, drawn); pick; pick = index.pickFree(at, drawn))
              drawn.add(pick.deviceId);
            if (index.freeCount(at) < free.length) return false;
            if (drawn.size !== free.length || free.some((d) => !drawn.has(d.deviceId))) return false;
          }
        }
        return index.size === list.size;
      },
    ),
    { numRuns: 300 },
  );
  t.pass('held for every history');
});

t.test('an older candidate of a device neither replaces nor removes the newer', async (t) => {
  const index = new CandidateIndex<Device>();
  const [older, newer] = [device(1), device(1, { sessionId: 'again', exitIp: '203.0.113.1' })];
  index.add(older);
  index.add(newer);
  t.equal(index.size, 1);
  t.equal(index.remove(older), false);
  t.equal(index.byDevice('device-1'), newer);
  t.equal(index.byExit(exitKey(older), NONE), undefined);
  t.equal(index.byExit(exitKey(newer), NONE), newer);
  t.equal(index.byExit(exitKey(newer), new Set(['device-1'])), undefined);
});

t.test('draws evenly', async (t) => {
  const index = new CandidateIndex<Device>();
  for (let n = 0; n < 20; n++) index.add(device(n));
  const counts = new Map<string, number>();
  for (let i = 0; i < 4_000; i++) {
    const id = index.pickFree(anywhere, NONE)?.deviceId ?? '';
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  t.equal(counts.size, 20);
  for (const [id, count] of counts)
    t.ok(count > 100 && count < 320, `${id} drawn ${count} times of about 200`);
});

t.test('choosing does not look at every device', async (t) => {
  let looked = 0;
  const index = new CandidateIndex<Device>();
  for (let n = 0; n < 10_000; n++) {
    const one = device(n, { country: n % 2 ? 'US' : 'DE', city: n % 10 === 0 ? 'Berlin' : null });
    Object.defineProperty(one, 'networkType', {
      get() {
        looked++;
        return 'wifi';
      },
    });
    index.add(one);
  }
  // All but a few are taken: the free ones are still found without a search.
  for (let n = 0; n < 9_990; n++) index.setTaken(exitKey(device(n)), true);
  for (const place of [
    { ...anywhere, net: 'wifi' },
    { ...anywhere, country: 'US', net: 'wifi' },
    { ...anywhere, country: 'DE', city: 'berlin', net: 'wifi' },
    { ...anywhere, country: 'EU', net: 'wifi' },
  ] as Place[]) {
    looked = 0;
    t.ok(index.pickFree(place, NONE));
    t.ok(looked < 10, `${looked} devices looked at`);
  }
});

t.test('places to try', async (t) => {
  const asked = { ...anywhere, country: 'DE', city: 'berlin', net: 'mobile' } as const;
  const places = (fallback: 'none' | 'country' | 'any') =>
    placesOf(wish({ country: 'DE', city: 'Berlin', net: 'mobile', fallback }));
  t.same(places('none'), [asked]);
  t.same(places('country'), [asked, { ...anywhere, country: 'DE', net: 'mobile' }]);
  t.same(places('any'), [
    asked,
    { ...anywhere, country: 'DE', net: 'mobile' },
    { ...anywhere, net: 'mobile' },
  ]);
  t.same(placesOf(wish({ fallback: 'any' })), [anywhere]);
  t.same(
    placesOf({ ...wish({ country: 'DE', asn: 7, fallback: 'any' }), udp: true }),
    [
      { ...anywhere, country: 'DE', asn: 7, udp: true },
      { ...anywhere, country: 'DE', udp: true },
      { ...anywhere, udp: true },
    ],
    'an association needs a device that carries one, wherever',
  );
  t.same(placesOf(wish({ country: 'US', fallback: 'country' })), [{ ...anywhere, country: 'US' }]);
  t.same(placesOf(wish({ asn: 7, fallback: 'any' })), [{ ...anywhere, asn: 7 }, anywhere]);
});

t.test('what is unknown never fits', async (t) => {
  const table: Array<[Partial<Device>, Partial<Place>, boolean]> = [
    [{}, {}, true],
    [{ country: 'DE' }, { country: 'EU' }, true],
    [{ country: 'GB' }, { country: 'EU' }, false],
    [{ country: 'NO' }, { country: 'EU' }, true],
    [{ city: 'New York' }, { country: 'US', city: 'new york' }, true],
    [{ city: null }, { city: 'new york' }, false],
    [{ asn: null }, { asn: 7 }, false],
    [{}, { state: 'texas' }, false],
    [{ state: 'Texas' }, { state: 'texas' }, true],
    [{}, { isp: 'comcast' }, false],
    [{ isp: 'Comcast' }, { isp: 'comcast' }, true],
    [{ networkType: 'unknown' }, { net: 'wifi' }, false],
    [{ networkType: 'ethernet' }, { net: 'wifi' }, false],
    [{ networkType: 'mobile' }, { net: 'mobile' }, true],
    [{}, { udp: true }, true],
    [{ udp: true }, { udp: true }, true],
    [{ udp: false }, { udp: true }, false],
    [{ udp: false }, {}, true],
  ];
  for (const [candidate, place, expected] of table)
    t.equal(
      fits(device(1, candidate), { ...anywhere, ...place }),
      expected,
      JSON.stringify([candidate, place]),
    );
});
