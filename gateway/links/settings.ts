import { hostname } from 'node:os';
import { LINK_VERSIONS } from '../../agent-protocol/frame.js';
import { DATAGRAM_PAYLOAD_BYTES_MAX } from '../../agent-protocol/limits.js';
import { integer, optionalPort, text, type Values } from '../runtime/environment.js';

/** Settings of links between gateways; a part of `gateway/config.ts`. */
export const linkSettings = {
  linkPort: optionalPort(
    'TS_GATEWAY_LINK_PORT',
    "port for other gateways, whose buyers then reach this one's devices, and the other way round; 0 = any free; with " +
      'TS_WORKERS each worker has the next one; unset: no links, devices of this gateway are for its own buyers',
  ),
  linkHost: text('TS_GATEWAY_LINK_HOST', 'address the link port listens on', '0.0.0.0'),
  linkAddress: text(
    'TS_GATEWAY_LINK_ADDRESS',
    'host name or IP address that other gateways reach the link port by, with `:port` where it has another one there ' +
      '(IPv6 in brackets then; each worker has the next one); unset: the name of this host',
    null,
  ),
  linkCert: text(
    'TS_GATEWAY_LINK_TLS_CERT',
    'PEM file, chain included: certificate for both ends of links, signed by TS_GATEWAY_LINK_TLS_CA, with TS_GATEWAY_ID ' +
      'among its DNS names; read again when it changes',
    null,
  ),
  linkKey: text('TS_GATEWAY_LINK_TLS_KEY', 'PEM file of the key for TS_GATEWAY_LINK_TLS_CERT', null),
  linkCa: text(
    'TS_GATEWAY_LINK_TLS_CA',
    'PEM file: who signs certificates of gateways, and of nobody else; others are refused in the handshake',
    null,
  ),
  linkStreamsMax: integer(
    'TS_GATEWAY_LINK_STREAMS_MAX',
    'streams at once on a link in one direction; above it the request goes to another gateway',
    { default: 4_096, min: 1, max: 1_000_000 },
  ),
  linkUnreadBytesMax: integer(
    'TS_GATEWAY_LINK_UNREAD_BYTES_MAX',
    'bytes by which what the streams of a link may hold unread, 128 KiB each, may grow together on long ways',
    { default: 64 * 1024 * 1024, min: 4 * 1024 * 1024 },
  ),
  linkRequestBytesMax: integer(
    'TS_GATEWAY_LINK_REQUEST_BYTES_MAX',
    'bytes of a request to another gateway, login included; a larger one is served here or not at all',
    { default: 8_192, min: 1_024, max: 15_000 },
  ),
  linkDatagramBytesMax: integer(
    'TS_GATEWAY_LINK_DATAGRAM_BYTES_MAX',
    'bytes of datagrams of all associations that wait in the socket of a link, each direction; above it, as above 64 KiB of ' +
      'one association, datagrams are dropped (`backlog`)',
    { default: 4 * 1024 * 1024, min: 2 * DATAGRAM_PAYLOAD_BYTES_MAX },
  ),
  linkVersionMax: integer(
    'TS_GATEWAY_LINK_VERSION_MAX',
    'newest version of the protocol of links that is spoken; two gateways use the newest that both speak, below 2 there is no ' +
      'UDP between them',
    {
      default: Math.max(...LINK_VERSIONS),
      min: Math.min(...LINK_VERSIONS),
      max: Math.max(...LINK_VERSIONS),
    },
  ),
  linksMax: integer(
    'TS_GATEWAY_LINKS_MAX',
    'links that other gateways may have open to this one; above it a new one is refused with 503',
    { default: 1_000, min: 1 },
  ),
  linkIdleMs: integer('TS_GATEWAY_LINK_IDLE_MS', 'time a link without streams is kept; then it is closed', {
    default: 300_000,
    min: 1_000,
  }),
  linkPingMs: integer(
    'TS_GATEWAY_LINK_PING_MS',
    'how often the other end of a link with streams is asked for a sign of life; silence of twice as long ends the link, ' +
      'and its streams are reset',
    { default: 5_000, min: 500, max: 60_000 },
  ),
  linkConnectTimeoutMs: integer(
    'TS_GATEWAY_LINK_CONNECT_TIMEOUT_MS',
    'time to make a link; then the request that wanted it goes to another gateway',
    { default: 2_000, min: 100 },
  ),
};

/** Links as they are configured. */
export type LinkConfig = Values<typeof linkSettings>;

/** What of them does not go together. */
export function problemsOfLinks(c: LinkConfig): string[] {
  if (c.linkPort === null) return [];
  const missing = [
    ['TS_GATEWAY_LINK_TLS_CERT', c.linkCert],
    ['TS_GATEWAY_LINK_TLS_KEY', c.linkKey],
    ['TS_GATEWAY_LINK_TLS_CA', c.linkCa],
  ].filter(([, path]) => path === null);
  const told = Number(HOST_AND_PORT.exec(c.linkAddress ?? '')?.[3] ?? 1);
  return [
    ...missing.map(([name]) => `TS_GATEWAY_LINK_PORT needs ${name}`),
    ...(told < 1 || told > 65_535 ? [`TS_GATEWAY_LINK_ADDRESS: ${told} is no port`] : []),
  ];
}

const HOST_AND_PORT = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/;

/** Where others are told to connect to; `port` is what this end listens on. */
export function linkPlaceOf(
  { linkAddress, linkHost }: Pick<LinkConfig, 'linkAddress' | 'linkHost'>,
  port: number,
): { host: string; port: number } {
  const [, ipv6, name, told] = HOST_AND_PORT.exec(linkAddress ?? '') ?? [];
  if (told !== undefined) return { host: (ipv6 ?? name) as string, port: Number(told) };
  if (linkAddress !== null) return { host: linkAddress, port };
  return { host: linkHost === '0.0.0.0' || linkHost === '::' ? hostname() : linkHost, port };
}

/** `TS_GATEWAY_LINK_PORT` and `_ADDRESS` of a worker: where a port is named, each has the next one. */
export function linkPortsOfWorker(
  { linkPort, linkAddress }: Pick<LinkConfig, 'linkPort' | 'linkAddress'>,
  worker: number,
): Pick<LinkConfig, 'linkPort' | 'linkAddress'> {
  return {
    linkPort: linkPort ? linkPort + worker - 1 : linkPort,
    linkAddress:
      linkAddress && HOST_AND_PORT.test(linkAddress)
        ? linkAddress.replace(/\d+$/, (port) => String(Number(port) + worker - 1))
        : linkAddress,
  };
}
