/** The console's ground: signing in per role, the frame, its policy. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Request } from 'playwright-core';
import t, { type Test } from 'tap';
import {
  type ConsoleWorld,
  eventually,
  signInByToken,
  startConsole,
  telegramLogin,
} from '../helpers/console.js';

t.setTimeout(300_000);

let world: ConsoleWorld | null;
let telegramUrl: string;
let telegramAnswer: () => object | false = () => false;

t.before(async () => {
  telegramUrl = await startTelegramLogin(t, () => telegramAnswer());
  world = await startConsole(t, { env: { TS_TELEGRAM_OAUTH_URL: telegramUrl, TS_LIVE_LIFE_S: '2' } });
});

t.test('a provider signs in with a code and sees the balance', async (t) => {
  if (world === null) return;
  const browser = await world.newPage();
  const { page } = browser;
  await browser.open('/');
  await page.getByRole('heading', { name: 'Welcome' }).waitFor();
  await browser.axe(t, 'welcome');
  await browser.shoot('welcome');
  await page.getByRole('link', { name: 'I share my connection' }).click();
  await page.getByLabel('Telegram id').fill('2');
  await browser.axe(t, 'sign-in');
  await browser.shoot('sign-in-provider');
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await page.getByLabel('Code').waitFor();
  await page.getByLabel('Code').fill('000000');
  await page.getByText('The code is wrong or no longer good').waitFor();
  await browser.axe(t, 'code');
  await page.getByLabel('Code').fill(await world.loginCode(2));
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await page.getByText('Available').waitFor();
  t.equal(await page.title(), 'Overview · Traffic Share');
  await browser.axe(t, 'provider');
  await browser.shoot('provider-overview');

  const stored = await page.evaluate(
    '({ tab: Object.keys(sessionStorage), browser: Object.keys(localStorage) })',
  );
  t.same(stored, { tab: ['ts.session.provider'], browser: [] }, 'kept for this tab alone');
  await page.route('**/api/auth/logout', () => {}); // a server that does not answer
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign in to share' }).waitFor();
  await page.getByText('The server could not be told').waitFor();
  t.equal(await page.evaluate('sessionStorage.length'), 0);
  await browser.finish(t, /status of 401/); // the wrong code
});

t.test('a buyer signs in with a token', async (t) => {
  if (world === null) return;
  const browser = await world.newPage();
  await browser.open('/buyer');
  await browser.page.getByRole('heading', { name: 'Sign in to use the proxy' }).waitFor();
  await signInByToken(browser, 'buyer', world.system.file.buyer.token);
  const { page } = browser;
  await page.getByText('Demo buyer').waitFor();
  await browser.axe(t, 'buyer');
  await browser.shoot('buyer-overview');

  // The live figures of who was here before are not shown to who comes next
  const { api, file } = world.system;
  const other = await api('/api/admin/buyers', file.admin.token, { name: 'Next buyer' });
  const { token } = await api(`/api/admin/buyers/${other.id}/tokens`, file.admin.token, {});
  const available = page.locator('.stat', { hasText: 'Available' }).locator('.stat-value');
  t.not(await available.textContent(), '$0.00');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Buyer token').fill(String(token));
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('Next buyer').waitFor();
  t.equal(await available.textContent(), '$0.00');
  await browser.finish(t);
});

t.test('an admin signs in with an access token', async (t) => {
  if (world === null) return;
  const browser = await world.newPage();
  await signInByToken(browser, 'admin', world.system.file.admin.token);
  await browser.page.getByText('Devices online').waitFor();
  await browser.axe(t, 'admin');
  await browser.shoot('admin-overview');
  await browser.finish(t);
});

t.test('by keyboard alone, and with the menu of a phone', async (t) => {
  if (world === null) return;
  const browser = await world.newPage();
  const { page } = browser;
  await signInByToken(browser, 'provider', world.system.file.provider.access_token);
  await page.reload();
  await browser.settled();
  const focused = () => page.evaluate('document.activeElement.textContent');
  await page.keyboard.press('Tab');
  t.equal(await focused(), 'To the content', 'first a way past the menu');
  await page.keyboard.press('Enter');
  t.equal(await page.evaluate('document.activeElement.id'), 'main');
  await page.keyboard.press('Tab');
  t.equal(await focused(), 'Withdraw', 'then what the page is for');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'Withdraw' }).waitFor();
  await eventually(focused, (text) => text === 'Withdraw');
  t.equal(await page.evaluate('document.activeElement.tagName'), 'H1', 'the focus is at the new page');

  await page.setViewportSize({ width: 390, height: 844 });
  const more = page.getByRole('button', { name: 'More' });
  t.equal(await more.getAttribute('aria-expanded'), 'false');
  await page.getByRole('link', { name: 'Consent' }).waitFor({ state: 'hidden' }); // behind More
  await more.press('Enter');
  await page.getByRole('link', { name: 'Consent' }).waitFor();
  await browser.axe(t, 'the menu of a phone');
  await browser.page.screenshot({ path: 'test/output/menu-phone.png' });
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: 'Consent' }).waitFor({ state: 'hidden' });
  await more.click();
  await page.getByRole('button', { name: 'Dark' }).click();
  t.equal(await page.evaluate('getComputedStyle(document.body).backgroundColor'), 'rgb(13, 16, 27)');
  await page.reload();
  await browser.settled();
  t.equal(await page.evaluate('document.documentElement.dataset.theme'), 'dark', 'the choice is kept');
  await browser.finish(t);
});

/** A stand-in for Telegram Login: sends the browser back with the result in the fragment, as Telegram does. */
async function startTelegramLogin(t: Test, result: () => object | false): Promise<string> {
  const server = createServer((request, response) => {
    const to = new URL(request.url ?? '/', 'http://telegram').searchParams.get('return_to');
    const encoded = Buffer.from(JSON.stringify(result())).toString('base64url');
    response.writeHead(302, { location: `${to}#tgAuthResult=${encoded}` }).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test('an admin signs in with Telegram, by redirect', async (t) => {
  if (world === null) return;
  const browser = await world.newPage();
  const { page } = browser;
  await browser.open('/signin/admin');
  telegramAnswer = () => false;
  await page.getByRole('button', { name: 'Continue with Telegram' }).click();
  await page.getByText('Telegram did not confirm').waitFor();
  telegramAnswer = () => telegramLogin(4_242);
  await page.getByRole('button', { name: 'Continue with Telegram' }).click();
  await page.getByText('This account may not do that.').waitFor(); // signed, but no admin
  telegramAnswer = () => telegramLogin(1);
  await page.getByRole('button', { name: 'Continue with Telegram' }).click();
  await page.getByText('Devices online').waitFor();
  t.notMatch(page.url(), /tgAuthResult/, 'the signed data is not in the address any more');

  const other = await world.newPage();
  const given = Buffer.from(JSON.stringify(telegramLogin(1))).toString('base64url');
  await other.open(`/signin/admin#tgAuthResult=${given}`);
  await other.page.getByRole('button', { name: 'Continue with Telegram' }).waitFor();
  await other.settled();
  t.equal(await other.page.evaluate('sessionStorage.length'), 0, 'a link signs nobody in who did not ask');
  await other.finish(t);
  await browser.finish(t, new RegExp(`status of 403|asked another origin: ${telegramUrl}`));
});

t.test('two windows renew one session once, and end together', async (t) => {
  if (world === null) return;
  const browser = await world.newPage();
  const { page, context } = browser;
  await browser.open('/signin/provider');
  await page.getByLabel('Telegram id').fill('2');
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await page.getByLabel('Keep me signed in').check();
  await page.getByLabel('Code').fill(await world.loginCode(2));
  await page.getByText('Available').waitFor();
  // As if the time of the access token were up.
  await page.evaluate(`localStorage.setItem('ts.session.provider', JSON.stringify(
    { ...JSON.parse(localStorage.getItem('ts.session.provider')), expiresAtMs: 0 }))`);
  let renewals = 0;
  context.on('request', (request) => {
    if (request.url().endsWith('/api/auth/refresh')) renewals++;
  });
  const other = await context.newPage();
  await Promise.all([page.reload(), other.goto('/provider/devices')]);
  await Promise.all([
    page.getByText('Available').waitFor(),
    other.getByRole('heading', { level: 1, name: 'Devices' }).waitFor(),
  ]);
  t.equal(renewals, 1, 'the refresh token, good once, was used once');
  await other.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign in to share' }).waitFor();
  t.pass('signed out in the other window too');
  await browser.finish(t, /status of 401/); // a call of the other window may be on its way
});

t.test(
  'live figures come back after the stream has ended; a revoked session ends at the sign-in page',
  async (t) => {
    if (world === null) return;
    const browser = await world.newPage();
    const { page } = browser;
    let streams = 0;
    page.on('request', (request) => {
      if (new URL(request.url()).pathname === '/api/live') streams++;
    });
    await browser.open('/signin/provider');
    await page.getByLabel('Telegram id').fill('2');
    await page.getByRole('button', { name: 'Send me a code' }).click();
    await page.getByLabel('Code').fill(await world.loginCode(2));
    await eventually(
      async () => streams,
      (count) => count >= 2,
    );
    await page.getByText('live', { exact: true }).waitFor();
    const token = (await page.evaluate(
      "JSON.parse(sessionStorage.getItem('ts.session.provider')).accessToken",
    )) as string;
    await world.system.api('/api/auth/logout', token, {});
    await page.getByRole('link', { name: 'Devices', exact: true }).first().click();
    await page.getByRole('heading', { name: 'Sign in to share' }).waitFor();
    t.match(page.url(), /\/signin\/provider(\?to=%2Fprovider%2Fdevices)?$/);
    await browser.finish(t, /status of (401|429)/);
  },
);

t.test('each role: at most 100 KB of script before it is usable, within a second', async (t) => {
  if (world === null) return;
  const { buyer, admin, provider } = world.system.file;
  const tokens = { provider: provider.access_token, buyer: buyer.token, admin: admin.token };
  for (const [role, token] of Object.entries(tokens) as ['provider' | 'buyer' | 'admin', string][]) {
    const session = JSON.stringify({
      accessToken: token,
      refreshToken: null,
      expiresAtMs: null,
      keep: false,
    });
    const readyMs: number[] = [];
    // Twice; more often only where the machine is busy with something else.
    for (let run = 0; run < 2 || (run < 15 && Math.min(...readyMs) >= 1_000); run++) {
      const browser = await world.newPage(); // nothing of it in a cache
      await browser.context.addInitScript(
        `sessionStorage.setItem('ts.session.${role}', ${JSON.stringify(session)})`,
      );
      const finished: Request[] = [];
      browser.page.on('requestfinished', (request) => {
        if (request.resourceType() === 'script') finished.push(request);
      });
      await browser.open(`/${role}`);
      await browser.page.locator('h1').waitFor();
      readyMs.push((await browser.page.evaluate('performance.now()')) as number);
      if (run === 0) {
        await browser.settled();
        let bytes = 0;
        for (const request of finished) {
          bytes += (await request.sizes()).responseBodySize;
          const encoding = (await request.response())?.headers()['content-encoding'];
          t.match(
            encoding,
            /^(gzip|br)$/,
            `${role}: ${new URL(request.url()).pathname} is compressed on the wire`,
          );
        }
        t.ok(finished.length >= 2 && bytes <= 100_000, `${role}: ${bytes} bytes of script, at most 100 000`);
      }
      await browser.finish(t);
    }
    const bestMs = Math.min(...readyMs);
    t.ok(bestMs < 1_000, `${role}: usable ${Math.round(bestMs)} ms after the navigation began`);
  }
});
