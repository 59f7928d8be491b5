/** Where a connection goes out: every place that a username can name, with an operator's own city database. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { readPresence } from '../../../gateway/live/presence.js';
import { FLEET_ENV, type FleetDevice } from '../../helpers/fleet.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { mmdb } from '../../helpers/mmdb.js';
import { carrier, exitOf, leave, until } from './exits.js';

let rig: GatewayRig;

/** The networks of the shipped AS table; the places of the test's database. */
const HOMES = {
  comcast: '73.0.0.1', // AS7922 Comcast Cable Communications, LLC; Los Angeles, California
  att: '12.0.0.1', // AS7018 AT&T Enterprises, LLC; New York, New York
  tmobile: '172.56.0.1', // AS21928 T-Mobile USA, Inc.; no city
  telekom: '84.128.0.1', // AS3320 Deutsche Telekom AG; München, Bayern (a flat record)
  orange: '90.0.0.1', // AS3215 Orange S.A.; Saint-Denis, Île-de-France
};
const devices = {} as Record<keyof typeof HOMES, FleetDevice>;

t.before(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ts-places-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'city.mmdb');
  const american = (city: string, code: string, state: string) => ({
    country: { iso_code: 'US' },
    city: { names: { en: city } },
    subdivisions: [{ iso_code: code, names: { en: state } }],
  });
  await writeFile(
    path,
    mmdb({
      '73.0.0.0/16': american('Los Angeles', 'CA', 'California'),
      '12.0.0.0/16': american('New York', 'NY', 'New York'),
      '172.56.0.0/16': { country: { iso_code: 'US' } },
      '84.128.0.0/16': { country_code: 'DE', city: 'München', state1: 'Bayern' },
      '90.0.0.0/16': { country_code: 'FR', city: 'Saint-Denis', state1: 'Île-de-France' },
    }),
  );
  rig = await startGatewayRig({ ...FLEET_ENV, TS_GEOIP_COUNTRY: path });
  t.teardown(() => rig.stop());
  for (const [name, exitIp] of Object.entries(HOMES))
    devices[name as keyof typeof HOMES] = await carrier(rig, exitIp);
});

type Expected = Array<keyof typeof HOMES> | 'NO_PEER' | `BAD_PARAM ${string}`;

/** Username parameters, and which devices may serve them. */
const TABLE: Array<[params: string, expected: Expected]> = [
  ['country-us', ['comcast', 'att', 'tmobile']],
  ['country-any', ['comcast', 'att', 'tmobile', 'telekom', 'orange']],
  ['country-eu', ['telekom', 'orange']],
  ['country-uk', 'NO_PEER'],
  ['country-us-state-california', ['comcast']],
  ['country-us-state-CA', ['comcast']],
  ['cc-US-st-us_california', ['comcast']],
  ['cr-us-region-new_york', ['att']],
  ['country-us-state-new_york-city-new_york', ['att']],
  ['country-us-city-los_angeles', ['comcast']],
  ['country-us-city-Los_Angeles-state-ny', 'NO_PEER'],
  ['country-us-state-texas', 'NO_PEER'],
  ['country-de-state-bayern', ['telekom']],
  ['country-de-city-munchen', ['telekom']],
  ['country-fr-city-saint_denis', ['orange']],
  ['country-fr-state-ile_de_france', ['orange']],
  ['country-de-city-saint_denis', 'NO_PEER'],
  ['state-california', 'BAD_PARAM state'],
  ['country-eu-city-munchen', 'BAD_PARAM city'],
  ['asn-7922', ['comcast']],
  ['asn-AS3320', ['telekom']],
  ['country-us-asn-3320', 'NO_PEER'],
  ['asn-0', 'BAD_PARAM asn'],
  ['isp-comcast', ['comcast']],
  ['isp-Comcast_Cable', ['comcast']],
  ['isp-cable_communications', ['comcast']],
  ['isp-at_t', ['att']],
  ['isp-t_mobile', ['tmobile']],
  ['isp-deutsche_telekom', ['telekom']],
  ['country-us-isp-telekom', 'NO_PEER'],
  ['isp-tele', 'NO_PEER'],
  ['isp-orange-country-eu', ['orange']],
  ['isp-llc', ['comcast', 'att']],
  ['country-us-isp-llc-city-new_york', ['att']],
  // fallback: the country when the narrower place has nobody, any when the country has nobody either
  ['country-us-state-texas-fallback-none', 'NO_PEER'],
  ['country-us-state-texas-fallback-country', ['comcast', 'att', 'tmobile']],
  ['country-us-city-austin-asn-1-fallback-country', ['comcast', 'att', 'tmobile']],
  ['country-jp-fallback-country', 'NO_PEER'],
  ['country-jp-city-tokyo-fallback-country', 'NO_PEER'],
  ['country-jp-fallback-any', ['comcast', 'att', 'tmobile', 'telekom', 'orange']],
  ['country-us-isp-telekom-fallback-any', ['comcast', 'att', 'tmobile']],
  ['country-us-fallback-sometimes', 'BAD_PARAM fallback'],
];

t.test('places', async (t) => {
  for (const [params, expected] of TABLE) {
    const opens = () => Object.entries(devices).map(([name, { plain }]) => [name, plain.opens.length]);
    const before = new Map(opens() as Array<[string, number]>);
    const tries = Array.isArray(expected) ? 12 * expected.length : 1;
    const outcomes = new Set<string>();
    for (let i = 0; i < tries; i++) outcomes.add((await exitOf(rig, `acme-${params}`)).outcome);
    const served = opens().flatMap(([name, n]) =>
      (n as number) > (before.get(name as string) ?? 0) ? [name] : [],
    );
    if (Array.isArray(expected)) {
      t.same([...outcomes], ['200'], params);
      t.same(served.sort(), [...expected].sort(), `${params}: all of these, and no other`);
    } else {
      t.match([...outcomes].join(), new RegExp(`^[0-9]{3} ${expected}$`), params);
      t.same(served, []);
    }
  }
});

t.test('what a device says of its network now decides about net', async (t) => {
  t.equal((await exitOf(rig, 'acme-net-mobile')).outcome, '503 NO_PEER', 'all came by Wi-Fi');
  devices.tmobile.plain.status({ network: 'mobile' });
  await until(
    async () => (await readPresence(rig.redis, devices.tmobile.record.deviceId))?.networkType === 'mobile',
    'the gateway heard of it',
  );
  const before = devices.tmobile.plain.opens.length;
  for (let i = 0; i < 5; i++) t.equal((await exitOf(rig, 'acme-net-mobile')).outcome, '200');
  t.equal(devices.tmobile.plain.opens.length, before + 5);
  t.equal(
    (await exitOf(rig, 'acme-country-de-net-mobile-fallback-country')).outcome,
    '503 NO_PEER',
    'no fallback changes the network',
  );
});

t.test('presence tells the place; a ticket fills what the gateway’s tables do not know', async (t) => {
  t.match(await readPresence(rig.redis, devices.comcast.record.deviceId), {
    country: 'US',
    city: 'Los Angeles',
    state: 'California',
    stateCode: 'CA',
    isp: 'Comcast Cable Communications, LLC',
    asn: 7922,
  });
  await leave(rig, devices.tmobile);
  const told = { country: 'US', city: 'Seattle', state: 'Washington', stateCode: 'WA', isp: 'Not this one' };
  const same = await carrier(rig, HOMES.tmobile, undefined, { ...told, exitIp: HOMES.tmobile });
  const other = await carrier(rig, '172.56.0.2', undefined, {
    ...told,
    city: 'Tacoma',
    exitIp: '172.56.0.99',
  });
  t.equal((await exitOf(rig, 'acme-country-us-state-wa-city-seattle')).outcome, '200');
  t.equal(
    (await exitOf(rig, 'acme-country-us-isp-not_this_one')).outcome,
    '503 NO_PEER',
    'its own word first',
  );
  t.equal(
    (await exitOf(rig, 'acme-country-us-city-tacoma')).outcome,
    '503 NO_PEER',
    'a ticket for another address says nothing',
  );
  await leave(rig, same);
  await leave(rig, other);
});
