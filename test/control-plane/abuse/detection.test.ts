/**
 * From connections at a real gateway to findings: what a buyer scans is counted there, booked, judged and acted on, on open
 * streams within a second; and what admins decide.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { DialCode } from '../../../agent-protocol/frame.js';
import { type DetectionSettings, detect } from '../../../control-plane/abuse/detection.js';
import { detectionSettingsOf } from '../../../control-plane/abuse/settings.js';
import { forgetOldActivity } from '../../../control-plane/usage/activity.js';
import type { Gateway } from '../../../gateway/gateway.js';
import { signedIn, startWorld, type TestUser, type TestWorld } from '../../helpers/control-plane.js';
import { addSession, addUser } from '../../helpers/money-world.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { sharingProvider, worldGateway } from '../../helpers/world-gateway.js';
import { TestRun, usage } from '../usage/world.js';

/** What an admin is promised of every change. */
const LIVE_WITHIN_MS = 1_000;
const SCAN = 30;

interface Buyer {
  id: string;
  account: string;
  password: string;
  token: string;
}

let world: TestWorld;
let admin: TestUser;
let gateway: Gateway;
let settings: DetectionSettings;
/** What admins were sent. */
const told: string[] = [];

async function api(method: string, path: string, body?: object, token = admin.token) {
  const answer = await world.call(method, path, { token, ...(body && { body }) });
  if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

async function newBuyer(limits: object = {}): Promise<Buyer> {
  const made = await api('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved', limits });
  const { token } = await api('POST', `/api/admin/buyers/${made.id}/tokens`, {});
  await api('POST', '/api/admin/credits', { buyer_id: made.id, amount: '10', reason: 'test' });
  await api('POST', '/api/buyer/accept_policy', undefined, token);
  return { id: made.id, account: made.account, password: made.proxy.password, token };
}

/** One connection: the SOCKS reply. Left open when it is 0. */
const connect = ({ account, password }: Buyer, host: string, port = 443) =>
  socksConnect({ proxyPort: gateway.proxyPort, username: account, password, host, port });

/** Waits until the gateway's counts of the buyer are booked. */
async function untilBooked(buyerId: string, refusals: number, streams: number): Promise<void> {
  let seen: unknown;
  for (let tries = 0; tries < 400; tries++) {
    await world.services.usage.runOnce();
    const { rows } = await world.pool.query(
      `SELECT (SELECT coalesce(sum(refusals), 0)::int FROM buyer_refusals WHERE buyer_id = $1 AND code <> 'RATE_LIMIT') AS refusals,
              (SELECT coalesce(sum(streams), 0)::int FROM buyer_activity WHERE buyer_id = $1) AS streams`,
      [buyerId],
    );
    seen = rows[0];
    if (rows[0].refusals === refusals && rows[0].streams === streams) return;
    await delay(25);
  }
  throw new Error(`never ${refusals} refusals and ${streams} streams, but ${JSON.stringify(seen)}`);
}

const look = (more: Partial<DetectionSettings> = {}) =>
  detect({ pool: world.pool, live: world.services.live, settings: { ...settings, ...more } });
const findings = async (query: string) => (await api('GET', `/api/admin/abuse/findings?${query}`)).items;
const decide = (id: string, body: object) =>
  world.call('POST', `/api/admin/abuse/findings/${id}/decide`, { token: admin.token, body });

t.before(async () => {
  world = await startWorld(t, {
    background: true,
    telegram: {
      push: (message) => {
        told.push(message.text);
        message.onDelivery?.('sent');
      },
      withdraw: () => false,
    },
    env: {
      TS_API_REQUESTS_PER_MINUTE: '100000',
      TS_ABUSE_FAN_OUT_HOSTS_MIN: '40',
      TS_ABUSE_FAILED_DIALS_MIN: '20',
      TS_ABUSE_FAILED_TARGETS_MIN: '15',
      TS_ABUSE_BLOCKED_ATTEMPTS_MIN: '20',
      TS_ABUSE_TARGET_STREAMS_MIN: '1000',
      TS_ABUSE_TARGET_DEVICES_MIN: '4',
      TS_ABUSE_TARGET_BUYERS_MIN: '3',
      TS_ABUSE_THROTTLE_CONNECTIONS_PER_SECOND: '1',
    },
  });
  settings = detectionSettingsOf(world.config);
  admin = await signedIn(world, 'admin');
  gateway = (await worldGateway(t, world, 'ga', { TS_USAGE_DELIVERY_INTERVAL_MS: '20' })).gateway;
  for (let i = 0; i < 2; i++) {
    const provider = await sharingProvider(world);
    const device = await PlainDevice.connect(gateway.tunnelPort, (await provider.start()).ticket);
    t.teardown(() => device.socket.terminate());
    await device.greet();
    device.echo(Buffer.from('hello'), ({ host }) => (host.startsWith('open') ? 0 : DialCode.REFUSED));
  }
  const first = await newBuyer();
  for (let tries = 0; tries < 200; tries++) {
    const { reply, socket } = await connect(first, 'open.example.com');
    socket.destroy();
    if (reply === 0) return;
    await delay(25);
  }
  throw new Error('no device ever served');
});

t.test(
  'who scans is found, suspended when the settings say so, and its open streams are cut in a second',
  async (t) => {
    const buyer = await newBuyer();
    const open = await connect(buyer, 'open.example.com');
    t.equal(open.reply, 0);
    t.teardown(() => open.socket.destroy());
    for (let n = 0; n < SCAN; n++) {
      const { reply, socket } = await connect(buyer, `host${n}.example.com`);
      socket.destroy();
      t.equal(reply, 5, 'refused by the destination');
    }
    await untilBooked(buyer.id, SCAN, 1);
    t.same(await findings(`buyer_id=${buyer.id}`), []);
    t.match(await look(), { opened: 1, suspended: 0, throttled: 0 }, 'by default a finding only warns');
    t.match(await api('GET', `/api/admin/buyers/${buyer.id}`), { status: 'active' });
    const [finding] = await findings(`buyer_id=${buyer.id}&state=open`);
    t.match(finding, {
      rule: 'failed_dials',
      state: 'open',
      buyer_account: buyer.account,
      measured: SCAN,
      threshold: 20,
      seen: 1,
      automatic: null,
      evidence: { connections: 1, failed: SCAN, by_code: { REFUSED: SCAN } },
    });
    const { failed_targets: targets, samples } = finding.evidence;
    t.ok(Math.abs(targets - SCAN) <= 8, `about ${SCAN} targets: ${targets}`);
    t.same(
      samples,
      [0, 1, 2, 3, 4].map((n) => `host${n}.example.com:443`),
    );
    t.match(await look(), { opened: 0 }, 'one finding while it goes on');
    t.match(await api('GET', `/api/admin/abuse/findings/${finding.id}`), { seen: 2, measured_max: SCAN });

    t.match(await decide(finding.id, { decision: 'dismiss', reason: 'a test' }), {
      status: 200,
      body: { state: 'dismissed', reason: 'a test', decided_by: admin.userId },
    });
    t.match(await decide(finding.id, { decision: 'suspend', reason: 'x' }), {
      status: 409,
      body: { code: 'finding_decided' },
    });
    t.match(await look(), { suspicions: 1, opened: 0 }, 'quiet after a decision');

    const cut = new Promise<number>((done) => open.socket.once('close', () => done(performance.now())));
    const startMs = performance.now();
    t.match(await look({ quietHours: 0, suspendRules: ['failed_dials'] }), { opened: 1, suspended: 1 });
    const atMs = await Promise.race([cut, delay(5_000, Number.POSITIVE_INFINITY)]);
    t.ok(
      atMs - startMs < LIVE_WITHIN_MS,
      `cut after ${Math.round(atMs - startMs)} ms, from the look's beginning`,
    );
    t.equal((await connect(buyer, 'open.example.com')).reply, null, 'and none is opened');
    const [again] = await findings(`buyer_id=${buyer.id}&state=open`);
    t.match(again, { automatic: 'suspended' });
    const audit = await api(
      'GET',
      `/api/admin/audit/search?object_type=buyer&object_id=${buyer.id}&action=abuse_buyer_suspended`,
    );
    t.match(audit.items, [{ actor_role: 'system', after: { rule: 'failed_dials', finding_id: again.id } }]);

    t.equal((await decide(again.id, { decision: 'dismiss', reason: 'their own hosts' })).status, 200);
    t.match(await api('GET', `/api/admin/buyers/${buyer.id}`), { status: 'active' }, 'taken back');
  },
);

t.test('denied ports, throttling and a warning', async (t) => {
  const buyer = await newBuyer({ connections_per_second_max: 400 });
  for (let n = 0; n < SCAN; n++) (await connect(buyer, `host${n}.example.com`, 25)).socket.destroy();
  await untilBooked(buyer.id, SCAN, 0);
  t.match(await look({ throttleRules: ['blocked_targets'] }), { opened: 1, throttled: 1 });
  const limit = async () =>
    (await api('GET', `/api/admin/buyers/${buyer.id}`)).limits.connections_per_second_max;
  t.equal(await limit(), 1);
  const [finding] = await findings(`buyer_id=${buyer.id}&rule=blocked_targets`);
  t.match(finding, {
    automatic: 'throttled',
    measured: SCAN,
    evidence: { blocked: SCAN, samples: ['host0.example.com:25'] },
  });
  t.match(await decide(finding.id, { decision: 'keep_open', reason: 'asked them' }), {
    status: 200,
    body: { state: 'open' },
  });
  t.equal(await limit(), 1);
  t.match(
    await decide(finding.id, { decision: 'warn', reason: 'x' }),
    { status: 400 },
    'says nothing to the buyer',
  );
  t.match(await decide(finding.id, { decision: 'dismiss', reason: 'x', message: 'y' }), { status: 400 });
  const key = { 'idempotency-key': randomUUID() };
  const warn = () =>
    world.call('POST', `/api/admin/abuse/findings/${finding.id}/decide`, {
      token: admin.token,
      headers: key,
      body: { decision: 'warn', reason: 'first time', message: 'No mail ports, please.' },
    });
  t.match(await warn(), { status: 200, body: { state: 'warned', message: 'No mail ports, please.' } });
  t.match(await warn(), { status: 200, body: { state: 'warned' } }, 'sent again it is the same decision');
  t.equal(await limit(), 400, 'what was before');
  const { items } = await api('GET', '/api/buyer/me/warnings', undefined, buyer.token);
  t.same(
    items.map(({ kind, message }: { kind: string; message: string | null }) => `${kind}: ${message}`).sort(),
    ['lifted: null', 'throttled: null', 'warned: No mail ports, please.'],
    'and each thing that was done',
  );
  t.equal(items.at(-1).kind, 'throttled', 'latest first');
  t.same((await api('GET', '/api/buyer/me/warnings', undefined, (await newBuyer()).token)).items, []);
});

/** Booked without a gateway: more devices and buyers than a test should start. */
t.test('many hosts, and one host by many devices or buyers', async (t: Test) => {
  const [scraper, stuffer, ...flooders] = await Promise.all([1, 2, 3, 4, 5].map(() => newBuyer()));
  const sessions = await Promise.all(
    [0, 1, 2, 3].map(async () => (await addSession(world.pool, await addUser(world.pool))).sessionId),
  );
  const run = new TestRun(world.redis);
  const of = (buyer: Buyer | undefined, nth: number, fields: object) =>
    usage({ sessionId: sessions[nth] as string, buyerId: buyer?.id as string, ...fields });
  await run.deliver(Array.from({ length: 80 }, (_, n) => of(scraper, n % 4, { host: `h${n}.example.org` })));
  await run.deliver(
    [0, 1, 2, 3].map((n) => of(stuffer, n, { host: 'login.example.org', streams: 400, bytesUp: 400_000 })),
  );
  await run.deliver(flooders.map((buyer) => of(buyer, 0, { host: 'victim.example.org', streams: 400 })));
  // Much is fetched from here: no attack.
  await run.deliver(
    [0, 1, 2, 3].map((n) => of(stuffer, n, { host: 'cdn.example.org', streams: 400, bytesDown: 4e8 })),
  );
  await world.services.usage.runOnce();
  await look();
  const found = (await findings('state=open')).map(
    (f: { rule: string; buyer_id: string | null; host: string | null; measured: number }) => [
      f.rule,
      f.buyer_id,
      f.host,
    ],
  );
  t.same(found.sort(), [
    ['fan_out', scraper?.id, null],
    ['target_by_buyers', null, 'victim.example.org'],
    ['target_by_devices', stuffer?.id, 'login.example.org'],
  ]);
  const [flood] = await findings('rule=target_by_buyers');
  t.match(flood, { evidence: { buyers: 3, connections: 1_200 } });
  t.same([...flood.evidence.buyer_ids].sort(), flooders.map(({ id }) => id).sort());
  t.match(await decide(flood.id, { decision: 'suspend', reason: 'x' }), {
    status: 422,
    body: { code: 'finding_without_buyer' },
  });
  const [stuffing] = await findings('rule=target_by_devices');
  t.match(stuffing, { measured: 1_600, evidence: { devices: 4 } });
  t.match(await decide(stuffing.id, { decision: 'suspend', reason: 'guesses passwords' }), {
    status: 200,
    body: { state: 'suspended' },
  });
  t.match(await api('GET', `/api/admin/buyers/${stuffer?.id}`), { status: 'suspended' });

  await t.test('pages', async (t) => {
    const first = await api('GET', '/api/admin/abuse/findings?limit=2');
    const rest = await api('GET', `/api/admin/abuse/findings?limit=200&cursor=${first.next_cursor}`);
    const ids = [...first.items, ...rest.items].map(({ id }: { id: string }) => id);
    t.same([...ids].sort(), (await findings('limit=200')).map(({ id }: { id: string }) => id).sort());
    t.equal(new Set(ids).size, ids.length);
  });

  await t.test('admins are warned of what is open, once, and told when it is over', async (t) => {
    const alerts = async () =>
      (
        await world.pool.query<{ key: string }>(
          "SELECT key FROM admin_alerts WHERE key LIKE 'abuse%' ORDER BY key",
        )
      ).rows.map(({ key }) => key);
    await world.services.alerts.runOnce();
    const open: { id: string }[] = await findings('state=open');
    t.equal(open.length, 2);
    t.same(await alerts(), open.map(({ id }) => `abuse_finding:${id}`).sort());
    const ofFanOut = () => told.filter((text) => text.includes('fan_out'));
    t.equal(ofFanOut().length, 1);
    t.match(ofFanOut()[0], scraper?.account);
    await world.services.alerts.runOnce();
    t.equal(ofFanOut().length, 1, 'once');
    for (const { id } of open) await decide(id, { decision: 'dismiss', reason: 'x' });
    await world.services.alerts.runOnce();
    t.same(await alerts(), []);
    t.equal(ofFanOut().length, 2, 'over');
  });

  await t.test('what buyers did is forgotten after a week', async (t) => {
    t.equal(await forgetOldActivity(world.pool), 0);
    await world.pool.query(
      "UPDATE buyer_activity SET hour = hour - interval '169 hours' WHERE buyer_id = $1",
      [scraper?.id],
    );
    t.equal(await forgetOldActivity(world.pool), 1);
  });
});
