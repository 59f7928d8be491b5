/** Reports of abuse: from anybody, by JSON and by a page without script; to whose traffic it was; answered; forgotten; counted. */
import t, { type Test } from 'tap';
import { forgetOldAbuse } from '../../../control-plane/abuse/forget.js';
import { readTransparency, TRANSPARENCY_COLUMNS } from '../../../control-plane/abuse/transparency.js';
import { signedIn, startWorld, type TestUser, type TestWorld } from '../../helpers/control-plane.js';
import { addBuyer, addSession, addUser, type TestSession } from '../../helpers/money-world.js';
import { TestRun, usage } from '../usage/world.js';

const PER_ADDRESS = 3;
const EXIT = '198.51.100.77';
const HOUR_MS = 3_600_000;

let world: TestWorld;
let admin: TestUser;
let session: TestSession;
let addresses = 0;
/** Somebody new each time. */
const newAddress = () => `203.0.113.${++addresses}`;

const report = (fields: object = {}) => ({
  exit_ip: EXIT,
  happened_at: new Date(Date.now() - 600_000).toISOString(),
  description: 'Many failed logins to our shop.',
  ...fields,
});
const send = (body: object, from = newAddress()) => world.call('POST', '/api/abuse_reports', { body, from });
const status = (body: object) =>
  world.call('POST', '/api/abuse_reports/status', { body, from: newAddress() });
const asAdmin = (method: string, path: string, body?: object) =>
  world.call(method, `/api/admin/abuse/${path}`, { token: admin.token, ...(body && { body }) });
/** As a browser sends a form. */
const submit = (path: string, fields: Record<string, string>, from = newAddress()) =>
  world.call('POST', path, {
    body: new URLSearchParams(fields).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    from,
  });
const reports = async () =>
  (await world.pool.query<{ n: number }>('SELECT count(*)::int AS n FROM abuse_reports')).rows[0]?.n ?? 0;
async function idOf(reference: string): Promise<string> {
  const { rows } = await world.pool.query<{ id: string }>(
    'SELECT id FROM abuse_reports WHERE reference = $1',
    [reference],
  );
  return rows[0]?.id as string;
}

t.before(async () => {
  world = await startWorld(t, {
    env: { TS_ABUSE_REPORTS_PER_IP_PER_HOUR: String(PER_ADDRESS), TS_ABUSE_REPORTS_PER_HOUR: '40' },
  });
  admin = await signedIn(world, 'admin');
  session = await addSession(world.pool, await addUser(world.pool), { exitIp: EXIT });
});

t.test('anybody reports, and sees the answer with reference and secret alone', async (t) => {
  const { status: made, body } = await send(
    report({ contact: 'a@example.com', destination: 'Shop.Example' }),
  );
  t.equal(made, 201);
  t.match(body, { reference: /^AR-\w{8}$/, secret: /^\w{24}$/ });
  const { rows } = await world.pool.query('SELECT * FROM abuse_reports WHERE reference = $1', [
    body.reference,
  ]);
  t.notMatch(JSON.stringify(rows), new RegExp(body.secret), 'the secret is kept as a hash');
  const mine = { reference: body.reference, secret: body.secret };
  t.strictSame((await status(mine)).body, {
    reference: body.reference,
    state: 'open',
    outcome: null,
    answer: null,
    received_at: body.received_at,
    answered_at: null,
  });
  for (const wrong of [
    { ...mine, secret: 'x'.repeat(24) },
    { ...mine, reference: 'AR-00000000' },
  ])
    t.match(await status(wrong), { status: 404, body: { code: 'not_found' } });
  for (const bad of [
    { exit_ip: '198.51.100' },
    { happened_at: 'yesterday' },
    { happened_at: new Date(Date.now() + 48 * HOUR_MS).toISOString() },
    { description: 'too short' },
    { port: 0 },
    { surprise: 1 },
  ])
    t.match(
      await send(report(bad)),
      { status: 400, body: { code: 'validation_failed' } },
      JSON.stringify(bad),
    );
  t.match(await send(report({ description: 'x'.repeat(20_000) })), { status: 413 });

  const id = await idOf(body.reference);
  t.match(await asAdmin('POST', `reports/${id}/answer`, { answer: 'We look into it.' }), {
    status: 200,
    body: { state: 'answered', answered_by: admin.userId },
  });
  t.match((await status(mine)).body, { state: 'answered', answer: 'We look into it.' });
  t.match(await asAdmin('POST', `reports/${id}/answer`, {}), { status: 400 });
  t.match(await asAdmin('POST', `reports/${id}/answer`, { outcome: 'acted' }), {
    status: 200,
    body: { state: 'closed', outcome: 'acted', answer: 'We look into it.' },
  });
  for (const [path, more] of [
    ['answer', { answer: 'x' }],
    ['link', { finding_id: null }],
  ] as const)
    t.match(await asAdmin('POST', `reports/${id}/${path}`, more), {
      status: 409,
      body: { code: 'report_closed' },
    });
});

t.test(
  'one address, and an IPv6 network, may send so many in an hour; the status so many, too',
  async (t) => {
    for (const [first, same, other] of [
      ['192.0.2.1', '192.0.2.1', '192.0.2.2'],
      ['2001:db8:0:1::1', '2001:db8:0:1:ffff::2', '2001:db8:0:2::1'],
    ] as const) {
      for (let n = 0; n < PER_ADDRESS; n++) t.equal((await send(report(), first)).status, 201);
      const before = await reports();
      const refused = await send(report(), same);
      t.match(refused, { status: 429, body: { code: 'rate_limited' } });
      t.ok(Number(refused.headers.get('retry-after')) > 60);
      const byPage = await submit('/abuse', { exit_ip: EXIT }, same);
      t.equal(byPage.status, 429, 'by the page as well');
      t.match(
        byPage.body,
        /role="alert">That was often in a short time. Please try again later/,
        'as a page',
      );
      t.match(byPage.headers.get('content-type'), /^text\/html/);
      t.equal(await reports(), before);
      t.equal((await send(report(), other)).status, 201);
    }
  },
);

t.test('the page works without script, keeps what was filled in, and takes nothing for markup', async (t) => {
  const shown = await world.call('GET', '/abuse');
  t.equal(shown.status, 200);
  t.match(shown.headers.get('content-type'), /^text\/html/);
  t.match(shown.headers.get('content-security-policy'), /default-src 'none'.*form-action 'self'/);
  t.notMatch(shown.body, /<script/i);
  t.match(shown.body, /width=device-width/);

  const evil = '"><script>alert(1)</script>';
  const bad = await submit('/abuse', { exit_ip: evil, happened_at: '', description: `${evil} ten more` });
  t.equal(bad.status, 400);
  t.notMatch(bad.body, /<script/i);
  t.match(bad.body, /&quot;&gt;&lt;script&gt;/, 'what was filled in is there still');
  t.match(bad.body, /role="alert"/);
  t.match(bad.body, /id="happened_at-error">This is required.</);
  for (const fields of [
    { description: `${'x'.repeat(20)}\0` },
    { port: 'https' },
    { port: '70000' },
  ] as Record<string, string>[])
    t.equal(
      (
        await submit('/abuse', {
          exit_ip: EXIT,
          happened_at: '2026-11-01T10:00',
          description: 'x'.repeat(20),
          ...fields,
        })
      ).status,
      400,
      JSON.stringify(fields),
    );

  const russian = await world.call('GET', '/abuse?lang=ru');
  t.match(russian.body, /<html lang="ru">/);
  t.match(russian.body, /<input type="hidden" name="lang" value="ru">/, 'and stays so');
  const wrong = await submit('/abuse', { exit_ip: 'x', happened_at: '', description: '', lang: 'ru' });
  t.match(wrong.body, /id="exit_ip-error">Это не адрес IPv4 или IPv6\.</);
  const asked = await fetch(`${world.url}/abuse`, { headers: { 'accept-language': 'uz-UZ,uz;q=0.9' } });
  t.match(await asked.text(), /<html lang="uz">/, 'as the browser asks');
  t.match((await world.call('GET', '/abuse?lang=%22%3E')).body, /<html lang="en">/);

  const good = {
    exit_ip: ` ${EXIT} `,
    happened_at: '2026-11-01T10:05',
    port: '443',
    destination: '',
    contact: '',
  };
  const before = await reports();
  const trapped = await submit('/abuse', {
    ...good,
    description: 'Buy our things, now!',
    website: 'http://spam.example',
  });
  t.match(trapped.body, /Thank you/);
  t.equal(await reports(), before, 'what fills the trap is not kept');
  const taken = await submit('/abuse', { ...good, description: 'First line\r\nsecond' });
  t.equal(taken.status, 201);
  const given = (name: string) => new RegExp(`id="given-${name}">([^<]+)<`).exec(taken.body)?.[1] as string;
  const [reference, secret] = [given('reference'), given('secret')];
  const id = await idOf(reference);
  t.match((await asAdmin('GET', `reports/${id}`)).body, {
    exit_ip: EXIT,
    happened_at: '2026-11-01T10:05:00.000Z',
    port: 443,
    destination: null,
    contact: null,
    description: 'First line\nsecond',
  });
  await asAdmin('POST', `reports/${id}/answer`, { answer: '<b>bold</b>\nno', outcome: 'no_abuse' });
  const answered = await submit('/abuse/status', { reference: ` ${reference}`, secret });
  t.match(answered.body, /&lt;b&gt;bold&lt;\/b&gt;<br>no/);
  t.equal((await submit('/abuse/status', { reference, secret: 'x' })).status, 404);
  t.equal(
    (await world.call('POST', '/abuse', { body: { exit_ip: EXIT }, from: newAddress() })).status,
    400,
    'JSON is no form',
  );
});

t.test(
  'whose traffic it was: by exit address, time and destination; linked to a finding of the buyer',
  async (t: Test) => {
    const [buyer, other] = await Promise.all([addBuyer(world.pool), addBuyer(world.pool)]);
    const elsewhere = await addSession(world.pool, await addUser(world.pool));
    const atMs = Date.now() - 600_000;
    const times = { firstAtMs: atMs, lastAtMs: atMs };
    const of = (buyerId: string, sessionId: string, fields: object) =>
      usage({ buyerId, sessionId, ...times, ...fields });
    const late = Date.now() - 3 * HOUR_MS;
    await new TestRun(world.redis).deliver([
      of(buyer, session.sessionId, { host: 'shop.example' }),
      of(other, session.sessionId, { host: 'cat.example' }),
      of(other, elsewhere.sessionId, { host: 'shop.example' }),
      of(other, session.sessionId, { host: 'shop.example', firstAtMs: late, lastAtMs: late }),
    ]);
    await world.services.usage.runOnce();
    const { body } = await send(
      report({ happened_at: new Date(atMs + 60_000).toISOString(), destination: 'Shop.example' }),
    );
    const id = await idOf(body.reference);
    const streams = async (query: string) => {
      const answer = await asAdmin('GET', `reports/${id}/streams?${query}`);
      return answer.body.items
        .map((row: { buyer_id: string; host: string }) => [row.buyer_id, row.host])
        .sort();
    };
    t.same(
      await streams(''),
      [
        [buyer, 'shop.example'],
        [other, 'cat.example'],
      ].sort(),
      'at that time, from that address',
    );
    t.same(await streams('destination=true'), [[buyer, 'shop.example']]);
    t.same((await streams('minutes=1440')).length, 3);
    const audit = await world.call(
      'GET',
      `/api/admin/audit/search?object_type=abuse_report&object_id=${id}&action=destinations_searched`,
      { token: admin.token },
    );
    t.equal(audit.body.items.length, 3, 'each look is in the audit log');

    const linked = await asAdmin('POST', `reports/${id}/link`, { buyer_id: buyer });
    t.equal(linked.status, 200);
    const finding = linked.body.finding_id;
    t.match((await asAdmin('GET', `findings/${finding}`)).body, {
      rule: 'reported',
      state: 'open',
      buyer_id: buyer,
      evidence: { report: body.reference },
    });
    const second = await idOf((await send(report())).body.reference);
    t.equal(
      (await asAdmin('POST', `reports/${second}/link`, { buyer_id: buyer })).body.finding_id,
      finding,
      'one finding a buyer',
    );
    t.same((await asAdmin('GET', `reports?finding_id=${finding}`)).body.items.length, 2);
    t.equal((await asAdmin('POST', `reports/${second}/link`, { finding_id: null })).body.finding_id, null);
    t.match(await asAdmin('POST', `reports/${second}/link`, { finding_id: id }), { status: 404 });
    t.match(
      await asAdmin('POST', `findings/${finding}/decide`, { decision: 'suspend', reason: 'reported' }),
      { status: 200 },
    );
    await asAdmin('POST', `reports/${id}/answer`, {
      answer: 'The account has been suspended.',
      outcome: 'acted',
    });

    const seen = await status({ reference: body.reference, secret: body.secret });
    const text = JSON.stringify(seen.body);
    for (const secret of [buyer, session.userId, session.sessionId, session.deviceId, finding, admin.userId])
      t.notMatch(text, new RegExp(secret), 'nobody is named to the reporter');
  },
);

t.test('figures of the quarter, and what is over is forgotten without changing them', async (t) => {
  const call = (path: string) => world.call('GET', path, { token: admin.token });
  const before = await readTransparency(world.pool, 3);
  t.equal(before.length, 3);
  const now = before[2] as NonNullable<(typeof before)[0]>;
  const month = new Date().getUTCMonth();
  t.equal(now.quarter, `${new Date().getUTCFullYear()}-Q${Math.floor(month / 3) + 1}`);
  t.equal(now.reports_received, await reports());
  t.match(now, {
    reports_answered: 3,
    reports_closed: 3,
    reports_acted: 2,
    reports_no_abuse: 1,
    reports_spam: 0,
    findings_opened: 1,
    findings_reported: 1,
    findings_suspended: 1,
    buyers_suspended: 1,
    buyers_suspended_automatically: 0,
    legal_holds_asked: 0,
    legal_holds_in_force: 0,
  });
  t.ok(now.answer_hours_median !== null && now.answer_hours_median >= 0 && now.answer_hours_median < 1);
  t.match(before[0], { reports_received: 0, answer_hours_median: null });
  t.same((await call('/api/admin/transparency?quarters=3')).body.quarters, before);
  const csv = String((await call('/api/admin/export/transparency?quarters=3')).body).split('\r\n');
  t.equal(csv[0], TRANSPARENCY_COLUMNS.join(','));
  t.equal(csv[3]?.split(',')[0], now.quarter);
  t.equal(csv.length, 5);

  const texts = async () =>
    (
      await world.pool.query<{ all: string }>(
        'SELECT (SELECT json_agg(r)::text FROM abuse_reports r) || (SELECT json_agg(f)::text FROM abuse_findings f) AS all',
      )
    ).rows[0]?.all as string;
  t.equal(await forgetOldAbuse(world.pool, 1), 0, 'not before their time');
  const { rows } = await world.pool.query<{ buyer_id: string }>('SELECT buyer_id FROM abuse_findings');
  const held = await world.call('POST', '/api/admin/legal_holds', {
    token: admin.token,
    body: { buyer_id: rows[0]?.buyer_id, reason: 'Case 3' },
  });
  t.equal(
    await forgetOldAbuse(world.pool, 0),
    2,
    'the two reports that are not about who is under a legal hold',
  );
  t.match(await texts(), /The account has been suspended/);
  const second = await signedIn(world, 'admin');
  for (const token of [admin.token, second.token])
    await world.call('POST', `/api/admin/legal_holds/${held.body.id}/lift`, {
      token,
      body: { reason: 'over' },
    });
  t.equal(await forgetOldAbuse(world.pool, 0), 2, 'its report and finding');
  const left = await texts();
  for (const gone of [
    'The account has been suspended',
    'First line',
    'a@example.com',
    rows[0]?.buyer_id as string,
  ])
    t.notOk(left.includes(gone), `${gone} is gone`);
  const [, , after] = await readTransparency(world.pool, 3);
  t.same(after, { ...now, legal_holds_asked: 1, legal_holds_lifted: 1 });
});
