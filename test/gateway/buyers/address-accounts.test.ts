/** Clients that name no account: the one that allowlists their address. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import { AddressAccounts } from '../../../gateway/buyers/address-accounts.js';
import { publishCommand } from '../../../gateway/live/commands.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import type { AccountSnapshot } from '../../../gateway/live/records.js';
import {
  deleteAccount,
  isAccountWritten,
  readPasswordless,
  writeAccount,
} from '../../../gateway/live/store.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { askRaw } from '../../helpers/raw-http.js';
import { accountSnapshot, connect as connectRedis, onEachRedis } from '../live/servers.js';

t.test('one account, or nobody', async (t) => {
  const accounts = new AddressAccounts(
    new Map([
      ['acme', ['192.0.2.0/28', '2001:db8::/48']],
      ['other', ['192.0.2.5', '198.51.100.7', '203.0.113.0/24']],
      ['third', ['203.0.113.9', 'rubbish']],
    ]),
  );
  for (const [address, account] of [
    ['192.0.2.1', 'acme'],
    ['::ffff:192.0.2.1', 'acme'],
    ['2001:db8::77', 'acme'],
    ['198.51.100.7', 'other'],
    ['203.0.113.8', 'other'],
    ['192.0.2.5', null], // of two
    ['203.0.113.9', null],
    ['192.0.2.16', null],
    ['2001:db8:1::1', null],
    ['rubbish', null],
    ['', null],
  ] as const)
    for (const time of ['first', 'again']) t.equal(accounts.find(address), account, `${address}, ${time}`);
  t.equal(new AddressAccounts(new Map()).find('192.0.2.1'), null);
});

onEachRedis(t, async (t, server) => {
  t.test('the list in Redis follows the accounts', async (t) => {
    const redis = connectRedis(t, { url: server.url });
    const one = accountSnapshot({ account: 'one1', passwordlessIps: ['192.0.2.1', '2001:db8::/32'] });
    const two = accountSnapshot({ account: 'two2', passwordlessIps: [] });
    t.notOk(await isAccountWritten(redis, one));
    for (const snapshot of [one, two]) await writeAccount(redis, snapshot);
    t.ok(await isAccountWritten(redis, one));
    t.ok(await isAccountWritten(redis, two));
    t.same(await readPasswordless(redis), new Map([['one1', one.passwordlessIps]]));
    t.notOk(await isAccountWritten(redis, { ...one, passwordlessIps: [] }));
    await redis.hset(liveKeys.passwordless(), 'broken', '{');
    t.same([...(await readPasswordless(redis)).keys()], ['one1'], 'what is unreadable opens nothing');

    await redis.del(liveKeys.passwordless());
    t.notOk(await isAccountWritten(redis, one), 'a list that is missing is noticed');
    await writeAccount(redis, one);
    await writeAccount(redis, { ...one, passwordlessIps: [] });
    t.equal(await redis.exists(liveKeys.passwordless()), 0);
    await writeAccount(redis, one);
    t.ok(await deleteAccount(redis, 'one1'));
    t.equal(await redis.exists(liveKeys.passwordless()), 0);
  });
});

t.test('through a gateway, in each protocol', async (t) => {
  const rig: GatewayRig = await startGatewayRig();
  t.teardown(() => rig.stop());
  const device = await PlainDevice.connect(rig.gateway.tunnelPort, (await rig.ticket()).text);
  await device.greet();
  device.echo(Buffer.from('HTTP/1.1 204 Reached\r\n\r\n'));
  const { proxyPort } = rig.gateway;
  const line = async (request: string) => (await askRaw(proxyPort, request)).line.replace('HTTP/1.1 ', '');
  const all = async () => [
    await line('CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n'),
    await line('GET http://example.org/ HTTP/1.1\r\nHost: x\r\n\r\n'),
    await socksWithoutLogin(proxyPort),
  ];
  const closed = ['407 AUTH_FAILED', '407 AUTH_FAILED', 'no method'];
  const open = ['200 Connection established', '204 Reached', 'reply 0'];
  const publish = async (changes: Partial<AccountSnapshot>) => {
    const snapshot = { ...rig.account, ...changes };
    await writeAccount(rig.redis, snapshot);
    await publishCommand(rig.redis, { kind: 'account_changed', account: snapshot.account });
  };
  /** The command is under way: what is waited for must come, and stay. */
  const become = async (expected: string[], what: string) => {
    let now = await all();
    for (let tries = 0; tries < 200 && now.join() !== expected.join(); tries++) now = await all();
    t.same(now, expected, what);
  };

  t.same(await all(), closed, 'no list, nobody');
  await publish({ passwordlessIps: ['127.0.0.0/8'] });
  await become(open, 'on the list');
  t.equal(device.opens.at(-1)?.host, 'example.org');
  await publish({ passwordlessIps: ['127.0.0.1'], status: 'suspended' });
  await become(['403 ACCOUNT_SUSPENDED', '403 ACCOUNT_SUSPENDED', 'no method'], 'what the account is told');
  await publish({ passwordlessIps: ['127.0.0.1'] });
  await become(open, 'active again');

  const other = { account: 'other1', buyerId: randomUUID(), passwordlessIps: ['127.0.0.1'] };
  await publish(other);
  await become(closed, 'on two lists: nobody can tell whose traffic it is');
  await publish({ ...other, passwordlessIps: [] });
  await become(open, 'on one again');
  await publish({ passwordlessIps: ['127.0.0.2'] });
  await become(closed, 'another address');
});

/** SOCKS5 that offers method 0 alone, as browsers do. */
async function socksWithoutLogin(port: number): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  socket.write(Buffer.from([5, 1, 0]));
  const [method] = (await once(socket, 'data')) as [Buffer];
  if (method[1] !== 0) {
    socket.destroy();
    return 'no method';
  }
  const host = Buffer.from('example.org');
  socket.write(Buffer.concat([Buffer.from([5, 1, 0, 3, host.length]), host, Buffer.from([1, 187])]));
  const [reply] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return `reply ${reply[1]}`;
}
