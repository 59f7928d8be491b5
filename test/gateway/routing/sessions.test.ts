/** Named sessions, rotation and retries through a gateway with devices in several countries. */
import t from 'tap';
import { DialCode } from '../../../agent-protocol/frame.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { FLEET_ENV, type FleetDevice, NETWORKS } from '../../helpers/fleet.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { carrier, exitOf, leave, nextChunk, openTunnel, until } from './exits.js';

let rig: GatewayRig;
const american: FleetDevice[] = [];
const german: FleetDevice[] = [];

t.before(async () => {
  rig = await startGatewayRig(FLEET_ENV);
  t.teardown(() => rig.stop());
  for (const n of [1, 2, 3, 4]) american.push(await carrier(rig, NETWORKS.US(n)));
  for (const n of [1, 2]) german.push(await carrier(rig, NETWORKS.DE(n)));
});

t.test('two vendors’ dialects side by side reach the same session', async (t) => {
  const dialects = [
    'user-acme-country-de-session-a1-sessionduration-30',
    'customer-acme-cc-DE-sessid-a1-sesstime-30',
    'acme-cr-De-sid-a1-sessionlength-1800',
    'customer-acme-sessionid-a1-lifetime-30-country-DE',
    'acme-sessttl-30-country-de-session-a1',
  ];
  const ids = new Set<string>();
  for (const username of dialects) {
    const exit = await exitOf(rig, username);
    t.match(exit, { outcome: '200', country: 'DE', session: 'a1' }, username);
    ids.add(exit.id ?? '');
    const ttlMs = await rig.redis.pttl(liveKeys.sticky('acme', 'a1'));
    t.ok(ttlMs > 29 * 60_000 && ttlMs <= 30 * 60_000, `${username}: kept for 30 minutes, ${ttlMs} ms`);
  }
  t.equal(ids.size, 1, 'one exit');

  // Bytes of both, and of SOCKS5, on one meter: the same allocation.
  const before = (await rig.meters()).map(({ allocationId }) => allocationId);
  t.equal(new Set(before).size, 1, 'one allocation');
  for (const username of dialects.slice(0, 2)) {
    const socket = await openTunnel(rig, username);
    socket.write('x'.repeat(1_000));
    for (let got = 0; got < 1_000; ) got += (await nextChunk(socket))?.length ?? 1_000;
    socket.destroy();
  }
  const { socket, reply } = await socksConnect({
    proxyPort: rig.gateway.proxyPort,
    username: dialects[1] as string,
    password: rig.password,
    host: 'example.org',
    port: 443,
  });
  t.equal(reply, 0);
  socket.end('x'.repeat(1_000));
  for (let got = 0; got < 1_000; ) got += (await nextChunk(socket))?.length ?? 1_000;
  await until(async () => (await rig.meters()).some(({ bytesDown }) => bytesDown >= 3_000), 'it is counted');
  const meters = await rig.meters();
  t.equal(meters.length, 1);
  t.match(meters[0], { bytesUp: 3_000, bytesDown: 3_000, allocationId: before[0] });

  t.not((await exitOf(rig, 'acme-country-de-session-a2')).id, [...ids][0], 'another name, another exit');
});

t.test('without a session every connection may take another exit, and all are used', async (t) => {
  const seen = new Map<string, number>();
  for (let i = 0; i < 60; i++) {
    const { outcome, id, country, session } = await exitOf(rig, 'acme-country-us-rotate-1');
    t.same([outcome, country, session], ['200', 'US', undefined]);
    seen.set(id ?? '', (seen.get(id ?? '') ?? 0) + 1);
  }
  t.equal(seen.size, american.length, 'each device was an exit');
  t.ok(Math.max(...seen.values()) <= 35, `none had most of it: ${[...seen.values()]}`);
});

t.test('a session keeps its exit over many connections; more sessions than exits share', async (t) => {
  const exits = new Set<string | undefined>();
  for (const name of ['k1', 'k2', 'k3', 'k4', 'k5', 'k6']) {
    const first = await exitOf(rig, `acme-country-us-session-${name}`);
    t.equal(first.outcome, '200');
    for (let i = 0; i < 5; i++) {
      const again = await exitOf(rig, `acme-country-us-session-${name}`);
      t.equal(again.id, first.id, `${name} stays`);
    }
    exits.add(first.id);
  }
  t.equal(exits.size, american.length);
});

t.test('a lost exit: replaced and then kept, or SESSION_LOST when strict', async (t) => {
  const [one, two] = [await carrier(rig, NETWORKS.FR(1)), await carrier(rig, NETWORKS.FR(2))];
  const loose = await exitOf(rig, 'acme-country-fr-session-loose');
  const strict = await exitOf(rig, 'acme-country-fr-session-hard-strict-1');
  t.not(loose.id, strict.id);
  const leaveBoth = async () => {
    await leave(rig, one);
    await leave(rig, two);
  };
  await leaveBoth();
  t.equal((await exitOf(rig, 'acme-country-fr-session-loose')).outcome, '503 NO_PEER');
  for (const alias of ['strict', 'oneip', 'hardsession'])
    t.equal(
      (await exitOf(rig, `acme-country-fr-session-hard-${alias}-1`)).outcome,
      '502 SESSION_LOST',
      `${alias}, nobody there`,
    );

  const three = await carrier(rig, NETWORKS.FR(3));
  const replaced = await exitOf(rig, 'acme-country-fr-session-loose');
  t.equal(replaced.outcome, '200');
  t.not(replaced.id, loose.id, 'the id says that the exit changed');
  t.equal((await exitOf(rig, 'acme-country-fr-session-loose')).id, replaced.id, 'and stays so');
  t.equal(
    (await exitOf(rig, 'acme-country-fr-session-hard-strict-1')).outcome,
    '502 SESSION_LOST',
    'although there is a device',
  );
  t.equal((await exitOf(rig, 'acme-country-fr-session-hard2-strict-1')).outcome, '200', 'a new one is new');

  // The very device comes back with its traffic session, at its address: the strict session goes on.
  for (const { record, exitIp } of [one, two]) await carrier(rig, exitIp, undefined, record);
  const back = await exitOf(rig, 'acme-country-fr-session-hard-strict-1');
  t.same([back.outcome, back.id], ['200', strict.id]);
  await leave(rig, three);
});

t.test('a restarted gateway knows its sessions again', async (t) => {
  const before = await exitOf(rig, 'acme-country-de-session-over1');
  await rig.restart();
  for (const fleet of [american, german])
    for (const device of fleet.splice(0))
      fleet.push(await carrier(rig, device.exitIp, undefined, device.record));
  const after = await exitOf(rig, 'acme-country-de-session-over1-strict-1');
  t.same([after.outcome, after.id], ['200', before.id]);
});

t.test('what fails before the first byte is tried on other devices', async (t) => {
  const bad = [DialCode.INTERNAL, DialCode.DNS_FAIL, DialCode.UNREACHABLE, DialCode.TIMEOUT];
  for (const [n, dialCode] of bad.entries()) {
    const failing = await carrier(rig, NETWORKS.IT(10 + n), () => dialCode);
    const good = await carrier(rig, NETWORKS.IT(20 + n));
    for (let i = 0; i < 30; i++)
      t.equal((await exitOf(rig, 'acme-country-it')).outcome, '200', `dial code ${dialCode}`);
    t.ok(failing.plain.opens.length > 0, 'the failing device was asked first at times');
    t.equal(good.plain.opens.length, 30, 'the other one carried all');

    const name = `acme-country-it-session-m${n}`;
    const moved = await exitOf(rig, name);
    t.equal(moved.outcome, '200', 'a session moves as well');
    t.equal((await exitOf(rig, name)).id, moved.id, 'and stays where it went');
    await leave(rig, failing);
    await leave(rig, good);
  }

  const dying = await carrier(rig, NETWORKS.IT(1), () => {
    dying.plain.socket.terminate();
    return null;
  });
  const survivor = await carrier(rig, NETWORKS.IT(2), ({ host }) => (host === 'warm-up.example.org' ? 9 : 0));
  // Asked for a host that only the dying one could carry, it is asked for sure.
  await exitOf(rig, 'acme-country-it', 'warm-up.example.org:443');
  await dying.plain.untilClosed();
  t.equal((await exitOf(rig, 'acme-country-it')).outcome, '200', 'a tunnel lost while dialling');
  await leave(rig, survivor);
});

t.test('three devices at most; strict sessions and what the destination says: one', async (t) => {
  const failing: FleetDevice[] = [];
  for (const n of [1, 2, 3, 4, 5]) {
    const device = await carrier(rig, NETWORKS.IT(30 + n), ({ host }) =>
      host.startsWith('refused') ? DialCode.REFUSED : DialCode.INTERNAL,
    );
    failing.push(device);
  }
  const opens = () => failing.reduce((sum, { plain }) => sum + plain.opens.length, 0);
  const asked = async (username: string, authority?: string) => {
    const before = opens();
    const { outcome } = await exitOf(rig, username, authority);
    return [outcome, opens() - before];
  };
  t.same(await asked('acme-country-it'), ['502 PEER_DROPPED', 3]);
  t.same(await asked('acme-country-it-session-s1-strict-1'), ['502 PEER_DROPPED', 1]);
  t.same(await asked('acme-country-it', 'refused.example.org:443'), ['502 REFUSED', 1]);
  for (const device of failing) await leave(rig, device);
});

t.test('after the first byte nothing is tried again: the connection is cut', async (t) => {
  const first = await carrier(rig, NETWORKS.IT(50));
  const second = await carrier(rig, NETWORKS.IT(51));
  const socket = await openTunnel(rig, 'acme-country-it');
  socket.write('hello');
  t.equal(String(await nextChunk(socket)), 'hello');
  const carries = first.plain.opens.length > 0 ? first : second;
  carries.plain.socket.terminate();
  t.equal(await nextChunk(socket), null, 'the buyer sees the end');
  t.equal(first.plain.opens.length + second.plain.opens.length, 1);
  t.equal((await exitOf(rig, 'acme-country-it')).outcome, '200', 'the next connection takes the other one');
});
