/** Chromium through the whole system: a page with 50 resources, right to the byte, and metered to the byte. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import t, { type Test } from 'tap';
import { type Destination, startHttpDestination, startHttpsDestination } from '../../helpers/destination.js';
import { hasProgram } from '../../helpers/programs.js';
import { allowlistLoopback, type ClientSystem, startClientSystem } from './system.js';

const RESOURCES = Array.from({ length: 50 }, (_, n) => randomBytes(500 + n * 700).toString('base64'));
const EXPECTED = createHash('sha256').update(RESOURCES.join('')).digest('hex');

/** Loads every resource as a script of its own, hashes them in order, and says so in its title. */
const PAGE = `<!doctype html><meta charset=utf-8><title>loading</title><link rel=icon href="data:,">
<script>
  const got = [];
  const load = async () => {
    const texts = await Promise.all(Array.from({ length: ${RESOURCES.length} }, (_, n) =>
      fetch('/r/' + n).then((answer) => answer.text())));
    const bytes = new TextEncoder().encode(texts.join(''));
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    document.title = [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  };
  load().catch((error) => { document.title = String(error); });
</script>`;

/** Nothing of its own over the network. */
const QUIET = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

let system: ClientSystem;
let http: Destination;
let https: Destination;

t.before(async () => {
  const serve: Parameters<typeof startHttpDestination>[0] = (request, response) => {
    const n = /^\/r\/(\d+)$/.exec(request.url ?? '')?.[1];
    response.setHeader('content-type', n === undefined ? 'text/html' : 'text/plain');
    response.end(n === undefined ? PAGE : RESOURCES[Number(n)]);
  };
  system = await startClientSystem(t, async () => {
    http = await startHttpDestination(serve);
    https = await startHttpsDestination(serve);
    return [http, https];
  });
});

/** Loads the page in a browser of its own, which has a fresh profile, and gives its title once it is done. */
async function load(url: string, proxy: { server: string; username?: string; password?: string }) {
  const profile = await mkdtemp(join(tmpdir(), 'ts-chromium-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium',
    headless: true,
    chromiumSandbox: false,
    args: QUIET,
    proxy,
    ignoreHTTPSErrors: true,
  });
  try {
    const page = await browser.newPage();
    await page.goto(url);
    await page.waitForFunction("document.title !== 'loading'");
    return await page.title();
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

const hasChromium = (t: Test) => hasProgram(t, 'chromium');

async function loads(t: Test, name: string, url: string, proxy: Parameters<typeof load>[1]): Promise<void> {
  await system.counted(t, name, async () => {
    t.equal(await load(url, proxy), EXPECTED, `${name}: all 50 resources, in full`);
  });
}

t.test('HTTP proxy with name and password', async (t) => {
  if (!(await hasChromium(t))) return;
  const { host, port, username, password } = system.proxy;
  const proxy = { server: `http://${host}:${port}`, username, password };
  await loads(t, 'http, plain', `http://localhost:${http.port}/`, proxy);
  await loads(t, 'http, CONNECT', `https://localhost:${https.port}/`, proxy);
});

t.test('HTTP proxy and SOCKS5 by the address alone: Chromium has no SOCKS5 password', async (t) => {
  if (!(await hasChromium(t))) return;
  await allowlistLoopback(system);
  const { host, port } = system.proxy;
  await loads(t, 'socks5, plain', `http://localhost:${http.port}/`, { server: `socks5://${host}:${port}` });
  await loads(t, 'socks5, TLS', `https://localhost:${https.port}/`, { server: `socks5://${host}:${port}` });
  await loads(t, 'http, plain', `http://localhost:${http.port}/`, { server: `http://${host}:${port}` });
});

t.test('usage, in all', async (t) => {
  if (await hasChromium(t)) await system.usageIsExact(t);
});
