/**
 * Plain HTTP at its busiest: many answers at once, in every framing, read at every speed, some cut in the middle. Blocks
 * of bytes are used again between streams, so each answer must still be the one that was sent.
 */

import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { startMigratedPostgres } from '../helpers/services.js';
import { removeData, startStandalone } from '../helpers/standalone.js';

const CLIENTS = 8;
const REQUESTS = 5;
const BYTES_MAX = 1_500_000;
/** More than the kernel's buffers take: while its reader rests, bytes wait in the gateway. */
const LARGE_BYTES = 16_000_000;
const REST_MS = 400;
const FRAMINGS = ['length', 'chunked', 'close'] as const;

/** Bytes that only this seed gives. */
function content(seed: number, bytes: number): Buffer {
  const key = createHash('md5').update(String(seed)).digest();
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 0x7fffffff;
    return state / 0x7fffffff;
  };
}

/** `/<framing>/<seed>/<bytes>`, in pieces of odd sizes. */
async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const [, framing, seed, bytes] = (req.url ?? '').split('/');
  const body = content(Number(seed), Number(bytes));
  if (framing === 'length') res.setHeader('Content-Length', body.length);
  if (framing === 'close') {
    res.removeHeader('Transfer-Encoding');
    res.useChunkedEncodingByDefault = false;
    res.shouldKeepAlive = false;
  }
  const next = random(Number(seed) + 1);
  function* pieces() {
    for (let at = 0; at < body.length; ) {
      const end = at + 1 + Math.floor(next() * 100_000);
      yield body.subarray(at, end);
      at = end;
    }
  }
  await pipeline(Readable.from(pieces()), res).catch(() => {}); // a client that was cut
}

t.test('each answer is the one that was sent, whatever others do meanwhile', async (t) => {
  const origin = createServer((req, res) => void answer(req, res));
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const { port } = origin.address() as AddressInfo;
  const database = await startMigratedPostgres();
  t.teardown(() => database.stop());
  const system = await startStandalone({
    env: { TS_DATABASE_URL: database.url, TS_DEV_ALLOW: `127.0.0.1:${port}` },
  });
  t.teardown(async () => {
    await system.stop();
    await removeData(system.dataDir);
    origin.closeAllConnections();
    origin.close();
  });
  const { buyer, proxy_port } = system.file;
  const authorization = `Basic ${Buffer.from(`${buyer.username}:${buyer.password}`).toString('base64')}`;

  /** One request; `cutAfterBytes`: dropped there. Resolves to what is wrong, or null. */
  async function get(agent: Agent, seed: number, cutAfterBytes: number | null): Promise<string | null> {
    const next = random(seed * 7 + 3);
    const rests = next() < 0.25;
    const bytes = rests ? LARGE_BYTES : Math.floor(next() * BYTES_MAX);
    const framing = FRAMINGS[seed % FRAMINGS.length];
    const req = request({
      agent,
      port: proxy_port,
      host: '127.0.0.1',
      path: `http://127.0.0.1:${port}/${framing}/${seed}/${bytes}`,
      headers: { host: `127.0.0.1:${port}`, 'proxy-authorization': authorization },
    });
    req.end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    if (res.statusCode !== 200) return `${res.statusCode} ${res.statusMessage}`;
    const hash = createHash('sha256');
    let got = 0;
    for await (const chunk of res as AsyncIterable<Buffer>) {
      hash.update(chunk);
      got += chunk.length;
      if (cutAfterBytes !== null && got > cutAfterBytes) {
        req.destroy();
        return null;
      }
      if (rests && got === chunk.length) await delay(REST_MS);
    }
    if (got !== bytes) return `${got} of ${bytes} bytes`;
    const same = hash.digest('hex') === createHash('sha256').update(content(seed, bytes)).digest('hex');
    return same ? null : 'other bytes';
  }

  const results = await Promise.all(
    Array.from({ length: CLIENTS }, async (_, client) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      const wrong: string[] = [];
      for (let i = 0; i < REQUESTS; i++) {
        const seed = client * REQUESTS + i + 1;
        const problem = await get(agent, seed, seed % 5 === 0 ? 100_000 : null).catch(
          (error: Error) => error.message,
        );
        if (problem !== null) wrong.push(`seed ${seed}: ${problem}`);
      }
      agent.destroy();
      return wrong;
    }),
  );
  t.strictSame(results.flat(), []);
});
