import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface PrivateServer {
  port: number;
  stop(): Promise<void>;
}

export interface PrivateServerOptions {
  host: string;
  /** 0: any free one. */
  port: number;
  metrics: { metrics(): Promise<string>; readonly contentType: string };
  /** What `/status` answers. */
  status: () => object | Promise<object>;
  /** Names of what is wrong; empty when healthy. */
  ailments: () => string[] | Promise<string[]>;
  /** Whether balancers may send somebody here, for `/ready`: 200 or 503. Left out: as long as it answers. */
  isReady?: () => boolean;
  /** What is wrong and keeps nobody from being served: `/health` tells it beside the ailments, and is 200. Left out: nothing. */
  troubles?: () => string[];
}

/**
 * The private port of a process: `/metrics` (Prometheus), `/health` (200, or 503 with what is wrong), `/ready`
 * (for balancers), `/status` (JSON). It has no authentication: bind it to an address that only operators reach.
 */
export async function startPrivateServer(options: PrivateServerOptions): Promise<PrivateServer> {
  const server = createServer((request, response) => {
    const json = (status: number, body: object) =>
      response
        .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
        .end(`${JSON.stringify(body)}\n`);
    const answer = async () => {
      switch (request.url) {
        case '/metrics': {
          const text = await options.metrics.metrics();
          response.writeHead(200, { 'content-type': options.metrics.contentType }).end(text);
          return;
        }
        case '/health': {
          const ailments = await options.ailments();
          const ok = ailments.length === 0;
          json(ok ? 200 : 503, { ok, ailments: [...ailments, ...(options.troubles?.() ?? [])] });
          return;
        }
        case '/ready': {
          const ready = options.isReady?.() ?? true;
          json(ready ? 200 : 503, { ready });
          return;
        }
        case '/status':
          json(200, await options.status());
          return;
        default:
          json(404, { error: 'not here: /metrics /health /ready /status' });
      }
    };
    answer().catch(() => json(500, { error: `${request.url?.slice(1)} failed` }));
  });
  server.listen(options.port, options.host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
