import type { Random } from '../sim/random.js';
import { randomBytes } from './mutate.js';
import type { Login } from './people.js';

const METHODS = [
  'GET',
  'GET',
  'POST',
  'HEAD',
  'PUT',
  'OPTIONS',
  'TRACE',
  'DELETE',
  'PATCH',
  'BREW',
  'get',
  'PRI',
];
const VERSIONS = [
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.0',
  'HTTP/2.0',
  'HTTP/1.1 ',
  'HTTP/9',
  '',
];

/** Headers that two readers might take for different messages, or that touch how the connection is used. */
const FRAMINGS: readonly string[] = [
  'Content-Length: 5',
  'Content-Length: 5\r\nContent-Length: 6',
  'Content-Length: 5, 5',
  'Content-Length: +5',
  'Content-Length: 0x5',
  'Content-Length: -1',
  'Content-Length: 99999999999999999999',
  'Content-Length : 5',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: chunked\r\nContent-Length: 5',
  'Content-Length: 5\r\nTransfer-Encoding: chunked',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding: identity, chunked',
  'Transfer-Encoding: \tchunked',
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding:\u000bchunked',
  'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
  'Transfer-Encoding\r\n : chunked',
  'X: a\r\n Transfer-Encoding: chunked',
  'X: a\nTransfer-Encoding: chunked',
  'Connection: close, content-length',
  'Connection: keep-alive',
  'Connection: close',
  'Proxy-Connection: keep-alive',
  'Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk',
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5',
  'Expect: 100-continue\r\nContent-Length: 5',
  'Expect: something-else',
  'TE: trailers\r\nTrailer: X-T\r\nTransfer-Encoding: chunked',
  'Host: other.example',
  'Host:',
  'X-Forwarded-For: 203.0.113.77\r\nForwarded: for=203.0.113.77\r\nX-Real-IP: 203.0.113.77',
  'Proxy-Authorization: Bearer abc',
  'Proxy-Authorization: Basic !!!',
  'Proxy-Authorization: Basic',
];

const BODIES: readonly string[] = [
  '',
  'hello',
  '5\r\nhello\r\n0\r\n\r\n',
  '5;ext="a\r\n"\r\nhello\r\n0\r\n\r\n',
  '0\r\nX-T: 1\r\nHost: evil\r\n\r\n',
  'fffffffffffffffff\r\nhello',
  '-1\r\nhello',
  '5\r\nhelloX\r\n0\r\n\r\n',
  '0x5\r\nhello\r\n0\r\n\r\n',
  '5\nhello\n0\n\n',
  '0\r\n\r\nGET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n',
];

function authorization(random: Random, login: Login): string {
  const encoded = Buffer.from(`${login.username}:${login.password}`).toString('base64');
  const scheme = random.chance(0.95) ? 'Basic' : random.pick(['basic', 'BASIC', 'Basic ', 'Digest', '']);
  return `Proxy-Authorization: ${scheme} ${encoded}`;
}

function target(random: Random, host: string, isConnect: boolean): string {
  const port = random.chance(0.85)
    ? random.pick(['', ':80', ':443'])
    : random.pick([':0', ':65536', ':', ':x', ':25']);
  if (isConnect) return `${random.chance(0.95) ? host : '[::1]'}${port || ':443'}`;
  const draw = random.below(20);
  const path = random.pick(['/', '/a?b=c', '', '?q', '/%2e%2e/', '/a b', '/#frag', `/${'a'.repeat(500)}`]);
  if (draw < 14) return `http://${host}${port}${path}`;
  return random.pick([
    path || '/',
    '*',
    `https://${host}/`,
    `HTTP://${host.toUpperCase()}/`,
    `http://user:pass@${host}/`,
    'http://',
    'http://echo.traffic-share.internal/',
    `//${host}/`,
    `http:/${host}/`,
    host,
  ]);
}

/** One request with whatever belongs to it. */
function httpRequest(random: Random, login: Login | null, host: string): Buffer {
  const isConnect = random.chance(0.4);
  const method = isConnect ? 'CONNECT' : random.pick(METHODS);
  const version = random.chance(0.9) ? 'HTTP/1.1' : random.pick(VERSIONS);
  const lines = [`${method} ${target(random, host, isConnect)} ${version}`];
  if (random.chance(0.95)) lines.push(`Host: ${host}`);
  if (login !== null && random.chance(0.97)) lines.push(authorization(random, login));
  let body = '';
  if (random.chance(0.45)) {
    for (let left = random.between(1, 2); left > 0; left--) lines.push(random.pick(FRAMINGS));
    body = random.pick(BODIES);
  }
  if (random.chance(0.03)) lines.push(`X-Long: ${'l'.repeat(random.below(17_000))}`);
  if (random.chance(0.03))
    for (let i = random.below(300); i > 0; i--) lines.push(`X-${i}: ${random.hex(random.below(8))}`);
  const head = `${lines.join('\r\n')}\r\n\r\n`;
  const parts: Buffer[] = [Buffer.from(head, 'latin1'), Buffer.from(body, 'latin1')];
  if (isConnect && random.chance(0.3)) parts.push(randomBytes(random, random.below(200)));
  return Buffer.concat(parts);
}

/** What a client of the HTTP proxy sends: one request, or several at once without waiting for answers. */
export function httpMessages(random: Random, login: Login | null, host: string): Buffer[] {
  const count = random.chance(0.8) ? 1 : random.chance(0.9) ? random.between(2, 5) : random.between(6, 40);
  return Array.from({ length: count }, () =>
    // In between one without a login, as clients send before they are asked.
    httpRequest(random, random.chance(0.9) ? login : null, host),
  );
}
