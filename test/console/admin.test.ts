/** An admin's way through the console, with real traffic on the standalone system. */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { Page } from 'playwright-core';
import t, { type Test } from 'tap';
import {
  type ConsolePage,
  type ConsoleWorld,
  eventually,
  signInByToken,
  startConsole,
} from '../helpers/console.js';
import { CryptomusServer } from '../helpers/cryptomus.js';
import { runProgram } from '../helpers/programs.js';

t.setTimeout(300_000);

/** Users made beside the demo's two: more than a page of a table. */
const MADE_USERS = 30;
/** One page of each kind, looked at by axe on a phone as well, where menu, tables and charts are others. */
const PHONE_KINDS: ReadonlySet<string> = new Set(['overview', 'users', 'settings', 'session', 'audit']);
/** A valid address of TRON: that of the USDT contract. */
const WALLET = 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t';

let world: ConsoleWorld | null;
let browser: ConsolePage;
let page: Page;

t.before(async () => {
  const cryptomus = await CryptomusServer.start(t);
  world = await startConsole(t, { env: cryptomus.env });
  if (world === null) return;
  browser = await world.newPage();
  page = browser.page;
  const { api, file } = world.system;
  for (let n = 1; n <= MADE_USERS; n++)
    await api('/api/admin/users', file.admin.token, {
      telegram_id: 9_000 + n,
      username: `made_${String(n).padStart(2, '0')}`,
    });
});

/** A step of the walk; nothing where there is no browser. */
function step(name: string, walk: (t: Test, world: ConsoleWorld) => Promise<void>): void {
  t.test(name, async (t) => {
    if (world !== null) await walk(t, world);
  });
}

/** What every page must stand: axe, and a phone without sideways scrolling; and its pictures. */
async function look(t: Test, name: string): Promise<void> {
  await browser.settled();
  await browser.axe(t, name);
  await browser.fitsPhone(t, name, { axe: PHONE_KINDS.has(name) });
  await browser.shoot(`admin-${name}`);
}

/** Goes to a page by its address and looks at it. */
async function visit(t: Test, path: string, heading: string, name: string): Promise<void> {
  await go(path, heading);
  await look(t, name);
}

async function go(path: string, heading: string): Promise<void> {
  await browser.open(path);
  await page.getByRole('heading', { level: 1, name: heading, exact: true }).waitFor();
}

async function fetchBytes({ system }: ConsoleWorld, bytes: number): Promise<number> {
  const { code, out } = await runProgram('curl', [
    ...['-sf', '-o', '/dev/null', '-w', '%{size_download}', '-x', system.file.proxy_url],
    `${system.file.demo_destination_url}bytes/${bytes}`,
  ]);
  return code === 0 ? Number(out) : -1;
}

/** A download through the proxy that goes on for hours; the gateway counts its stream by now. */
async function openStream({ system }: ConsoleWorld): Promise<{ kill: () => void }> {
  const { streams } = await system.status();
  const curl = spawn(
    'curl',
    [
      ...['-s', '-o', '/dev/null', '--limit-rate', '100k', '-x', system.file.proxy_url],
      `${system.file.demo_destination_url}bytes/4000000000`,
    ],
    { stdio: 'ignore' },
  );
  await eventually(
    async () => (await system.status()).streams,
    (now) => now > streams,
  );
  return { kill: () => curl.kill('SIGKILL') };
}

const dialog = () => page.getByRole('dialog');
const row = (text: string) => page.getByRole('row').filter({ hasText: text });
const toasted = (text: string | RegExp) => page.locator('.toast', { hasText: text }).first().waitFor();

step('sees the network live', async (t, world) => {
  await signInByToken(browser, 'admin', world.system.file.admin.token);
  await page.getByText('Live', { exact: true }).first().waitFor();
  t.equal(await fetchBytes(world, 30_000_000), 30_000_000);
  await page
    .locator('.stat', { hasText: 'Traffic today' })
    .getByText(/^30(\.\d)? MB$/)
    .waitFor(); // by itself
  await page.locator('.stat', { hasText: 'Devices online' }).getByText('1', { exact: true }).waitFor();
  await page.locator('.card', { hasText: 'Money invariant' }).getByText('Holds').waitFor();
  await page.locator('.uplot').first().waitFor();
  await look(t, 'overview');
});

step('rejects a payout, approves another', async (t, world) => {
  const { api, file } = world.system;
  await api('/api/admin/credits', file.admin.token, {
    user_id: file.provider.user_id,
    amount: '20.00',
    reason: 'for the walk',
  });
  const ask = (amount: string) =>
    api('/api/withdraw/request', file.provider.access_token, {
      ...{ amount, method: 'cryptomus', network: 'TRON', currency: 'USDT' },
      target: WALLET,
    });
  await ask('6.00');
  await go('/admin/payments?kind=payout&status=pending', 'Payouts and top-ups');
  await row('$6.00').getByRole('button').click();
  await dialog().getByText(WALLET).waitFor();
  await browser.axe(t, 'one payout');
  await browser.shoot('admin-payout');
  await dialog().getByRole('button', { name: 'Reject' }).click();
  await dialog().getByLabel('Reason').fill('not today');
  await dialog().getByRole('button', { name: 'Reject' }).click();
  await toasted('available again');
  await dialog().getByText('cancelled').waitFor();
  await dialog().getByRole('button', { name: 'Close' }).click();
  await page.getByText('No payments here').waitFor();

  await ask('7.00');
  await page.reload();
  await row('$7.00').getByRole('button').click();
  await dialog().getByRole('button', { name: 'Approve' }).click();
  await dialog().getByRole('button', { name: 'Approve' }).click();
  await toasted('it is being sent');
  await dialog().getByRole('button', { name: 'Close' }).click();
  const payouts = (await api('/api/withdraw', file.provider.access_token)) as {
    items: { amount: string; status: string }[];
  };
  t.match(payouts.items, [
    { amount: '7.000000', status: 'processing' },
    { amount: '6.000000', status: 'cancelled' },
  ]);
  await page.getByLabel('Status').selectOption('');
  await row('$6.00').waitFor();
  await look(t, 'payments');
});

step('a table filters, sorts, pages and exports on the server', async (t) => {
  await go('/admin/users', 'Users');
  const names = () => page.locator('tbody tr td:first-child a').allTextContents();
  await page.getByText('Page 1').waitFor();
  await page.getByRole('button', { name: /^User/ }).click();
  await page.locator('th[aria-sort=descending]').waitFor();
  await eventually(names, ([first]) => first === 'made_30');
  t.equal((await names()).length, 25, 'a page');
  await page.getByRole('button', { name: 'Next' }).click();
  await page.getByText('Page 2').waitFor();
  await eventually(names, (now) => now.includes('demo_admin') && now.includes('made_01'));
  await page.getByRole('button', { name: 'Previous' }).click();
  await eventually(names, ([first]) => first === 'made_30');
  await page.getByLabel('Search').fill('made_0');
  await eventually(names, (now) => now.length === 9 && now[0] === 'made_09');
  t.match(page.url(), /query=made_0/, 'the filter is in the address');
  await look(t, 'users');
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Export CSV' }).click(),
  ]);
  const lines = (await readFile(await download.path(), 'utf8')).trim().split('\r\n');
  t.equal(lines.length, 10, 'a head and the nine that match');
  t.ok(lines[1]?.includes('made_09') && lines[9]?.includes('made_01'), 'in the order shown');

  await page.getByRole('link', { name: 'made_09' }).click();
  await page.getByRole('button', { name: 'Adjust balance' }).click();
  await dialog().getByLabel('Amount in dollars').fill('-1.00');
  await dialog().getByLabel('Reason').fill('for the walk');
  await dialog().getByRole('button', { name: 'Book it' }).click();
  await dialog().getByText('would fall below zero').waitFor();
  await dialog().getByLabel('Even if the balance falls below zero').check();
  await dialog().getByRole('button', { name: 'Book it' }).click();
  await toasted('The balance is −$1.00'); // what was refused is asked for anew, not answered as before
});

step('edits a setting; what does not fit is marked', async (t, world) => {
  await visit(t, '/admin/settings', 'Settings', 'settings');
  const field = page.getByLabel('Sub-users of one buyer');
  await field.fill('a few');
  await page.getByRole('button', { name: 'Save 1 changed' }).click();
  await page.locator('.field-error').waitFor();
  t.equal(
    await page.evaluate("document.activeElement.getAttribute('name')"),
    'sub_users_max',
    'the focus is at what to correct',
  );
  await field.fill('61');
  await page.getByRole('button', { name: 'Save 1 changed' }).click();
  await toasted('Saved and in force');
  const settings = await world.system.api('/api/admin/settings', world.system.file.admin.token);
  t.equal(settings.sub_users_max, 61);

  await visit(t, '/admin/prices', 'Prices', 'prices');
  await page.getByLabel('Price per GB in dollars').fill('0.35');
  await page.getByRole('button', { name: 'Set the price' }).click();
  await page
    .locator('.stat', { hasText: 'Providers get' })
    .getByText(/\$0\.35/)
    .waitFor();
});

step('makes a buyer, changes its limits, gives it a token that is shown once', async (t, world) => {
  await visit(t, '/admin/buyers', 'Buyers', 'buyers');
  await page.getByRole('button', { name: 'Add a buyer' }).click();
  await dialog().getByLabel('Name').fill('Acme Crawling');
  await browser.axe(t, 'adding a buyer');
  await dialog().getByRole('button', { name: 'Add', exact: true }).click();
  await dialog().getByText('shown this once').waitFor();
  await dialog().getByRole('button', { name: 'To the buyer' }).click();
  await page.getByRole('heading', { level: 1, name: 'Acme Crawling' }).waitFor();
  await page.getByRole('tab', { name: 'Limits' }).click();
  await page.getByLabel('Streams at once').fill('-3');
  await page.getByRole('button', { name: 'Save the limits' }).click();
  await page.locator('.field-error').first().waitFor();
  await page.getByLabel('Streams at once').fill('40');
  await page.getByLabel('Only these destinations').fill('example.com\n.example.org');
  await page.getByRole('button', { name: 'Save the limits' }).click();
  await toasted('Saved');
  const id = new URL(page.url()).pathname.split('/').at(-1) ?? '';
  const { api, file } = world.system;
  t.match(await api(`/api/admin/buyers/${id}`, file.admin.token), {
    limits: { streams_max: 40, allowed_domains: ['example.com', '.example.org'] },
  });
  await browser.axe(t, 'limits of a buyer');
  await page.getByRole('tab', { name: 'Tokens' }).click();
  await page.getByRole('button', { name: 'Create a token' }).click();
  await dialog().getByLabel('What for').fill('the crawler');
  await dialog().getByRole('button', { name: 'Create' }).click();
  const token = (await dialog().locator('.copyable code').textContent()) ?? '';
  t.match(await api('/api/buyer/me', token), { name: 'Acme Crawling' }, 'it works');
  await dialog().getByRole('button', { name: 'I have it' }).click();
  t.notOk((await page.content()).includes(token), 'and is nowhere any more');
  await row('the crawler')
    .getByRole('button', { name: /Revoke/ })
    .click();
  await dialog().getByRole('button', { name: 'Revoke' }).click();
  await row('the crawler').getByText('revoked').waitFor();
  await browser.axe(t, 'tokens of a buyer');
  await visit(t, `/admin/buyers/${file.buyer.id}`, 'Demo buyer', 'buyer');
});

step('creates packages from CSV, with the faulty rows told', async (t, world) => {
  const { provider } = world.system.file;
  await visit(t, '/admin/packages', 'Packages', 'packages');
  await page.getByRole('button', { name: 'Create from CSV' }).click();
  const lines = [
    'user_id,ip,size_bytes',
    `${provider.user_id},203.0.113.7,5000000`,
    `${provider.user_id},not an address,5000000`,
  ];
  await dialog().getByLabel('Or paste it').fill(lines.join('\n'));
  await browser.axe(t, 'packages from CSV');
  await dialog().getByRole('button', { name: 'Create 2' }).click();
  await dialog().getByText('Row 2').waitFor();
  await dialog().getByRole('button', { name: 'Close' }).click();
  await row('203.0.113.7').getByRole('link').first().click();
  await page.getByRole('heading', { level: 1, name: 'Package' }).waitFor();
  await look(t, 'package');
  await page.getByRole('button', { name: 'Revoke' }).click();
  await dialog().getByRole('button', { name: 'Revoke' }).click();
  await page.getByText('revoked').first().waitFor();
});

step('writes news, a code and a broadcast; answers a question', async (t, world) => {
  const { api, file } = world.system;
  await go('/admin/news', 'News');
  await page.getByRole('button', { name: 'Write news' }).click();
  for (const language of ['Uzbek', 'Russian', 'English']) {
    await dialog().getByLabel(`${language}: title`).fill(`A new app (${language})`);
    await dialog().getByLabel(`${language}: text`).fill('It is faster.');
  }
  await browser.axe(t, 'writing news');
  await browser.shoot('admin-news-writing');
  await dialog().getByRole('button', { name: 'Announce' }).click();
  await row('A new app (English)').waitFor();
  await look(t, 'news');

  await go('/admin/promo', 'Promo codes');
  await page.getByRole('button', { name: 'Create a code' }).click();
  await dialog().getByLabel('Code').fill('WELCOME');
  await dialog().getByLabel('Bonus in dollars').fill('1.50');
  await dialog().getByRole('button', { name: 'Save' }).click();
  await row('WELCOME').waitFor();
  await look(t, 'promo');

  await go('/admin/broadcasts', 'Broadcasts');
  await page.getByRole('button', { name: 'Write one' }).click();
  await dialog().getByLabel('Message').fill('A new version is out.');
  await dialog().getByRole('button', { name: 'Save the draft' }).click();
  await page.getByRole('heading', { level: 1, name: 'Broadcast', exact: true }).waitFor();
  await page.getByRole('button', { name: 'Start' }).click();
  await dialog().getByRole('button', { name: 'Send' }).click();
  // Counters move by themselves, to the end.
  await page.locator('.stat', { hasText: 'Sent' }).locator('.stat-value', { hasText: /^3\d$/ }).waitFor();
  await look(t, 'broadcast');
  // As after a crash in the middle: the counters are changed on their way here, what is decided reaches the server.
  await page.route(/\/api\/admin\/broadcasts\/[0-9a-f-]{36}$/, async (route) => {
    const response = await route.fetch();
    const one = (await response.json()) as { counters: Record<string, number> };
    one.counters.unknown = 2;
    await route.fulfill({ response, json: one });
  });
  await page.reload();
  await page.getByRole('heading', { name: 'Outcome unknown: 2 recipients' }).waitFor();
  await look(t, 'broadcast-unknown');
  await page.unrouteAll();
  await page.getByRole('button', { name: 'Send to these again' }).click();
  await dialog().getByRole('button', { name: 'Send again' }).click();
  await page.getByRole('heading', { name: /^Outcome unknown/ }).waitFor({ state: 'detached' });
  await visit(t, '/admin/broadcasts', 'Broadcasts', 'broadcasts');

  await api('/api/support', file.provider.access_token, {
    subject: 'No earnings',
    message: 'Nothing came since yesterday.',
  });
  await visit(t, '/admin/support', 'Support', 'support');
  await page.getByRole('link', { name: 'No earnings' }).click();
  await page.getByText('Nothing came since yesterday.').waitFor();
  await page.getByLabel('Answer').fill('It is there now.');
  await page.getByRole('button', { name: 'Send' }).click();
  await page.locator('.said-admin', { hasText: 'It is there now.' }).waitFor();
  await look(t, 'support-thread');
});

step('looks at devices, sessions, destinations and the machinery', async (t, world) => {
  await go('/admin/devices', 'Devices');
  await row(world.system.file.provider.device_id).getByText('online').waitFor();
  await look(t, 'devices');
  await visit(t, '/admin/sessions', 'Sessions', 'sessions');
  await page.locator('tbody tr').first().getByRole('link').first().click();
  await page.getByRole('heading', { level: 1, name: 'Session', exact: true }).waitFor();
  await look(t, 'session');
  await page.getByRole('button', { name: 'Refund a buyer' }).click();
  await dialog().getByLabel('Amount in dollars').fill('0.01');
  await dialog().getByLabel('Reason').fill('slow');
  await dialog().getByRole('button', { name: 'Refund' }).click();
  await toasted('$0.01 went back');
  await go('/admin/jobs', 'Jobs');
  await page
    .getByRole('button', { name: /^Run now/ })
    .first()
    .click();
  await toasted('asked to run');
  await look(t, 'jobs');
  await visit(t, '/admin/backups', 'Backups', 'backups');
  await visit(t, '/admin/destinations', 'Destinations', 'destinations');
  await visit(t, '/admin/logs', 'Logs', 'logs');
  await visit(t, '/admin/system', 'System', 'system');
  await visit(t, '/admin/policy', 'Policy lists', 'policy');
  await go('/admin/audit?action=settings_changed', 'Audit log');
  await page.getByLabel('Action').fill('');
  await page
    .getByRole('button', { name: /^Details/ })
    .first()
    .click();
  await dialog().getByText('Request').waitFor();
  await dialog().getByRole('button', { name: 'Close' }).click();
  await look(t, 'audit');
  await go('/admin/gateways', 'Gateways');
  await page
    .getByRole('button', { name: /^Drain/ })
    .first()
    .click();
  await browser.axe(t, 'draining, asked');
  await dialog().getByRole('button', { name: 'Cancel' }).click();
  await look(t, 'gateways');
});

step('pulls the kill switch on a buyer, and lifts it', async (t, world) => {
  const { file } = world.system;
  const stream = await openStream(world);
  t.teardown(stream.kill);
  await go('/admin/kill', 'Kill switch');
  await page.getByLabel('Whose').selectOption('buyer');
  await page.getByLabel('Id of the buyer').fill(file.buyer.id);
  await page.getByLabel('Reason').fill('complaint 17');
  await page.getByRole('button', { name: 'Cut the streams…' }).click();
  const cut = dialog().getByRole('button', { name: 'Cut the streams' });
  t.ok(await cut.isDisabled(), 'not before it is typed');
  await browser.axe(t, 'kill switch, asked');
  await browser.shoot('admin-kill-asked');
  await dialog().getByLabel(/^Type/).fill('cut buyer');
  const askedMs = performance.now();
  await cut.click();
  await eventually(
    async () => (await world.system.status()).streams,
    (streams) => streams === 0,
  );
  const tookMs = performance.now() - askedMs;
  t.ok(tookMs < 2_000, `the stream is cut (${Math.round(tookMs)} ms, both calls with it)`);
  await toasted('kept away');
  t.equal(await fetchBytes(world, 1_000), -1, 'the buyer is kept away');
  await page.getByText('complaint 17').waitFor();
  await look(t, 'kill');
  await page.getByRole('button', { name: 'Lift Demo buyer' }).click();
  await toasted('Lifted');
  await page.getByText('Nobody is kept away').waitFor();
  await eventually(
    () => fetchBytes(world, 1_000),
    (bytes) => bytes === 1_000,
  );
});

step('bans a user, whose tunnel drops within a second', async (t, world) => {
  const { system } = world;
  await visit(t, `/admin/users/${system.file.provider.user_id}`, 'demo_provider', 'user');
  for (const tab of ['Devices', 'Sessions', 'Payments', 'Change']) {
    await page.getByRole('tab', { name: tab }).click();
    await browser.axe(t, `user, ${tab}`);
  }
  t.equal((await system.status()).tunnels, 1);
  await page.getByRole('button', { name: 'Ban', exact: true }).click();
  await dialog().getByLabel('Reason, for the user').fill('shared a data centre');
  const askedMs = performance.now();
  await dialog().getByRole('button', { name: 'Ban' }).click();
  await eventually(
    async () => (await system.status()).tunnels,
    (tunnels) => tunnels === 0,
  );
  const tookMs = performance.now() - askedMs;
  t.ok(tookMs < 1_000, `its tunnel drops within a second (${Math.round(tookMs)} ms)`);
  await page.locator('main .badge', { hasText: 'banned' }).first().waitFor();
  await page.getByRole('button', { name: 'Lift the ban' }).click();
  await dialog().getByRole('button', { name: 'Lift the ban' }).click();
  await page.getByRole('button', { name: 'Ban', exact: true }).waitFor();
});

step('nothing went wrong on any page', async (t) => {
  await browser.finish(t, /status of (400|422)/); // what the walk entered wrongly
});
