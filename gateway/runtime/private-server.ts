import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';

export interface PrivateServer {
  port: number;
  stop(): Promise<void>;
}

export interface PrivateServerOptions {
  host: string;
  /** 0: any free one. */
  port: number;
  metrics: Pick<Registry, 'metrics' | 'contentType'>;
  /** What `/status` answers. */
  status: () => object;
  /** Names of what is wrong; empty when healthy. */
  ailments: () => string[];
}

/**
 * The private port of a process: `/metrics` (Prometheus), `/health` (200, or 503 with what is wrong), `/status`
 * (JSON). It has no authentication: bind it to an address that only operators reach.
 */
export async function startPrivateServer(options: PrivateServerOptions): Promise<PrivateServer> {
  const server = createServer((request, response) => {
    const json = (status: number, body: object) =>
      response
        .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
        .end(`${JSON.stringify(body)}\n`);
    switch (request.url) {
      case '/metrics':
        options.metrics.metrics().then(
          (text) => response.writeHead(200, { 'content-type': options.metrics.contentType }).end(text),
          () => json(500, { error: 'metrics failed' }),
        );
        return;
      case '/health': {
        const ailments = options.ailments();
        json(ailments.length === 0 ? 200 : 503, { ok: ailments.length === 0, ailments });
        return;
      }
      case '/status':
        json(200, options.status());
        return;
      default:
        json(404, { error: 'not here: /metrics /health /status' });
    }
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
