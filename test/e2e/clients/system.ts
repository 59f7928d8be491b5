import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import {
  type Destination,
  startHttpDestination,
  startHttpsDestination,
  startTcpDestination,
} from '../../helpers/destination.js';
import { startMigratedPostgres } from '../../helpers/services.js';
import { removeData, type Standalone, startStandalone } from '../../helpers/standalone.js';

/** What a client fetches, and what it must have got. */
export interface Page {
  /** `http://127.0.0.1:port/page` and the like; `named`: by name, to be resolved at the device. */
  url: string;
  host: string;
  port: number;
  sha256: string;
}

/** Where a client finds the proxy, and as whom. */
export interface ProxyAccess {
  host: string;
  port: number;
  username: string;
  password: string;
  /** `scheme://user:password@host:port`. */
  url(scheme: string): string;
}

/** The whole system, with destinations that count what reaches their sockets. */
export interface ClientSystem {
  standalone: Standalone;
  proxy: ProxyAccess;
  http: Page;
  /** The same by `localhost`. */
  named: Page;
  https: Page;
  /** Sends back what it gets, and ends after the client. */
  echo: Destination;
  /** Destinations whose bytes count, all of them. */
  destinations: Destination[];
  /**
   * Runs a client and checks that the gateway counted exactly what the destinations' sockets got and sent.
   */
  counted(t: Test, what: string, work: () => Promise<unknown>): Promise<void>;
  /** Checks that the usage API says what all destinations' sockets saw since the start. */
  usageIsExact(t: Test): Promise<void>;
}

/** 200 KB that compress badly, the same for every run of a file. */
const BODY = randomBytes(100_000).toString('hex');
export const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('hex');

/**
 * Starts it; everything ends with the test. `more`: further destinations of the test, made before the system since the
 * development exemption names their ports.
 */
export async function startClientSystem(
  t: Test,
  more: (t: Test) => Promise<Destination[]> = async () => [],
): Promise<ClientSystem> {
  const http = await startHttpDestination((_request, response) => response.end(BODY));
  const https = await startHttpsDestination((_request, response) => response.end(BODY));
  const echo = await startTcpDestination((socket) => socket.pipe(socket));
  const destinations = [http, https, echo, ...(await more(t))];
  for (const destination of destinations) t.teardown(() => destination.stop());
  const database = await startMigratedPostgres();
  t.teardown(() => database.stop());
  const allowed = destinations.flatMap(({ port }) => [`127.0.0.1:${port}`, `localhost:${port}`]);
  const standalone = await startStandalone({
    env: { TS_DATABASE_URL: database.url, TS_DEV_ALLOW: allowed.join(',') },
  });
  t.teardown(async () => {
    await standalone.stop();
    await removeData(standalone.dataDir);
  });
  const { username, password } = standalone.file.buyer;
  const port = standalone.file.proxy_port;
  const proxy: ProxyAccess = {
    host: '127.0.0.1',
    port,
    username,
    password,
    url: (scheme) => `${scheme}://${username}:${password}@127.0.0.1:${port}`,
  };
  const page = (scheme: string, host: string, { port }: Destination): Page => ({
    url: `${scheme}://${host}:${port}/page`,
    host,
    port,
    sha256: sha256(BODY),
  });
  const seen = () => ({
    up: destinations.reduce((sum, d) => sum + d.bytesIn(), 0),
    down: destinations.reduce((sum, d) => sum + d.bytesOut(), 0),
  });
  const open = () => destinations.reduce((sum, { connections }) => sum + connections.size, 0);
  /** Sockets count exactly once they are closed, streams once they have ended. */
  const settled = async () => {
    const giveUpAt = performance.now() + 20_000;
    while (open() > 0 || (await standalone.status()).streams > 0) {
      if (performance.now() > giveUpAt) throw new Error(`${open()} connections are still open`);
      await delay(10);
    }
  };
  return {
    standalone,
    proxy,
    http: page('http', '127.0.0.1', http),
    named: page('http', 'localhost', http),
    https: page('https', '127.0.0.1', https),
    echo,
    destinations,
    counted: async (t, what, work) => {
      const [from, before] = [seen(), await standalone.status()];
      await work();
      await settled();
      const [to, after] = [seen(), await standalone.status()];
      t.ok(to.down > from.down, `${what}: something came through`);
      t.equal(after.bytesUp - before.bytesUp, to.up - from.up, `${what}: bytes up`);
      t.equal(after.bytesDown - before.bytesDown, to.down - from.down, `${what}: bytes down`);
    },
    usageIsExact: async (t) => {
      await settled();
      const { up, down } = seen();
      const giveUpAt = performance.now() + 10_000;
      const read = async () =>
        (await standalone.api('/api/buyer/me/usage', standalone.file.buyer.token)) as {
          total: { bytes_up: number; bytes_down: number };
        };
      let { total } = await read();
      while (total.bytes_up + total.bytes_down < up + down && performance.now() < giveUpAt) {
        await delay(50);
        total = (await read()).total;
      }
      t.same(
        [total.bytes_up, total.bytes_down],
        [up, down],
        'the usage API says what the destinations’ sockets got and sent',
      );
    },
  };
}

/** Lets the demo buyer in from this machine without a login, for clients that have none. */
export async function allowlistLoopback({ standalone }: ClientSystem): Promise<void> {
  const { api_url, buyer, admin } = standalone.file;
  const answer = await fetch(`${api_url}/api/admin/buyers/${buyer.id}`, {
    method: 'PATCH',
    headers: { authorization: `Bearer ${admin.token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ limits: { passwordless_ips: ['127.0.0.1'] } }),
  });
  if (!answer.ok) throw new Error(`allowlist: ${answer.status} ${await answer.text()}`);
}
