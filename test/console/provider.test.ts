/** A provider's way through the console, with real traffic on the standalone system. */
import { readFile } from 'node:fs/promises';
import type { Page, Route } from 'playwright-core';
import t, { type Test } from 'tap';
import {
  CONSOLE_BOT_TOKEN,
  type ConsolePage,
  type ConsoleWorld,
  eventually,
  startConsole,
} from '../helpers/console.js';
import { initData } from '../helpers/control-plane.js';
import { runProgram } from '../helpers/programs.js';

t.setTimeout(300_000);

/** The demo's provider. */
const TELEGRAM_ID = 2;
/** A list and a form, looked at by axe on a phone as well. */
const PHONE_KINDS: ReadonlySet<string> = new Set(['traffic', 'limits']);

let world: ConsoleWorld | null;
let browser: ConsolePage;
let page: Page;

t.before(async () => {
  world = await startConsole(t);
  if (world === null) return;
  browser = await world.newPage();
  page = browser.page;
});

/** A step of the walk; nothing where there is no browser. */
function step(name: string, walk: (t: Test, world: ConsoleWorld) => Promise<void>): void {
  t.test(name, async (t) => {
    if (world !== null) await walk(t, world);
  });
}

/** Goes to a page by its address, waits for its title, looks at it. */
async function visit(t: Test, path: string, heading: string, name: string): Promise<void> {
  await browser.open(path);
  await page.getByRole('heading', { level: 1, name: heading }).waitFor();
  await browser.settled();
  await browser.axe(t, name);
  if (PHONE_KINDS.has(name)) await browser.fitsPhone(t, name);
  await browser.shoot(`provider-${name}`);
}

async function fetchBytes({ system }: ConsoleWorld, bytes: number): Promise<number> {
  const { code, out } = await runProgram('curl', [
    '-s',
    '-o',
    '/dev/null',
    '-w',
    '%{size_download}',
    '-x',
    system.file.proxy_url,
    `${system.file.demo_destination_url}bytes/${bytes}`,
  ]);
  return code === 0 ? Number(out) : -1;
}

const dollars = (text: string | null) => Number((text ?? '').replace(/[$,]/g, ''));

step('signs in with the code that the bot sends', async (t, { loginCode }) => {
  await browser.open('/signin/provider');
  await page.getByLabel('Telegram id').fill(String(TELEGRAM_ID));
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await page.getByLabel('Code').fill(await loginCode(TELEGRAM_ID));
  await page.getByTestId('available').waitFor();
  t.equal(await page.title(), 'Overview · Traffic Share');
});

step('sees earnings move while traffic flows', async (t, world) => {
  const available = page.getByTestId('available');
  await page.getByText('live', { exact: true }).waitFor();
  const before = dollars(await available.textContent());
  t.equal(await fetchBytes(world, 60_000_000), 60_000_000);
  const endedMs = performance.now();
  await eventually(
    async () => dollars(await available.textContent()),
    (now) => now > before,
  );
  t.ok(performance.now() - endedMs < 3_000, 'within 3 s and without loading anything anew');
  // All of the session's traffic is shown, too, once the last of it is booked.
  await page
    .getByText(/^60(\.\d)? MB$/)
    .first()
    .waitFor();
  await page
    .locator('.stat', { hasText: 'Today' })
    .getByText(/60(\.\d)? MB/)
    .waitFor(); // loaded by itself
  await page.locator('.uplot').waitFor();
  await browser.axe(t, 'overview');
  await browser.shoot('provider-overview');
  await page.getByText('Earnings by day as a table').click();
  t.equal(await page.locator('.chart tbody tr').count(), 14, 'the chart says the same as a table');
});

step('sees what went through, by destination and session', async (t, world) => {
  const host = new URL(world.system.file.demo_destination_url).host;
  await visit(t, '/provider/traffic', 'What went through me', 'traffic');
  // Destinations are booked in batches: the list is asked for until the one of the fetch is in it.
  const row = page.getByRole('row').filter({ hasText: host });
  for (let look = 0; look < 40 && (await row.count()) === 0; look++) {
    await page.reload();
    await page.getByRole('tabpanel').locator('table, .empty').first().waitFor();
  }
  t.match(await row.first().textContent(), /60(\.\d)? MB/);
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Export CSV' }).click(),
  ]);
  const csv = await readFile(await download.path(), 'utf8');
  t.ok(csv.startsWith('Day (UTC),Destination,Sent,Received,Connections,Last\r\n'), 'exported with a head');
  t.ok(csv.includes(host), 'and the rows');
  await page.getByLabel('Host').fill('nowhere.example');
  await page.getByText('Nothing went through you here yet').waitFor();

  await page.getByRole('tab', { name: 'By session' }).click();
  await page.getByRole('row').nth(1).getByRole('link').click();
  await page.getByRole('heading', { level: 1, name: 'Session' }).waitFor();
  t.equal(
    await page.evaluate('document.activeElement.textContent'),
    'Session',
    'the focus went to the title',
  );
  await page.getByRole('row').filter({ hasText: host }).waitFor();
  await browser.axe(t, 'session');
  await browser.shoot('provider-session');
});

step('sees each device and why it earns or not', async (t, world) => {
  await visit(t, '/provider/devices', 'Devices', 'devices');
  await page.getByText(world.system.file.provider.device_id).waitFor();
  t.match(await page.locator('main .badge').first().textContent(), /earning|idle/);
});

step('withdraws: the address is checked, then confirmed, then followed', async (t, world) => {
  const { admin, provider } = world.system.file;
  await world.system.api('/api/admin/credits', admin.token, {
    user_id: provider.user_id,
    amount: '20.00',
    reason: 'for the walk',
  });
  await visit(t, '/provider/withdraw', 'Withdraw', 'withdraw');
  await page.getByLabel('Amount in USD').fill('5.00');
  await page.getByLabel('Address').fill('TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6u');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('dialog').waitFor();
  await browser.axe(t, 'withdraw, confirming');
  await browser.shoot('provider-withdraw-confirm');
  await page.getByRole('button', { name: 'Send $5.00' }).click();
  await page.locator('.field-error', { hasText: 'not a valid address' }).waitFor();
  t.equal(
    await page.evaluate("document.activeElement.getAttribute('name')"),
    'target',
    'the focus is at what to correct',
  );
  await page.getByLabel('Address').fill('TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t');
  // The first answer is lost on its way: what is sent again is the same payout, not another one
  const loseAnswer = async (route: Route) => {
    await route.fetch();
    await route.abort();
  };
  await page.route('**/api/withdraw', loseAnswer, { times: 1 });
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('button', { name: 'Send $5.00' }).click();
  await page.getByText('No answer from the server').waitFor();
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('button', { name: 'Send $5.00' }).click();
  await page.getByText('waits to be released').waitFor();
  await page.getByText(/\$15\.\d\d available/).waitFor(); // the money is set aside
  await browser.axe(t, 'withdraw, asked');
  await browser.shoot('provider-withdraw-asked');

  const payouts = (await world.system.api('/api/withdraw', provider.access_token)) as {
    items: { payment_id: string; status: string; amount: string }[];
  };
  t.equal(payouts.items.length, 1);
  t.match(payouts.items, [{ status: 'pending', amount: '5.000000' }]);
  await world.system.api(`/api/admin/payments/${payouts.items[0]?.payment_id}/reject`, admin.token, {
    reason: 'not today',
  });
  await page.getByText('not today').waitFor(); // by itself
  await page.getByText(/\$20\.\d\d available/).waitFor(); // and the money is back
  await visit(t, '/provider/money', 'Money', 'money');
  t.ok(
    await page
      .getByText(/^Payout/)
      .first()
      .isVisible(),
    'every step is an entry',
  );
});

step('sets caps, hours and blocked destinations', async (t, world) => {
  await visit(t, '/provider/limits', 'Limits', 'limits');
  await page.getByLabel('Gigabytes a day').fill('a lot');
  await page.getByRole('button', { name: 'Save caps' }).click();
  await page.locator('.field-error', { hasText: 'number of gigabytes' }).waitFor();
  await page.getByLabel('Gigabytes a day').fill('2.5');
  await page.getByRole('button', { name: 'Save caps' }).click();
  await page.getByText('Saved.').first().waitFor();
  await page.getByLabel('Between certain hours only').check();
  await page.getByLabel('From').fill('22:30');
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByLabel('One host a line').fill('https://Example.com/page\nads.example, ads.example');
  await page.getByText('2 of at most 500').waitFor();
  await page.getByRole('button', { name: 'Save list' }).click();
  const { api, file } = world.system;
  const settings = await eventually(
    async () =>
      (await api('/api/user/me', file.provider.access_token)).settings as { blocked_destinations?: string[] },
    ({ blocked_destinations: blocked }) => blocked?.length === 2,
  );
  t.match(settings, {
    cap_bytes_per_day: 2_500_000_000,
    cap_bytes_per_month: null,
    hours: { from: '22:30', to: '07:00' },
    blocked_destinations: ['example.com', 'ads.example'],
  });
});

step('is told of invitations, and of a promo code that is none', async (t) => {
  await visit(t, '/provider/invite', 'Invite and bonuses', 'invite');
  await page.getByLabel('Code', { exact: true }).fill('NOSUCH');
  await page.getByRole('button', { name: 'Redeem' }).click();
  await page.getByText('No such promo code').waitFor();
});

step('writes to support and reads the answer', async (t, world) => {
  await visit(t, '/provider/support', 'Support', 'support');
  await page.getByLabel('Subject').fill('A question');
  await page.getByLabel('What is it about?').fill('Where is my money?');
  await page.getByRole('button', { name: 'Send' }).click();
  await page.getByRole('heading', { level: 1, name: 'A question' }).waitFor();
  const id = new URL(page.url()).pathname.split('/').at(-1);
  await world.system.api(`/api/admin/support/${id}/reply`, world.system.file.admin.token, {
    message: 'It is in your balance.',
  });
  await page.reload();
  await page.getByText('It is in your balance.').waitFor();
  await browser.axe(t, 'thread');
  await browser.shoot('provider-thread');
  await visit(t, '/provider/inbox', 'Inbox', 'inbox');
});

step('sees where they are signed in, and takes their data along', async (t) => {
  await visit(t, '/provider/account', 'Account', 'account');
  await page.getByText('this one').waitFor();
  await page.getByLabel('Email').fill('me@example.org');
  await page.getByLabel('Phone').fill('12');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.locator('.field-error').waitFor();
  await page.getByLabel('Phone').fill('+998901234567');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Download my data' }).click(),
  ]);
  const data = JSON.parse(await readFile(await download.path(), 'utf8')) as { sections: object };
  t.ok(Object.keys(data.sections).length > 3, 'with everything that is kept');
});

step('withdraws the consent: the tunnel drops; accepts again', async (t, world) => {
  await visit(t, '/provider/consent', 'Consent', 'consent');
  await page.getByRole('button', { name: 'Withdraw consent' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Withdraw consent' }).click();
  await page.getByText('not accepted').waitFor();
  const untilMs = performance.now() + 1_000;
  let { tunnels } = await world.system.status();
  while (tunnels > 0 && performance.now() < untilMs) ({ tunnels } = await world.system.status());
  t.equal(tunnels, 0, 'no device shares a second later');
  t.ok(await page.getByRole('button', { name: 'Accept' }).isDisabled(), 'only who has read it accepts');
  await page.getByLabel('I have read this and agree').check();
  await page.getByRole('button', { name: 'Accept' }).click();
  await page.getByText('accepted', { exact: true }).waitFor();
});

step('nothing went wrong on any of these pages', async (t) => {
  // What the walk provoked: an address and a phone number that are refused, a promo code that is none.
  await browser.finish(t, /status of (400|422)|ERR_FAILED/); // what the walk entered wrongly, and the lost answer
});

step('opens it as a Mini App, in the colours of Telegram', async (t, world) => {
  const mini = await world.newPage();
  const launch = new URLSearchParams({
    tgWebAppData: initData({ id: 700_001, username: 'mini' }, { botToken: CONSOLE_BOT_TOKEN }),
    tgWebAppVersion: '8.0',
    tgWebAppThemeParams: JSON.stringify({
      bg_color: '#17212b',
      secondary_bg_color: '#0e1621',
      text_color: '#f5f5f5',
      hint_color: '#a8b4c0',
      link_color: '#6ab3f3',
      button_color: '#2f6ea5',
      button_text_color: '#ffffff',
    }),
  });
  await mini.page.setViewportSize({ width: 390, height: 844 });
  const answer = await mini.page.goto(`/app#${launch}`);
  t.match(answer?.headers()['content-security-policy'], /frame-ancestors https:\/\/web\.telegram\.org;/);
  await mini.page.getByText('Nothing is shared until you accept').waitFor();
  t.equal(
    mini.page.url(),
    `${world.system.file.api_url}/provider`,
    'the signed data is not in the address any more',
  );
  t.equal(
    await mini.page.evaluate('getComputedStyle(document.body).backgroundColor'),
    'rgb(14, 22, 33)',
    "the background is Telegram's",
  );
  await mini.axe(t, 'mini app');
  await mini.page.getByRole('button', { name: 'More' }).click();
  await mini.page.getByRole('link', { name: 'Consent' }).click();
  await mini.page.getByRole('heading', { level: 1, name: 'Consent' }).waitFor();
  await mini.settled();
  await mini.shoot('mini-app-consent');
  await mini.finish(t);
});
