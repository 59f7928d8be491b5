import { httpRefusalBytes, type ProxyFailure } from '../errors.js';
import type { ClientConnection } from './client-connection.js';
import type { Exit } from './connect-pipeline.js';
import { asksForLogin, NO_CREDENTIALS, newRequestId, readBasicCredentials } from './credentials.js';
import { readAuthority } from './destination.js';
import { type HttpHead, headerValue } from './http-head.js';
import { connectionHas, successHeaders } from './http-headers.js';
import { type Answers, type ListenerContext, openDestination } from './open-destination.js';

/**
 * CONNECT (RFC 9110 section 9.3.6), from its complete head on. True when the connection stays with the caller for the
 * next head: a login was asked for, and clients such as Chromium repeat the request on the same connection.
 */
export async function serveConnect(
  client: ClientConnection,
  head: HttpHead,
  context: ListenerContext,
): Promise<boolean> {
  const requestId = newRequestId();
  const refuse = (failure: ProxyFailure): false => {
    context.refused(client.peer, failure, requestId);
    client.refuse(httpRefusalBytes(failure, requestId));
    return false;
  };

  const destination = readAuthority(head.target, null);
  if (!destination) return refuse({ ok: false, code: 'BAD_PARAM', detail: 'target' });
  const authorization = headerValue(head.rawHeaders, 'proxy-authorization');
  const credentials = authorization === null ? NO_CREDENTIALS : readBasicCredentials(authorization);
  if (!credentials) return refuse(AUTH_FAILED);
  const asked = context.login(client.peer, credentials);
  const auth = asked instanceof Promise ? await asked : asked;
  if (client.closed) return false;
  if (!auth.ok) {
    if (authorization !== null || !asksForLogin(auth)) return refuse(auth);
    if (!staysOpen(head)) return refuse(AUTH_FAILED);
    context.refused(client.peer, AUTH_FAILED, requestId);
    client.write(httpRefusalBytes(AUTH_FAILED, requestId, true));
    return true;
  }

  await openDestination(client, context, auth, destination, connectAnswers(requestId));
  return false;
}

/** Answers to the request of that name. */
export function connectAnswers(requestId: string): Answers {
  return {
    answer: 'connect',
    requestId,
    accept: (exit) => acceptBytes(exit, requestId),
    refuse: (failure) => httpRefusalBytes(failure, requestId),
  };
}

const AUTH_FAILED: ProxyFailure = { ok: false, code: 'AUTH_FAILED' };

/** Whether the client keeps the connection after an answer (RFC 9112 section 9.3). */
function staysOpen(head: HttpHead): boolean {
  return head.minorVersion === 1
    ? !connectionHas(head.rawHeaders, 'close')
    : connectionHas(head.rawHeaders, 'keep-alive');
}

function acceptBytes(exit: Exit, requestId: string): Buffer {
  const headers = successHeaders(exit, requestId);
  let head = 'HTTP/1.1 200 Connection established\r\n';
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return Buffer.from(`${head}\r\n`, 'latin1');
}
