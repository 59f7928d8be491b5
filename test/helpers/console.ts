/** A browser on the console: Debian's Chromium by playwright-core, with an eye on everything that must not happen. */
import { createHash, createHmac } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import type { Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { startBotApi } from './bot-api.js';
import { hasProgram } from './programs.js';
import { startMigratedPostgres } from './services.js';
import { removeData, type Standalone, startStandalone } from './standalone.js';

/** Nothing of its own over the network. */
const QUIET = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Of the bot that signs init data and Telegram Login in these tests. */
export const CONSOLE_BOT_TOKEN = '7000000001:AAF-console-tests-only-0123456789abcdef';

const OUTPUT = projectPath('test/output');
/** The window every page of a test begins with, CSS pixels. */
export const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
/** How long a page may take to show what a test waits for, ms. */
const WAIT_MS = 30_000;

export interface ConsolePage {
  page: Page;
  context: BrowserContext;
  /** What went wrong on the page so far, in sentences; `finish` asserts that it is nothing. */
  troubles: string[];
  /** Goes to a path of the console. */
  open: (path: string) => Promise<void>;
  /** Until nothing on the page is loading any more. */
  settled: () => Promise<void>;
  /** No serious or critical finding of axe-core on what is shown now. */
  axe: (t: Test, name: string) => Promise<void>;
  /** What is shown now is no wider than a phone; `axe`: it looks at that, too, since menu and tables are others there. */
  fitsPhone: (t: Test, name: string, looks?: { axe: boolean }) => Promise<void>;
  /** Writes `test/output/NAME-{light,dark,phone}.png` of what is shown now. */
  shoot: (name: string) => Promise<void>;
  /** Asserts that nothing went wrong, and closes the context. `allow`: console errors that the test provoked. */
  finish: (t: Test, allow?: RegExp) => Promise<void>;
}

export interface ConsoleWorld {
  system: Standalone;
  browser: Browser;
  /** A context of its own: no cookie, storage or cache of another. `origin`: of other pages than the console's. */
  newPage: (origin?: string) => Promise<ConsolePage>;
  /** The code that the bot sent to a Telegram id, each once, the last of them; waits for one. */
  loginCode: (telegramId: number) => Promise<string>;
}

/**
 * The standalone system with a browser, ended with the test; null where Chromium is not installed (the test says so,
 * and fails where the environment promises it).
 */
export async function startConsole(
  t: Test,
  options: { env?: Record<string, string> } = {},
): Promise<ConsoleWorld | null> {
  if (!(await hasProgram(t, 'chromium'))) return null;
  const telegram = await startBotApi(t);
  const database = await startMigratedPostgres();
  t.teardown(() => database.stop());
  const system = await startStandalone({
    env: {
      TS_DATABASE_URL: database.url,
      TS_BOT_TOKEN: CONSOLE_BOT_TOKEN,
      TS_BOT_USERNAME: 'traffic_share_test_bot',
      TS_BOT_API_URL: telegram.url,
      TS_BOT_UPDATES: 'off',
      ...options.env,
    },
  });
  t.teardown(async () => {
    await system.stop();
    await removeData(system.dataDir);
  });
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    headless: true,
    chromiumSandbox: false,
    args: QUIET,
  });
  t.teardown(() => browser.close());
  let taken = 0;
  return {
    system,
    browser,
    newPage: (origin = system.file.api_url) => newPage(browser, origin),
    loginCode: async (telegramId) => {
      const untilMs = performance.now() + WAIT_MS;
      while (performance.now() < untilMs) {
        const fresh = telegram.sent.slice(taken).findLast(({ chatId }) => chatId === telegramId);
        const code = /\b\d{6}\b/.exec(fresh?.text ?? '')?.[0];
        if (code !== undefined) {
          taken = telegram.sent.length;
          return code;
        }
        await delay(20);
      }
      throw new Error(`no code was sent to ${telegramId}`);
    },
  };
}

async function newPage(browser: Browser, origin: string): Promise<ConsolePage> {
  const context = await browser.newContext({ baseURL: origin, viewport: DESKTOP, colorScheme: 'light' });
  context.setDefaultTimeout(WAIT_MS);
  const troubles: string[] = [];
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol === 'blob:' || url.protocol === 'data:') return;
    if (url.origin !== origin) troubles.push(`asked another origin: ${request.url()}`);
    if (url.pathname === '/console-reports') troubles.push(`policy report: ${request.postData() ?? ''}`);
  });
  await context.addInitScript(`addEventListener('securitypolicyviolation', (event) =>
    console.error('policy: ' + event.effectiveDirective + ' refused ' + event.blockedURI))`);
  const page = await context.newPage();
  page.on('console', (message) => {
    if (message.type() === 'error')
      troubles.push(`console: ${message.text()} (${new URL(message.location().url || origin).pathname})`);
  });
  page.on('pageerror', (error) => troubles.push(`page: ${error.message}`));
  return {
    page,
    context,
    troubles,
    open: async (path) => void (await page.goto(path)),
    settled: async () => {
      await eventually(
        () => page.locator('.loading').count(),
        (count) => count === 0,
      );
    },
    axe: (t, name) => axe(t, page, name),
    fitsPhone: async (t, name, looks = { axe: true }) => {
      await page.setViewportSize(PHONE);
      // Charts follow in the next frame; the menu slides away.
      await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');
      await page.evaluate(`Promise.allSettled(document.getAnimations()
        .filter(({ effect }) => Number.isFinite(effect.getComputedTiming().endTime))
        .map(({ finished }) => finished)).then(() => null)`);
      const width = (await page.evaluate('document.documentElement.scrollWidth')) as number;
      t.ok(width <= PHONE.width, `${name}: as wide as a phone (${width})`);
      if (looks.axe) await axe(t, page, `${name} on a phone`);
      await page.setViewportSize(DESKTOP);
    },
    shoot: (name) => shoot(page, name),
    finish: async (t, allow) => {
      const left = troubles.filter((trouble) => allow === undefined || !allow.test(trouble));
      t.same(left, [], 'no console error, policy report or request to others');
      await context.close();
    },
  };
}

/** Looks again and again until `good` holds of it; throws with what was seen last. For what no locator can wait for. */
export async function eventually<Seen>(
  look: () => Promise<Seen>,
  good: (seen: Seen) => boolean,
): Promise<Seen> {
  const untilMs = performance.now() + WAIT_MS;
  for (;;) {
    const seen = await look();
    if (good(seen)) return seen;
    if (performance.now() > untilMs) throw new Error(`still ${JSON.stringify(seen)}`);
    await delay(50);
  }
}

/** Login data as Telegram signs it for the console's bot (core.telegram.org/widgets/login, "Checking authorization"). */
export function telegramLogin(id: number): Record<string, string | number> {
  const fields = { auth_date: Math.floor(Date.now() / 1_000), first_name: 'Žofie', id };
  const lines = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
  const key = createHash('sha256').update(CONSOLE_BOT_TOKEN).digest();
  return { ...fields, hash: createHmac('sha256', key).update(lines.sort().join('\n')).digest('hex') };
}

let axeSource: string | null = null;

interface Finding {
  id: string;
  impact: string;
  help: string;
  nodes: { target: string[]; failureSummary: string }[];
}

async function axe(t: Test, page: Page, name: string): Promise<void> {
  axeSource ??= await readFile(projectPath('node_modules/axe-core/axe.min.js'), 'utf8');
  // Through the debugger, which the page's policy does not bind.
  await page.evaluate(axeSource);
  const findings = (await page.evaluate(
    `axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations)`,
  )) as Finding[];
  const serious = findings
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, help, nodes }) => ({
      id,
      help,
      nodes: nodes.slice(0, 5).map(({ target, failureSummary }) => `${target.join(' ')}: ${failureSummary}`),
    }));
  t.same(serious, [], `${name}: no serious finding of axe-core`);
}

async function shoot(page: Page, name: string): Promise<void> {
  if (process.env.TS_TEST_SCREENSHOTS === '0') return;
  await mkdir(OUTPUT, { recursive: true });
  // A window as high as the page: what is fixed to it stays at its edges in the picture.
  const take = async (kind: string, window: { width: number; height: number }) => {
    await page.setViewportSize(window);
    const height = (await page.evaluate('document.documentElement.scrollHeight')) as number;
    await page.setViewportSize({ ...window, height: Math.max(window.height, height) });
    await page.screenshot({ path: join(OUTPUT, `${name}-${kind}.png`), animations: 'disabled' });
  };
  await take('light', DESKTOP);
  await page.emulateMedia({ colorScheme: 'dark' });
  await take('dark', DESKTOP);
  await page.emulateMedia({ colorScheme: 'light' });
  await take('phone', PHONE);
  await page.setViewportSize(DESKTOP);
}

/** Pastes a token on a role's sign-in page; resolves when the first page of the role is there. */
export async function signInByToken(
  { page, open }: ConsolePage,
  role: 'provider' | 'buyer' | 'admin',
  token: string,
): Promise<void> {
  await open(`/signin/${role}`);
  const ways = page.getByText(role === 'admin' ? 'Use an access token' : 'Other ways');
  if (role !== 'buyer') await ways.click();
  await page.getByLabel(role === 'buyer' ? 'Buyer token' : 'Access token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).last().click();
  await page.getByRole('navigation', { name: 'Pages', exact: true }).waitFor({ state: 'attached' });
}
