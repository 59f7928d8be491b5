import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A small web server that stands for "the internet" in the standalone system. */
export interface DemoDestination {
  url: string;
  port: number;
  stop(): Promise<void>;
}

/** Largest body that `/bytes/<n>` sends: 16 GiB. */
const BYTES_MAX = 16 * 2 ** 30;

/**
 * Serves `/` (what the destination sees of the request), `/bytes/<n>` (n bytes, the same for each n) and
 * `POST /upload` (answers the size and SHA-256 of the body). Loopback only.
 */
export async function startDemoDestination(port: number): Promise<DemoDestination> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://demo').pathname;
    const bytes = /^\/bytes\/(\d{1,12})$/.exec(path);
    if (path === '/upload' && (request.method === 'POST' || request.method === 'PUT'))
      receive(request, response);
    else if (bytes && Number(bytes[1]) <= BYTES_MAX) sendBytes(Number(bytes[1]), response);
    else if (path === '/') sendPage(request, response);
    else response.writeHead(404, { 'content-type': 'text/plain' }).end('not here\n');
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const { port: listening } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${listening}/`,
    port: listening,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function sendPage(request: IncomingMessage, response: ServerResponse): void {
  const escapeHtml = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const rows = Object.entries(request.headers)
    .map(([name, value]) => `<tr><td>${escapeHtml(name)}</td><td>${escapeHtml(String(value))}</td></tr>`)
    .join('\n');
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(`<!doctype html>
<html lang="en"><meta name="viewport" content="width=device-width"><title>Traffic Share demo destination</title>
<h1>It works</h1>
<p>This page came to you through a device. The destination saw a connection from
${escapeHtml(request.socket.remoteAddress ?? '?')} and these headers:</p>
<table>
${rows}
</table>
<p>Try <a href="/bytes/1000000">/bytes/1000000</a>, or POST a file to /upload.</p>
</html>
`);
}

/** One block, sent again and again: the demo's own CPU time stays out of the way. */
const BLOCK = Buffer.alloc(64 * 1024, 'traffic share ');

function sendBytes(total: number, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': total });
  let left = total;
  const more = () => {
    while (left > 0) {
      const size = Math.min(left, BLOCK.length);
      left -= size;
      if (!response.write(size === BLOCK.length ? BLOCK : BLOCK.subarray(0, size))) return;
    }
    response.end();
  };
  response.on('drain', more);
  more();
}

function receive(request: IncomingMessage, response: ServerResponse): void {
  const hash = createHash('sha256');
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  request.on('end', () => {
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(`${JSON.stringify({ bytes, sha256: hash.digest('hex') })}\n`);
  });
}
