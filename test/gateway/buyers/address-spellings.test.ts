/** Every spelling of what must not be reached, in every way that the protocols can carry it, through a gateway. */
import t from 'tap';
import { writeLiveSettings } from '../../../gateway/live/store.js';
import {
  embeddedSpellings,
  ipv4Spellings,
  PROHIBITED_HOSTS,
  UNREADABLE_HOSTS,
} from '../../helpers/address-spellings.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { askRaw, basic } from '../../helpers/raw-http.js';
import { socksConnect } from '../../helpers/socks-client.js';

let rig: GatewayRig;
let device: PlainDevice;

t.before(async () => {
  rig = await startGatewayRig();
  t.teardown(() => rig.stop());
  await writeLiveSettings(rig.redis, {
    policyVersion: 1,
    termsVersion: '1',
    deniedDomains: [],
    deniedIps: ['9.9.9.0/24'],
  });
  await rig.restart(); // reads the list
  device = await PlainDevice.connect(rig.gateway.tunnelPort, (await rig.ticket()).text);
  await device.greet();
  // It answers for everything: what gets as far as a device is found out.
  device.echo(Buffer.from('HTTP/1.1 204 Reached\r\n\r\n'));
});

/** Connections at once. */
const AT_ONCE = 24;

async function each<T>(values: readonly T[], work: (value: T) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < values.length; i += AT_ONCE) await Promise.all(values.slice(i, i + AT_ONCE).map(work));
}

/** As a client writes it into a URL: IPv6 in brackets, names beyond ASCII in UTF-8. */
const authority = (host: string) =>
  Buffer.from(host.includes(':') && !/[[\]]/.test(host) ? `[${host}]` : host).toString('latin1');
const login = () => `Proxy-Authorization: ${basic(rig.username, rig.password)}\r\n`;

async function byConnect(host: string): Promise<string> {
  const head = `CONNECT ${authority(host)}:443 HTTP/1.1\r\nHost: x\r\n${login()}\r\n`;
  return (await askRaw(rig.gateway.proxyPort, head)).line.replace('HTTP/1.1 ', '');
}

async function byUrl(host: string, port = ':80'): Promise<string> {
  const head = `GET http://${authority(host)}${port}/ HTTP/1.1\r\nHost: x\r\n${login()}\r\n`;
  return (await askRaw(rig.gateway.proxyPort, head)).line.replace('HTTP/1.1 ', '');
}

async function bySocks(host: string | readonly number[]): Promise<number | null> {
  const { proxyPort } = rig.gateway;
  const to = { proxyPort, username: rig.username, password: rig.password, host, port: 80 };
  const { socket, reply } = await socksConnect(to);
  socket.destroy();
  return reply;
}

const isAscii = (host: string) => /^[\x21-\x7e]*$/.test(host);

t.test('what leads inside is IP_PROHIBITED in each protocol, and no device hears of it', async (t) => {
  await each(PROHIBITED_HOSTS, async (host) => {
    const name = JSON.stringify(host);
    // A request line is ASCII: names beyond it are the client's to convert.
    const http = isAscii(host) ? '403 IP_PROHIBITED' : '400 BAD_PARAM target';
    t.equal(await byConnect(host), http, `CONNECT ${name}`);
    t.equal(await byUrl(host), http, `GET ${name}`);
    t.equal(await byUrl(host, ''), http, `GET ${name}, no port`);
    t.equal(await bySocks(host), 2, `SOCKS5 name ${name}`);
  });
  t.same(device.opens, []);
});

t.test('the same as SOCKS5 addresses', async (t) => {
  const mapped = (quad: readonly number[]) => [...new Array<number>(10).fill(0), 255, 255, ...quad];
  const nat64 = (quad: readonly number[]) => [0, 0x64, 0xff, 0x9b, ...new Array<number>(8).fill(0), ...quad];
  const quads = [
    [127, 0, 0, 1],
    [0, 0, 0, 0],
    [10, 1, 2, 3],
    [100, 64, 0, 1],
    [100, 100, 100, 200],
    [168, 63, 129, 16],
    [169, 254, 169, 254],
    [172, 31, 255, 255],
    [192, 168, 178, 1],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
  ];
  const ipv6 = (start: number[], end: number[]) => [
    ...start,
    ...new Array<number>(16 - start.length - end.length).fill(0),
    ...end,
  ];
  const inside = [
    ...quads,
    ...quads.map(mapped),
    ...quads.map(nat64),
    ...quads.map((quad) => ipv6([], quad)), // compatible
    ...quads.map((quad) => ipv6([0x20, 2, ...quad], [1])), // 6to4
    ...quads.map((quad) => ipv6([0, 0x64, 0xff, 0x9b, 0, 1], quad)),
    ipv6([], [1]),
    ipv6([], []),
    ipv6([0x20, 1, 0, 0], [1]),
    ipv6([0xfe, 0x80], [1]),
    ipv6([0xfd, 0], [1]),
    ipv6([0xff, 2], [1]),
    ipv6([0x20, 1, 0xd, 0xb8], [1]),
  ];
  await each(inside, async (bytes) => t.equal(await bySocks(bytes), 2, bytes.join('.')));
  t.same(device.opens, []);
  t.equal(await bySocks([8, 8, 4, 4]), 0);
  t.equal(await bySocks(mapped([8, 8, 4, 4])), 0);
  t.equal(await bySocks(nat64([8, 8, 4, 4])), 0);
  t.equal(await bySocks(ipv6([0x26, 6, 0x47, 0], [0x11, 0x11])), 0);
  t.same(
    device.opens.map(({ host }) => host),
    ['8.8.4.4', '::ffff:808:404', '64:ff9b::808:404', '2606:4700::1111'],
  );
});

t.test('what is no host to every reader is refused as well', async (t) => {
  const before = device.opens.length;
  await each(UNREADABLE_HOSTS, async (host) => {
    const name = JSON.stringify(host);
    const http = /^(403 TARGET_BLOCKED|400 BAD_PARAM (target|host))$/;
    t.match(await byConnect(host), http, `CONNECT ${name}`);
    t.match(await byUrl(host), http, `GET ${name}`);
    const reply = await bySocks(host);
    t.ok(reply === 1 || reply === 2, `SOCKS5 name ${name}: ${reply}`);
  });
  for (const host of ['', '\0', '127.0.0.1\0.example.org', 'exa mple.org', 'a\r\nb', '\u{1f4a9}\ufffe'])
    t.ok([1, 2].includes((await bySocks(host)) ?? 0), `SOCKS5 name ${JSON.stringify(host)}`);
  t.same(device.opens.slice(before), []);
});

t.test('spellings of a public address are that address to the device, and to the deny lists', async (t) => {
  const before = device.opens.length;
  const usual = ipv4Spellings([8, 8, 4, 4]);
  const { mapped, other } = embeddedSpellings([8, 8, 4, 4]);
  await each([...usual, ...mapped], async (host) => {
    const name = JSON.stringify(host);
    if (isAscii(host)) t.match(await byConnect(host), /^200 /, `CONNECT ${name}`);
    if (isAscii(host)) t.equal(await byUrl(host), '204 Reached', `GET ${name}`);
    t.equal(await bySocks(host), 0, `SOCKS5 name ${name}`);
  });
  t.same(
    [...new Set(device.opens.slice(before).map(({ host }) => host))].sort(),
    ['64:ff9b::808:404', '8.8.4.4', '::ffff:808:404'],
    'the device got one form of each',
  );
  await each(other, async (host) => t.equal(await byConnect(host), '403 IP_PROHIBITED', host));

  const denied = embeddedSpellings([9, 9, 9, 9]);
  await each([...ipv4Spellings([9, 9, 9, 9]), ...denied.mapped], async (host) => {
    if (isAscii(host)) t.equal(await byConnect(host), '403 TARGET_BLOCKED', JSON.stringify(host));
    t.equal(await bySocks(host), 2, JSON.stringify(host));
  });
});
