import { type ProxyFailure, proxyErrors, SOCKS_REPLY, socksAuthBytes, socksReplyBytes } from '../errors.js';
import type { ClientConnection, Reading } from './client-connection.js';
import { NO_CREDENTIALS, type ProxyCredentials, readUtf8 } from './credentials.js';
import { type Destination, readHost } from './destination.js';
import { type Answers, type ListenerContext, openDestination } from './open-destination.js';
import { type AssociateHint, openAssociation } from './udp-associate.js';

/**
 * SOCKS5 (RFC 1928) with username and password (RFC 1929): CONNECT and UDP ASSOCIATE.
 *
 * | state    | waits for              | goes to                                                                  |
 * |----------|------------------------|--------------------------------------------------------------------------|
 * | GREETING | methods                | LOGIN (method 2), REQUEST (method 0, allowlisted address), end (0xFF)     |
 * | LOGIN    | username and password  | REQUEST; end with the refusal's login status                             |
 * | REQUEST  | command and destination| DIALLING; end with a reply                                               |
 * | DIALLING | the pipeline           | relay, with whatever the client sent early, or an association, which     |
 * |          |                        | lives as long as the connection; end with the refusal's reply            |
 *
 * Messages may arrive in any pieces, or all at once. A refusal without a login status of its own (DRAINING,
 * RATE_LIMIT…) lets the login pass and is told in the reply, where clients show it.
 */
export async function serveSocks5(client: ClientConnection, context: ListenerContext): Promise<void> {
  const greeting = client.read(readGreeting);
  const methods = greeting instanceof Promise ? await greeting : greeting;
  if (methods === null) return;
  const withPassword = methods.includes(METHOD_PASSWORD);
  if (!withPassword && !methods.includes(METHOD_NONE)) return client.refuse(NO_METHOD);

  let credentials: ProxyCredentials | null = NO_CREDENTIALS;
  if (withPassword) {
    client.write(TAKES_PASSWORD);
    const login = await client.read(readLogin);
    if (login === null) return;
    credentials = login.credentials;
  }
  const asked = credentials ? context.login(client.peer, credentials) : AUTH_FAILED;
  const auth = asked instanceof Promise ? await asked : asked;
  if (client.closed) return;
  if (!auth.ok) context.refused(client.peer, auth);
  if (withPassword) {
    const status = auth.ok ? 0 : (proxyErrors[auth.code].socksAuthStatus ?? 0);
    if (status !== 0) return client.refuse(socksAuthBytes(status));
    client.write(LOGGED_IN);
  } else {
    if (!auth.ok) return client.refuse(NO_METHOD);
    client.write(Buffer.from([5, METHOD_NONE]));
  }

  const request = await client.read(readRequest);
  if (request === null) return;
  if (!auth.ok) return client.refuse(socksReplyBytes(proxyErrors[auth.code].socksReply));
  if ('reply' in request) return client.refuse(socksReplyBytes(request.reply));
  if ('associate' in request) return openAssociation(client, context, auth, request.associate);
  await openDestination(client, context, auth, request.destination, socksAnswers);
}

/** Replies to the request. */
export const socksAnswers: Answers = {
  answer: 'socks5',
  requestId: '',
  accept: () => SUCCEEDED,
  refuse: (failure) => socksReplyBytes(proxyErrors[failure.code].socksReply),
};

/**
 * SOCKS4 and 4a (no passwords, so no buyer can log in with it): refused in its own words, 0x5B "request rejected or
 * failed", without reading the request.
 */
export function refuseSocks4(client: ClientConnection): void {
  client.refuse(Buffer.from([0, 0x5b, 0, 0, 0, 0, 0, 0]));
}

const METHOD_NONE = 0;
const METHOD_PASSWORD = 2;
/** No acceptable method, RFC 1928 section 3: the one refusal that needs no login. */
export const NO_METHOD: Buffer = Buffer.from([5, 0xff]);
const TAKES_PASSWORD = Buffer.from([5, METHOD_PASSWORD]);
const LOGGED_IN = socksAuthBytes(0);
const SUCCEEDED = socksReplyBytes(SOCKS_REPLY.succeeded);
const AUTH_FAILED: ProxyFailure = { ok: false, code: 'AUTH_FAILED' };

const COMMAND_CONNECT = 1;
const COMMAND_ASSOCIATE = 3;
const ADDRESS_IPV4 = 1;
const ADDRESS_NAME = 3;
const ADDRESS_IPV6 = 4;

/** The greeting's methods: version, count, methods. */
export function readGreeting(bytes: Buffer): Reading<Buffer> {
  if (bytes.length < 2) return null;
  const end = 2 + (bytes[1] as number);
  return bytes.length < end ? null : { value: Buffer.from(bytes.subarray(2, end)), bytes: end };
}

/** The login of RFC 1929; credentials null when it is not version 1 or not UTF-8. */
export function readLogin(bytes: Buffer): Reading<{ credentials: ProxyCredentials | null }> {
  if (bytes.length < 1) return null;
  if (bytes[0] !== 1) return { value: { credentials: null }, bytes: bytes.length };
  const nameEnd = 2 + (bytes[1] ?? 0);
  if (bytes.length <= nameEnd) return null;
  const end = nameEnd + 1 + (bytes[nameEnd] as number);
  if (bytes.length < end) return null;
  const username = readUtf8(bytes.subarray(2, nameEnd));
  const password = readUtf8(bytes.subarray(nameEnd + 1, end));
  const valid = username !== null && password !== null;
  return { value: { credentials: valid ? { username, password: password || null } : null }, bytes: end };
}

/** What the client asks for, or the reply that refuses it. */
export type Socks5Request = { destination: Destination } | { associate: AssociateHint } | { reply: number };

/** The request. */
export function readRequest(bytes: Buffer): Reading<Socks5Request> {
  if (bytes.length >= 1 && bytes[0] !== 5) return refusal(bytes, SOCKS_REPLY.generalFailure);
  if (bytes.length < 5) return null;
  const addressType = bytes[3] as number;
  const start = addressType === ADDRESS_NAME ? 5 : 4;
  let addressBytes: number;
  if (addressType === ADDRESS_IPV4) addressBytes = 4;
  else if (addressType === ADDRESS_IPV6) addressBytes = 16;
  else if (addressType === ADDRESS_NAME) addressBytes = bytes[4] as number;
  else return refusal(bytes, SOCKS_REPLY.addressTypeNotSupported);
  const portAt = start + addressBytes;
  if (bytes.length < portAt + 2) return null;
  const command = bytes[1];
  if (command !== COMMAND_CONNECT && command !== COMMAND_ASSOCIATE)
    return refusal(bytes, SOCKS_REPLY.commandNotSupported);

  const address = bytes.subarray(start, portAt);
  let host: string | null;
  if (addressType === ADDRESS_IPV4) host = address.join('.');
  else if (addressType === ADDRESS_IPV6) host = readHost(ipv6Text(address));
  else host = readHost(readUtf8(address) ?? '');
  const port = bytes.readUInt16BE(portAt);
  if (command === COMMAND_ASSOCIATE) return { value: { associate: { host, port } }, bytes: portAt + 2 };
  if (host === null) return refusal(bytes, SOCKS_REPLY.generalFailure);
  return { value: { destination: { host, port } }, bytes: portAt + 2 };
}

function refusal(bytes: Buffer, reply: number): Reading<{ reply: number }> {
  return { value: { reply }, bytes: bytes.length };
}

function ipv6Text(address: Buffer): string {
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(address.readUInt16BE(i).toString(16));
  return groups.join(':');
}
