/** The network's daily business in the browser, on a system with a hundred thousand users. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { Page } from 'playwright-core';
import t, { type Test } from 'tap';
import { encodeCursor } from '../../control-plane/http/pagination.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import {
  type ConsolePage,
  type ConsoleWorld,
  eventually,
  signInByToken,
  startConsole,
  telegramLogin,
} from '../helpers/console.js';
import { CryptomusServer } from '../helpers/cryptomus.js';
import { median, turnPages } from '../helpers/page-turns.js';
import { runProgram } from '../helpers/programs.js';
import { startPostgres } from '../helpers/services.js';
import { type SystemPostgres, startSystemPostgres } from '../helpers/system-postgres.js';

t.setTimeout(300_000);

/** Of the table whose pages are turned. */
const USERS = 100_000;
/** From the click to the next rows on the screen. */
const PAGE_TURN_MS_MAX = 200;
const PAGE_TURNS = 10;
/** The demo's provider and an admin made here. */
const PROVIDER_TELEGRAM_ID = 2;
const SECOND_ADMIN_TELEGRAM_ID = 700;
/** A valid address of TRON: that of the USDT contract. */
const WALLET = 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t';

let world: ConsoleWorld | null;
let postgres: SystemPostgres | null;
let cryptomus: CryptomusServer;
let database: pg.Client;
let backups: string;
let browser: ConsolePage;
let page: Page;

t.before(async () => {
  // The system's own, which its pg_dump can dump.
  postgres = await startSystemPostgres(t);
  const { url } = postgres ?? (await embeddedPostgres());
  cryptomus = await CryptomusServer.start(t);
  backups = t.testdir({});
  world = await startConsole(t, {
    env: {
      ...cryptomus.env,
      TS_DATABASE_URL: url,
      TS_BACKUP_DIR: backups,
      ...(postgres && { TS_PG_DUMP: postgres.program('pg_dump') }),
      TS_DRAIN_MS: '20000',
    },
  });
  if (world === null) return;
  database = new pg.Client({ connectionString: url });
  await database.connect();
  t.teardown(() => database.end());
  await fillUsers(database);
  browser = await world.newPage();
  page = browser.page;
});

async function embeddedPostgres(): Promise<{ url: string }> {
  const embedded = await startPostgres();
  t.teardown(() => embedded.stop());
  return embedded;
}

/** Users, each with a device, in no order of names. */
async function fillUsers(client: pg.Client): Promise<void> {
  const rows = `generate_series(1, ${USERS}) AS n`;
  const id = `md5('user' || n)::uuid`;
  await client.query(`
    INSERT INTO users (id, username, status, referral_code, created_at)
    SELECT ${id}, 'u' || lpad((n * 7919 % ${USERS})::text, 6, '0'),
           CASE WHEN n % 50 = 0 THEN 'banned' ELSE 'active' END, 'many' || n, now() - n * interval '1 minute'
      FROM ${rows}`);
  await client.query(`
    INSERT INTO devices (id, user_id, key_hash, os, client_version, last_country, last_seen_at)
    SELECT 'device-' || n, ${id}, decode(md5('device' || n), 'hex'), 'linux', '1.0.0',
           (ARRAY['DE', 'US', 'FR', 'UZ'])[1 + n % 4], now() - n * interval '1 minute'
      FROM ${rows}`);
  await client.query('ANALYZE users, devices');
}

/** A step of the walk; nothing where there is no browser. */
function step(name: string, walk: (t: Test, world: ConsoleWorld) => Promise<void>): void {
  t.test(name, async (t) => {
    if (world !== null) await walk(t, world);
  });
}

async function go({ open, page }: ConsolePage, path: string, heading: string): Promise<void> {
  await open(path);
  await page.getByRole('heading', { level: 1, name: heading, exact: true }).waitFor();
}

async function call(method: string, path: string, token: string | null, body?: object) {
  const response = await fetch((world as ConsoleWorld).system.file.api_url + path, {
    method,
    headers: {
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
}

const dialogOf = (on: Page) => on.getByRole('dialog');
const rowOf = (on: Page, text: string) => on.getByRole('row').filter({ hasText: text });
const toasted = (on: Page, text: string) => on.locator('.toast', { hasText: text }).first().waitFor();

/** The table shows its first page in the order of names, from the last. */
async function sortByName(): Promise<void> {
  await page.getByRole('button', { name: /^User/ }).click();
  await page.locator('th[aria-sort=descending]').waitFor();
  await page.locator('main [aria-busy=true]').waitFor({ state: 'detached' });
  await page.getByText('Page 1', { exact: true }).waitFor();
}

/** What the list of users is opened as, and how to come to its pages. */
const LISTS: Record<string, () => Promise<void>> = {
  'in the usual order': () => go(browser, '/admin/users', 'Users'),
  'far behind, by name': async () => {
    const { rows } = await database.query<{ id: string; username: string }>(
      'SELECT id, username FROM users ORDER BY username DESC, id DESC OFFSET $1 LIMIT 1',
      [USERS - 2_000],
    );
    const { id, username } = rows[0] as { id: string; username: string };
    // Nobody clicks Next 4 000 times: the first page in this order is told to be the one before.
    await page.route(/\/api\/admin\/users\?.*sort=-username/, async (route) => {
      const response = await route.fetch();
      const list = (await response.json()) as object;
      const json = { ...list, next_cursor: encodeCursor(['-username', username, id]) };
      await route.fulfill({ response, json });
    });
    await go(browser, '/admin/users', 'Users');
    await sortByName();
    await page.unroute(/\/api\/admin\/users\?.*sort=-username/);
  },
  'of one country, by name': async () => {
    await go(browser, '/admin/users?country=UZ', 'Users');
    await sortByName();
  },
};

step('a table of 100 000 rows pages in under 200 ms', async (t, world) => {
  await signInByToken(browser, 'admin', world.system.file.admin.token);
  for (const [name, open] of Object.entries(LISTS)) {
    let best: number[] = [];
    const slow = () => best.filter((ms) => ms >= PAGE_TURN_MS_MAX).length;
    // Nine of ten count: the tenth may meet a moment in which the machine did something else. On a machine that does so
    // all the time the best of three rounds does.
    for (let round = 0; round === 0 || (round < 3 && slow() > 1); round++) {
      await open();
      await page.getByText('Page 1', { exact: true }).waitFor();
      const tookMs = await turnPages(page, PAGE_TURNS);
      if (best.length === 0 || median(tookMs) < median(best)) best = tookMs;
    }
    const [middle, worst] = [Math.round(median(best)), Math.round(Math.max(...best))];
    t.ok(slow() <= 1, `${name}: median ${middle} ms, slowest of ${PAGE_TURNS} ${worst} ms`);
  }
});

step('two admins approve what one may not; the provider sees it paid', async (t, world) => {
  const { file } = world.system;
  await call('PATCH', '/api/admin/settings', file.admin.token, { payout_two_admin_min: '5.00' });
  const other = await call('POST', '/api/admin/users', file.admin.token, {
    telegram_id: SECOND_ADMIN_TELEGRAM_ID,
    username: 'second_admin',
    is_verified: true,
  });
  await call('PATCH', `/api/admin/users/${other.id}`, file.admin.token, { is_admin: true });
  const login = await call('POST', '/api/admin/auth/login', null, telegramLogin(SECOND_ADMIN_TELEGRAM_ID));
  await call('POST', '/api/admin/credits', file.admin.token, {
    user_id: file.provider.user_id,
    amount: '20.00',
    reason: 'for the walk',
  });
  const [provider, second] = await Promise.all([world.newPage(), world.newPage()]);

  await signInByToken(provider, 'provider', file.provider.access_token);
  await go(provider, '/provider/withdraw', 'Withdraw');
  await provider.page.getByLabel('Amount in USD').fill('9.00');
  await provider.page.getByLabel('Address').fill(WALLET);
  await provider.page.getByRole('button', { name: 'Continue' }).click();
  await provider.page.getByRole('button', { name: 'Send $9.00' }).click();
  await provider.page.getByText('waits to be released').waitFor();

  await go(browser, '/admin/payments?kind=payout&status=pending', 'Payouts and top-ups');
  await page.getByText('Above $5.00 two admins approve a payout').waitFor();
  await rowOf(page, '$9.00').getByRole('button').click();
  await dialogOf(page).getByRole('button', { name: 'Approve' }).click();
  await dialogOf(page).getByRole('button', { name: 'Approve' }).click();
  await toasted(page, 'A second admin has to approve it too');
  await dialogOf(page).getByText('Approved by').waitFor();
  await dialogOf(page).getByText('Waits for another admin').waitFor();
  t.equal(await dialogOf(page).getByRole('button', { name: 'Approve' }).count(), 0, 'not twice by one');
  await browser.axe(t, 'a payout that waits for another admin');
  await browser.shoot('admin-payout-second');
  t.equal(cryptomus.payouts.size, 0, 'nothing is sent yet');

  await signInByToken(second, 'admin', login.access_token as string);
  await go(second, '/admin/payments?kind=payout&status=pending', 'Payouts and top-ups');
  await rowOf(second.page, '$9.00').getByRole('button').click();
  const sent = cryptomus.called('/v1/payout');
  await dialogOf(second.page).getByRole('button', { name: 'Approve as the second admin' }).click();
  await dialogOf(second.page).getByRole('button', { name: 'Approve' }).click();
  await toasted(second.page, 'it is being sent');
  await sent;
  await provider.page.getByText('being paid').waitFor(); // by itself

  const [orderId = ''] = [...cryptomus.payouts.keys()];
  cryptomus.change(orderId, { status: 'paid', is_final: true, txid: 'a'.repeat(64) });
  const told = await fetch(`${file.api_url}/api/webhook/cryptomus`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: cryptomus.webhook(orderId),
  });
  t.equal(told.status, 200, 'the signed webhook is taken');
  await rowOf(provider.page, '$9.00').getByText('paid', { exact: true }).waitFor(); // by itself, too
  await provider.page.getByRole('button', { name: 'Copy transaction' }).waitFor();
  await provider.axe(t, 'a payout that was paid');
  await provider.shoot('provider-withdraw-paid');
  await go(second, '/admin/payments?kind=payout&status=completed', 'Payouts and top-ups');
  await rowOf(second.page, '$9.00').getByText('completed').waitFor();

  // What is loosened takes two as well.
  await go(browser, '/admin/settings', 'Settings');
  await page.getByLabel('Two admins above').fill('50.00');
  await page.getByRole('button', { name: 'Save 1 changed' }).click();
  await toasted(page, 'second admin');
  await page.getByText('Waiting for a second admin').waitFor();
  await eventually(
    () => page.getByRole('button', { name: 'Agree' }).count(),
    (count) => count === 0, // the second is another one
  );
  await browser.axe(t, 'a setting that waits');
  await browser.shoot('admin-settings-waiting');
  await go(second, '/admin/settings', 'Settings');
  await second.page.getByRole('button', { name: 'Agree' }).click();
  await second.page.getByText('Waiting for a second admin').waitFor({ state: 'detached' });
  t.match(await world.system.api('/api/admin/settings', file.admin.token), {
    payout_two_admin_min: '50.000000',
    proposals: [],
  });
  await Promise.all([provider.finish(t), second.finish(t)]);
});

step('a backup is made, with its progress, to its end', async (t) => {
  if (postgres === null) return;
  const { file } = (world as ConsoleWorld).system;
  await go(browser, '/admin/backups', 'Backups');
  // pg_dump waits for this table, so that there is time to look.
  const holder = new pg.Client({ connectionString: postgres.url });
  await holder.connect();
  try {
    await holder.query('BEGIN; LOCK TABLE promo_codes IN ACCESS EXCLUSIVE MODE');
    await page.getByRole('button', { name: 'Back up now' }).click();
    await page.getByText(/written$/).waitFor();
    await browser.axe(t, 'a backup under way');
    await browser.shoot('admin-backup-running');
  } finally {
    await holder.end();
  }
  await page.locator('tbody .badge', { hasText: 'done' }).waitFor(); // by itself
  const list = await call('GET', '/api/admin/backup/db', file.admin.token);
  const [made] = list.items as { file: string; size_bytes: number; sha256: string }[];
  const dump = await readFile(join(backups, made?.file ?? ''));
  t.equal(dump.length, made?.size_bytes);
  t.equal(createHash('sha256').update(dump).digest('hex'), made?.sha256, 'the file is what the page says');
  await browser.axe(t, 'a backup that is done');
});

/** The code with which the proxy refuses a request, or what the destination answered. */
async function asked(url: string): Promise<string> {
  const { file } = (world as ConsoleWorld).system;
  const { out } = await runProgram('curl', [
    ...['-s', '-o', '/dev/null', '--max-time', '3', '-w', '%{http_code} %header{x-ts-error}'],
    ...['-x', file.proxy_url, url],
  ]);
  return out.trim();
}

step('what is put on a policy list is refused, and no more when it is taken off', async (t) => {
  const url = 'http://tracker.denied.example/';
  const isBlocked = async () => (await asked(url)) === '403 TARGET_BLOCKED';
  t.notOk(await isBlocked(), 'not on any list');
  await go(browser, '/admin/policy', 'Policy lists');
  const list = page.getByLabel('Denied domains');
  await list.fill('not a domain');
  await page.getByRole('button', { name: 'Put in force' }).click();
  await page.locator('.field-error').waitFor();
  await browser.axe(t, 'a list that is wrong');
  await list.fill('.denied.example');
  await page.getByRole('button', { name: 'Put in force' }).click();
  await toasted(page, 'In force');
  await eventually(isBlocked, (blocked) => blocked);
  await list.fill('');
  await page.getByRole('button', { name: 'Put in force' }).click();
  await toasted(page, 'In force');
  await eventually(isBlocked, (blocked) => !blocked);
});

/** Devices online by country for the picture, small countries and large ones; the demo's own is in the United States. */
const ONLINE = { US: 412, DE: 120, FR: 64, UZ: 31, BR: 12, IN: 9, AU: 5, SG: 4, MT: 2, ZA: 1, FJ: 1, RU: 1 };

step('devices on the map: by pointer, by keyboard, in words', async (t, world) => {
  await go(browser, '/admin/devices', 'Devices');
  const land = (code: string) => page.locator(`.world [data-country=${code}]`);
  await land('US').and(page.locator('.land-shared')).waitFor();
  t.equal(await page.locator('.world .land-shared').count(), 1, 'where the demo device shares');
  await land('US').hover();
  await page.getByText('United States: 1 online').waitFor();
  await land('US').click();
  t.match(page.url(), /country=US$/, 'its devices are listed');
  await rowOf(page, world.system.file.provider.device_id).waitFor();
  await land('US').click();
  await eventually(
    async () => new URL(page.url()).search,
    (search) => search === '',
  );

  await page.route('**/api/admin/devices/countries', async (route) => {
    const countries = Object.entries(ONLINE).map(([country, online]) => ({
      country,
      online,
      free: online >> 1,
    }));
    await route.fulfill({ json: { read_at: new Date().toISOString(), countries } });
  });
  await page.reload();
  await land('DE').and(page.locator('.land-shared')).waitFor();
  const drawn = await page
    .locator('.world .land-shared, .world .speck')
    .evaluateAll((all) => all.map((one) => one.getAttribute('data-country')));
  const countries = Object.keys(ONLINE).sort();
  t.same([...new Set(drawn)].sort(), countries, 'the smallest of them, too');
  await page.getByRole('img', { name: `devices share from ${countries.length} countries` }).waitFor();
  // The list says the same, and does the same by keyboard.
  await page.getByRole('link', { name: 'Singapore' }).press('Enter');
  await page.locator('.speck.land-chosen').waitFor({ state: 'attached' }); // a point has no size that could be seen
  t.match(page.url(), /country=SG$/);
  await browser.settled();
  await browser.axe(t, 'the map of devices');
  await browser.fitsPhone(t, 'the map of devices');
  await browser.shoot('admin-devices-map');
  await page.unroute('**/api/admin/devices/countries');
});

step("the agent's own page, of an agent that shares", async (t, world) => {
  const { file } = world.system;
  // Its socket lies in it: no long path.
  const stateDir = await mkdtemp(join(tmpdir(), 'ts-agent-page-'));
  t.teardown(() => rm(stateDir, { recursive: true, force: true }));
  const agent = (...argv: string[]) => ({
    argv: [projectPath('dist/deploy/cli.js'), 'agent', ...argv],
    env: {
      PATH: process.env.PATH ?? '',
      TS_STATE_DIR: stateDir,
      TS_DEV_ALLOW: new URL(file.demo_destination_url).host,
      TS_PAGE_PORT: '0',
    },
  });
  const run = ({ argv, env }: ReturnType<typeof agent>) => runProgram(process.execPath, argv, { env });
  await call('POST', '/api/auth/request_login_code', null, { telegram_id: PROVIDER_TELEGRAM_ID });
  const code = await world.loginCode(PROVIDER_TELEGRAM_ID);
  const login = await run(
    agent(
      ...['login', '--api-url', file.api_url, '--telegram-id', `${PROVIDER_TELEGRAM_ID}`, '--code', code],
    ),
  );
  t.equal(login.code, 0, login.err);
  const { argv, env } = agent('run', '--accept-terms', '1');
  const process_ = spawn(process.execPath, argv, { env, stdio: 'ignore' });
  t.teardown(() => process_.kill('SIGKILL'));
  await eventually(
    async () => (await world.system.status()).tunnels,
    (tunnels) => tunnels === 2,
  );
  const { page: url } = JSON.parse((await run(agent('status', '--json'))).out) as { page: string };

  const own = await world.newPage(new URL(url).origin);
  await own.open('/');
  await own.page.getByText('Open this page by the address').waitFor();
  await own.axe(t, "the agent's page without its key");
  await own.open(url);
  await own.page.reload();
  await own.page
    .getByText('Sharing and earning')
    .or(own.page.getByText('Connected', { exact: true }))
    .waitFor();
  t.notMatch(own.page.url(), /#/, 'the key is not in the address any more');
  await own.axe(t, "the agent's page");
  await own.shoot('agent-page');
  await own.page.getByRole('button', { name: 'Pause for an hour' }).click();
  await own.page.getByText(/^Paused by you until/).waitFor();
  await own.fitsPhone(t, "the agent's page, paused");
  await own.page.emulateMedia({ colorScheme: 'dark' });
  await own.axe(t, "the agent's page, dark");
  await own.shoot('agent-page-paused');
  await own.page.getByRole('button', { name: 'Resume' }).click();
  await own.page.getByText('Pause for an hour').waitFor();
  process_.kill('SIGTERM');
  await own.page.getByText('The agent does not run.').waitFor();
  await own.axe(t, "the agent's page after its end");
  // Without its key, and when it has ended.
  await own.finish(
    t,
    /status of 401|ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|CONNECTION_RESET)/,
  );
});

step(
  'somebody reports abuse without script; an admin finds whose it is, answers, decides',
  async (t, world) => {
    const { file } = world.system;
    const { rows: sessions } = await database.query<{ exit_ip: string }>(
      'SELECT host(exit_ip) AS exit_ip FROM traffic_sessions ORDER BY started_at DESC LIMIT 1',
    );
    const exitIp = sessions[0]?.exit_ip as string;
    await database.query('SELECT make_destination_usage_partition(utc_day())');
    await database.query(
      `INSERT INTO destination_usage (day, session_id, allocation_id, buyer_id, user_id, exit_ip, country, host, port,
                                    bytes_up, bytes_down, streams, first_at, last_at)
     SELECT utc_day(), s.id, gen_random_uuid(), b.id, s.user_id, s.exit_ip, s.country, 'shop.example', 443, 1, 1, 1, now(), now()
       FROM traffic_sessions s, buyers b WHERE s.exit_ip = $1::inet LIMIT 1`,
      [exitIp],
    );
    const context = await world.browser.newContext({
      javaScriptEnabled: false,
      viewport: { width: 390, height: 844 },
    });
    t.teardown(() => context.close());
    const form = await context.newPage();
    await form.goto(`${file.api_url}/abuse`);
    await form.getByRole('button', { name: 'Send' }).click();
    t.match(form.url(), /\/abuse$/, 'required fields are asked for');
    await form.getByLabel('Address the traffic came from').fill(exitIp);
    await form.getByLabel('When, in UTC').fill(new Date().toISOString().slice(0, 19));
    await form.getByLabel('What happened').fill('Many failed logins to our shop.');
    await form.getByRole('button', { name: 'Send' }).click();
    const reference = (await form.locator('#given-reference').textContent()) ?? '';
    const secret = (await form.locator('#given-secret').textContent()) ?? '';
    t.match(reference, /^AR-/);

    await go(browser, '/admin/reports', 'Abuse reports');
    await browser.axe(t, 'abuse reports');
    await browser.fitsPhone(t, 'abuse reports');
    await page.getByRole('link', { name: reference }).click();
    await page.getByText('Many failed logins to our shop.').waitFor();
    await page.getByRole('button', { name: 'Look', exact: true }).click();
    await rowOf(page, 'shop.example:443').waitFor();
    await browser.settled();
    await browser.axe(t, 'abuse report');
    await browser.fitsPhone(t, 'abuse report');
    await rowOf(page, 'shop.example:443').getByRole('button', { name: 'Link' }).click();
    await toasted(page, 'Linked');
    await page.getByRole('textbox', { name: 'Answer' }).fill('We look into it.');
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await toasted(page, 'Answered.');
    await page.getByLabel('And then').selectOption('acted');
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await toasted(page, 'Closed.');

    await form.getByRole('link', { name: 'Back' }).click();
    await form.getByLabel('Reference').fill(reference);
    await form.getByLabel('Secret').fill(secret);
    await form.getByRole('button', { name: 'Look', exact: true }).click();
    await form.getByText('We look into it.').waitFor();
    await form.getByText('It is closed. We acted').waitFor();

    const { rows } = await database.query<{ id: string }>(
      `INSERT INTO abuse_findings (id, rule, subject, buyer_id, measured, measured_max, threshold, evidence)
     SELECT gen_random_uuid(), 'fan_out', id::text, id, 6000, 6100, 5000, '{"hosts": 6000}' FROM buyers LIMIT 1 RETURNING id`,
    );
    await go(browser, '/admin/abuse?state=open', 'Abuse');
    await page.getByRole('link', { name: 'Very many hosts' }).waitFor();
    await browser.axe(t, 'abuse');
    await browser.fitsPhone(t, 'abuse');
    await page.getByRole('link', { name: 'Very many hosts' }).click();
    await page.getByRole('heading', { level: 1, name: 'Very many hosts' }).waitFor();
    await browser.settled();
    await browser.axe(t, 'finding');
    await browser.fitsPhone(t, 'finding');
    await page.getByLabel('What becomes of it').selectOption('warn');
    await page.getByLabel('Reason').fill('the first time');
    await page.getByLabel('To the buyer').fill('Please slow down.');
    await page.getByRole('button', { name: 'Write it down' }).click();
    await toasted(page, 'Decided.');
    t.match(
      (await database.query('SELECT state, message FROM abuse_findings WHERE id = $1', [rows[0]?.id])).rows,
      [{ state: 'warned', message: 'Please slow down.' }],
    );

    await go(browser, '/admin/holds', 'Legal holds');
    await page.getByRole('button', { name: 'New hold' }).click();
    await dialogOf(page).getByLabel('Id', { exact: true }).fill(file.buyer.id);
    await dialogOf(page).getByLabel('Reason').fill('Case 1');
    await browser.axe(t, 'a new legal hold');
    await dialogOf(page).getByRole('button', { name: 'Keep their records' }).click();
    await toasted(page, 'A second admin has to confirm it.');
    await rowOf(page, 'Case 1').getByText('a second admin until').waitFor();
    await browser.axe(t, 'legal holds');
    await browser.fitsPhone(t, 'legal holds');
    await rowOf(page, 'Case 1').getByRole('button', { name: 'Lift' }).click();
    await dialogOf(page).getByLabel('Reason').fill('a mistake');
    await dialogOf(page).getByRole('button', { name: 'Ask to lift it' }).click();
    await rowOf(page, 'Case 1').getByText('a second admin to lift it').waitFor();
  },
);

step('a gateway drains: its streams end, it goes, and comes again', async (t, world) => {
  const { file, status } = world.system;
  const download = spawn(
    'curl',
    [
      ...['-s', '-o', '/dev/null', '--limit-rate', '100k', '-x', file.proxy_url],
      `${file.demo_destination_url}bytes/4000000000`,
    ],
    { stdio: 'ignore' },
  );
  t.teardown(() => download.kill('SIGKILL'));
  await eventually(
    async () => (await status()).streams,
    (streams) => streams === 1,
  );
  await go(browser, '/admin/gateways', 'Gateways');
  const gateway = rowOf(page, 'standalone');
  await gateway.getByText('serving').waitFor();
  const run = await gateway.locator('code').textContent();
  await page.getByRole('button', { name: 'Drain standalone' }).click();
  await dialogOf(page).getByRole('button', { name: 'Drain' }).click();
  await toasted(page, 'standalone drains');
  await gateway.getByText('draining').waitFor();
  await page.locator('.stat', { hasText: 'Gateways' }).getByText('1 draining').waitFor();
  await page.locator('.stat', { hasText: 'Streams' }).getByText('1', { exact: true }).waitFor();
  await browser.axe(t, 'a gateway that drains');
  await browser.shoot('admin-gateway-draining');
  t.equal(
    (await asked(`${file.demo_destination_url}bytes/1`)).slice(0, 3),
    '000',
    'takes no more connections',
  );
  download.kill('SIGKILL'); // its last stream
  // Another run, by itself.
  await eventually(
    () =>
      gateway
        .locator('code')
        .textContent({ timeout: 500 })
        .catch(() => run),
    (now) => now !== run,
  );
  await gateway.getByText('serving').waitFor();
  await page.locator('.stat', { hasText: 'Streams' }).getByText('0', { exact: true }).waitFor();
  await eventually(
    () => asked(`${file.demo_destination_url}bytes/1`),
    (answer) => answer === '200',
  );
});

step('nothing went wrong on any page', async (t) => {
  await browser.finish(t, /status of 400/); // the list that was wrong
});
