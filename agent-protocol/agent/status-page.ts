import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { readBody } from './control-socket.js';
import { isPauseMs, type LocalAgent, PAUSE_MS_TEXT } from './local-agent.js';
import { readPrivate, writePrivate } from './private-file.js';
import { PAGE_FILES } from './status-page-files.js';

/** The page is told this often, ms; what the server says of it may be as old as the second, ms. */
const EVENT_MS = 1_000;
const SERVER_AGE_MS = 15_000;
/** Pages open at once; further ones are refused. */
const WATCHERS_MAX = 8;
/** Connections at once, those without a key too; further ones are closed. Other users of the machine can reach the port. */
const CONNECTIONS_MAX = 64;

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
};

/** A page that is being served. */
export interface StatusPage {
  /** With the key that opens it, in the fragment, which a browser sends to nobody. */
  readonly url: string;
  stop(): void;
}

/**
 * Serves the status page on 127.0.0.1. The files hold nothing of the agent; its state and its buttons need the key, as a
 * header: no other page, no other user of this machine and no cookie can give it. `port` 0: any free one; a taken one
 * is replaced by any free one.
 */
export async function startStatusPage(
  local: LocalAgent,
  stateDir: string,
  port: number,
): Promise<StatusPage> {
  const key = await pageKey(stateDir);
  const watchers = new Set<ServerResponse>();
  let origin = '';
  const server = createServer((incoming, response) => {
    serve({ incoming, response, local, key, watchers, origin }).catch(() => response.destroy());
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.headersTimeout = 5_000;
  server.requestTimeout = 5_000;
  const listen = (wanted: number) =>
    new Promise<void>((done, fail) => {
      server.once('error', fail);
      server.listen(wanted, '127.0.0.1', () => {
        server.off('error', fail);
        done();
      });
    });
  await listen(port).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE' || port === 0) throw error;
    return listen(0);
  });
  server.unref();
  origin = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const timer = setInterval(() => void tell(watchers, local), EVENT_MS).unref();
  return {
    url: `http://${origin}/#${key}`,
    stop: () => {
      clearInterval(timer);
      server.closeAllConnections();
      server.close();
    },
  };
}

async function tell(watchers: Set<ServerResponse>, local: LocalAgent): Promise<void> {
  if (watchers.size === 0) return;
  const status = await local.status(SERVER_AGE_MS);
  for (const watcher of watchers) if (!watcher.writableNeedDrain) watcher.write(eventOf(status));
}

/** Without the key: it is in the address already. */
const eventOf = (status: Awaited<ReturnType<LocalAgent['status']>>) =>
  `data: ${JSON.stringify({ ...status, page: null })}\n\n`;

interface Request {
  incoming: IncomingMessage;
  response: ServerResponse;
  local: LocalAgent;
  key: string;
  watchers: Set<ServerResponse>;
  /** `127.0.0.1:port`. */
  origin: string;
}

async function serve(request: Request): Promise<void> {
  const { incoming, response, origin } = request;
  const refuse = (status: number, text: string) => {
    response.writeHead(status, { ...HEADERS, 'content-type': 'text/plain; charset=utf-8' });
    response.end(text);
  };
  // A name that somebody else's DNS points here (rebinding) must find nothing
  const hosts = [origin, origin.replace('127.0.0.1', 'localhost')];
  if (!hosts.includes(incoming.headers.host ?? ''))
    return refuse(421, 'This is not the host you asked for.\n');
  const url = incoming.url ?? '';
  const file = Object.hasOwn(PAGE_FILES, url) ? PAGE_FILES[url] : undefined;
  if (file !== undefined) {
    if (incoming.method !== 'GET') return refuse(405, 'Only GET.\n');
    response.writeHead(200, { ...HEADERS, 'content-type': file.type });
    response.end(file.text);
    return;
  }
  const call = `${incoming.method} ${url}`;
  if (!['GET /events', 'POST /pause', 'POST /resume'].includes(call))
    return refuse(404, 'There is nothing here.\n');
  const from = incoming.headers.origin;
  if (from !== undefined && !hosts.some((host) => from === `http://${host}`))
    return refuse(403, 'Not from another page.\n');
  if (!hasKey(incoming, request.key))
    return refuse(401, 'The key is missing or wrong; traffic-share agent status shows the address.\n');
  return answer(call, request, refuse);
}

async function answer(
  call: string,
  { incoming, response, local, watchers }: Request,
  refuse: (status: number, text: string) => void,
): Promise<void> {
  if (call === 'GET /events') {
    if (watchers.size >= WATCHERS_MAX) return refuse(429, 'Too many pages are open.\n');
    // Before anything is waited for: who leaves meanwhile must not be counted for good
    watchers.add(response);
    response.once('close', () => watchers.delete(response));
    response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream' });
    response.write(eventOf(await local.status(SERVER_AGE_MS)));
    return;
  }
  // A form of another page can send no JSON
  if (!incoming.headers['content-type']?.startsWith('application/json')) return refuse(415, 'Only JSON.\n');
  let body: { for_ms?: unknown } | null;
  try {
    body = (await readBody(incoming)) as typeof body;
  } catch {
    return refuse(400, 'This is no JSON, or too long.\n');
  }
  const forMs = body?.for_ms ?? null;
  if (call === 'POST /resume') await local.resume();
  else if (forMs === null || isPauseMs(forMs)) await local.pause(forMs);
  else return refuse(400, `${PAUSE_MS_TEXT}\n`);
  response.writeHead(200, { ...HEADERS, 'content-type': 'application/json' });
  response.end(JSON.stringify({ ...(await local.status(Number.POSITIVE_INFINITY)), page: null }));
  await tell(watchers, local);
}

function hasKey(incoming: IncomingMessage, key: string): boolean {
  const given = Buffer.from(incoming.headers.authorization?.replace(/^Bearer /, '') ?? '');
  const wanted = Buffer.from(key);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

/** Drawn once, so that an address that was kept goes on working. */
async function pageKey(stateDir: string): Promise<string> {
  const path = join(stateDir, 'page.json');
  const kept = (await readPrivate(path)) as { key?: unknown } | null;
  if (typeof kept?.key === 'string' && /^[A-Za-z0-9_-]{32,}$/.test(kept.key)) return kept.key;
  const key = randomBytes(24).toString('base64url');
  await writePrivate(path, { key });
  return key;
}
