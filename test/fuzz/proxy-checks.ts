import { isIP } from 'node:net';
import { httpRefusalBytes, type ProxyFailure, proxyErrors } from '../../gateway/errors.js';
import { readBasicCredentials } from '../../gateway/listeners/credentials.js';
import {
  type Destination,
  readAbsoluteTarget,
  readAuthority,
  readHost,
} from '../../gateway/listeners/destination.js';
import { HttpHeadParser } from '../../gateway/listeners/http-head.js';
import { PROXY_HEADER_BYTES_MAX, readProxyHeader } from '../../gateway/listeners/proxy-protocol.js';
import { readGreeting, readLogin, readRequest } from '../../gateway/listeners/socks5.js';
import type { Random } from '../sim/random.js';
import { httpMessages } from './http-inputs.js';
import { perhapsSpoilt } from './mutate.js';
import { badLogin } from './people.js';
import { announcedAddress, proxyHeader } from './proxy-header-inputs.js';
import { cuts, readerProblem } from './readings.js';
import { loginMessage, request, socksMessages } from './socks-inputs.js';

const HEAD_BYTES_MAX = 16_384;
const NAME = 'a.fuzz.example';

function destinationProblem(destination: Destination): string | null {
  const { host, port } = destination;
  if (!Number.isInteger(port) || port < 0 || port > 65_535) return `port ${port}`;
  if (host === '' || host.length > 255) return `host of ${host.length} characters`;
  if (!/^[\x21-\x7e]+$/.test(host)) return `host ${JSON.stringify(host)}`;
  // One spelling: who reads it again gets the same.
  return readHost(host) === host ? null : `host ${host} is read again as ${readHost(host)}`;
}

export function socksProblem(random: Random): string | null {
  const login = badLogin(random);
  const draw = random.below(3);
  if (draw === 0) {
    const bytes = perhapsSpoilt(random, Buffer.concat(socksMessages(random, login, NAME)), () =>
      request(random, NAME),
    );
    return readerProblem(random, 'greeting', readGreeting, bytes, () => false);
  }
  if (draw === 1) {
    const bytes = perhapsSpoilt(random, loginMessage(random, login), () =>
      loginMessage(random, badLogin(random)),
    );
    const credentials = readLogin(bytes)?.value.credentials;
    if (credentials && Buffer.byteLength(credentials.username) > 255)
      return 'login: a username of more than 255 bytes';
    if (credentials && Buffer.byteLength(credentials.password ?? '') > 255)
      return 'login: too long a password';
    return readerProblem(random, 'login', readLogin, bytes, (value) => value.credentials === null);
  }
  const bytes = perhapsSpoilt(random, request(random, NAME), () => request(random, NAME));
  const read = readRequest(bytes)?.value;
  const problem = read && 'destination' in read ? destinationProblem(read.destination) : null;
  if (problem !== null) return `request: ${problem}`;
  return readerProblem(random, 'request', readRequest, bytes, (value) => 'reply' in value);
}

export function httpProblem(random: Random): string | null {
  const make = () => Buffer.concat(httpMessages(random, random.chance(0.8) ? badLogin(random) : null, NAME));
  const bytes = perhapsSpoilt(random, make(), make);
  const whole = new HttpHeadParser(HEAD_BYTES_MAX).parse(bytes);
  const growing = new HttpHeadParser(HEAD_BYTES_MAX);
  for (const cut of cuts(random, bytes.length)) {
    const outcome = growing.parse(bytes.subarray(0, cut));
    if (outcome === null) continue;
    if (JSON.stringify(outcome) !== JSON.stringify(whole)) return 'in pieces the head is another one';
    break;
  }
  if (whole === null)
    return bytes.length >= HEAD_BYTES_MAX ? 'more than the longest head, and no answer' : null;
  if (!whole.ok) return refusalProblem(whole);
  const { head } = whole;
  if (whole.bytes > Math.min(bytes.length, HEAD_BYTES_MAX))
    return `took ${whole.bytes} of ${bytes.length} bytes`;
  if (bytes.toString('latin1', whole.bytes - 4, whole.bytes) !== '\r\n\r\n')
    return 'does not end with an empty line';
  if (head.rawHeaders.length % 2 !== 0) return 'a header without value';
  if (head.rawHeaders.some((text) => /[\r\n\0]/.test(text))) return 'a line end within a header';
  const authority = readAuthority(head.target, null);
  const absolute = readAbsoluteTarget(head.target, head.method);
  const problem =
    (authority && destinationProblem(authority)) ??
    (absolute && destinationProblem(absolute.destination)) ??
    null;
  if (problem !== null) return `target: ${problem}`;
  if (absolute && !/^(\/|\*$)/.test(absolute.path)) return `path ${absolute.path}`;
  for (let i = 0; i < head.rawHeaders.length; i += 2) {
    const credentials = readBasicCredentials(head.rawHeaders[i + 1] as string);
    if (credentials?.username.includes(':')) return 'a colon in the username';
  }
  return null;
}

/** What a client sent must not write headers of its own into the refusal. */
function refusalProblem(failure: ProxyFailure): string | null {
  if (!(failure.code in proxyErrors)) return `code ${failure.code}`;
  const plain = headerCount(httpRefusalBytes({ ok: false, code: failure.code }, 'id'));
  return headerCount(httpRefusalBytes(failure, 'id')) === plain ? null : `refusal of ${failure.detail}`;
}

function headerCount(answer: Buffer): number {
  const text = answer.toString('latin1');
  return text.slice(0, text.indexOf('\r\n\r\n')).split(/\r\n|\n|\r/).length;
}

export function headerProblem(random: Random): string | null {
  const make = () => {
    const payload = Buffer.concat(socksMessages(random, badLogin(random), NAME));
    return Buffer.concat([proxyHeader(random, announcedAddress(random)), payload]);
  };
  const bytes = perhapsSpoilt(random, make(), make);
  if (bytes.length === 0) return null; // it is never asked about nothing
  const read = readProxyHeader(bytes);
  if (read === null && bytes.length >= PROXY_HEADER_BYTES_MAX)
    return 'more than the longest header, and no answer';
  if (read?.value.ok && read.value.clientAddress !== null && isIP(read.value.clientAddress) === 0)
    return `address ${read.value.clientAddress}`;
  const reader = (part: Buffer) => (part.length === 0 ? null : readProxyHeader(part));
  return readerProblem(random, 'header', reader, bytes, (value) => !value.ok);
}
