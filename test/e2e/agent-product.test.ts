/** The agent as people install it, on a real control plane and gateway: each command a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Origin } from '../../control-plane/traffic/start.js';
import type { Gateway } from '../../gateway/gateway.js';
import { compiledPath } from '../helpers/compiled.js';
import { signedIn, startWorld, type TestUser, type TestWorld } from '../helpers/control-plane.js';
import { type Destination, startTcpDestination } from '../helpers/destination.js';
import { hasProgram } from '../helpers/programs.js';
import { freePort } from '../helpers/services.js';
import { socksConnect } from '../helpers/socks-client.js';
import { worldGateway } from '../helpers/world-gateway.js';

t.setTimeout(300_000);

/** What a pause is promised to take at most. */
const AT_ONCE_MS = 1_000;
const UNTIL_MS = 60_000;

const PROGRAM = compiledPath('agent-protocol/agent/main');

let world: TestWorld;
let gateway: Gateway;
let destination: Destination;
let admin: TestUser;
let provider: TestUser;
let buyer: { account: string; password: string };
/** Of the provider's machine. */
let stateDir: string;

interface Options {
  env?: Record<string, string>;
  /** What is typed, or piped. */
  input?: string;
  /** At a terminal. */
  person?: boolean;
  stateDir?: string;
}

interface Running {
  child: ChildProcess;
  out: () => string;
  err: () => string;
  exit: Promise<number | null>;
}

function start(argv: string[], options: Options = {}): Running {
  const command = options.person
    ? ['script', '-qec', `${process.execPath} ${PROGRAM} ${argv.join(' ')}`, '/dev/null']
    : [process.execPath, PROGRAM, ...argv];
  const child = spawn(command[0] as string, command.slice(1), {
    env: {
      PATH: process.env.PATH ?? '',
      TS_STATE_DIR: options.stateDir ?? stateDir,
      TS_DEV_ALLOW: `127.0.0.1:${destination.port}`,
      TS_PAGE_PORT: '0',
      ...options.env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let [out, err] = ['', ''];
  child.stdout.on('data', (data: Buffer) => {
    out += data;
  });
  child.stderr.on('data', (data: Buffer) => {
    err += data;
  });
  child.stdin.on('error', () => {});
  if (options.input !== undefined) child.stdin.write(options.input);
  // A terminal stays open: somebody sits there
  if (!options.person) child.stdin.end();
  const exit = once(child, 'close').then(([code]) => code as number | null);
  return { child, out: () => out, err: () => err, exit };
}

/** A command to its end. */
async function run(argv: string[], options: Options = {}) {
  const running = start(argv, options);
  const code = await running.exit;
  return { code, out: running.out(), err: running.err() };
}

async function until<T>(what: string, look: () => Promise<T | null | undefined | false>): Promise<T> {
  const endMs = performance.now() + UNTIL_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > endMs) throw new Error(`${what}: not within ${UNTIL_MS} ms`);
    await delay(50);
  }
}

const account = async () => JSON.parse(await readFile(join(stateDir, 'account.json'), 'utf8'));
const status = async (options: Options = {}) => {
  const { code, out } = await run(['status', '--json'], options);
  return code === 0 ? JSON.parse(out) : null;
};

const tunnels = async () =>
  ((await (await fetch(`http://127.0.0.1:${gateway.metricsPort}/status`)).json()) as { tunnels: number })
    .tunnels;

/** An agent that shares, and its end. */
async function sharing(
  argv: string[] = [],
  options: Options = {},
): Promise<Running & { stop(): Promise<number | null> }> {
  const agent = start(argv, options);
  await until('online', async () => {
    if (agent.child.exitCode !== null) throw new Error(`ended: ${agent.err()}`);
    return (await tunnels()) > 0;
  });
  return {
    ...agent,
    stop: async () => {
      agent.child.kill('SIGTERM');
      const code = await agent.exit;
      await until('no tunnel', async () => (await tunnels()) === 0);
      return code;
    },
  };
}

async function api(method: string, path: string, token: string, body?: object) {
  const answer = await world.call(method, path, { token, ...(body && { body }) });
  if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}
const settings = (change: object) => api('PATCH', '/api/admin/settings', admin.token, change);

/** A stream through the device, as soon as a buyer gets one. */
async function open(): Promise<Socket | number | null> {
  const { socket, reply } = await socksConnect({
    proxyPort: gateway.proxyPort,
    username: buyer.account,
    password: buyer.password,
    host: '127.0.0.1',
    port: destination.port,
  });
  t.teardown(() => socket.destroy());
  if (reply === 0) return socket;
  socket.destroy();
  return reply;
}
const opened = () =>
  until('a stream', async () => {
    const got = await open();
    return typeof got === 'object' && got;
  });

t.before(async () => {
  const tunnelPort = await freePort();
  world = await startWorld(t, {
    background: true,
    env: {
      TS_TUNNEL_URL: `ws://127.0.0.1:${tunnelPort}/tunnel`,
      TS_API_REQUESTS_PER_MINUTE: '100000',
      TS_STOP_WAIT_MS: '200',
    },
  });
  destination = await startTcpDestination((socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  t.teardown(() => destination.stop());
  const devAllow = { TS_DEV_ALLOW: `127.0.0.1:${destination.port}` };
  gateway = (await worldGateway(t, world, 'gp', { TS_TUNNEL_PORT: String(tunnelPort), ...devAllow })).gateway;
  admin = await signedIn(world, 'admin');
  provider = await signedIn(world);
  const made = await api('POST', '/api/admin/buyers', admin.token, { name: 'B', kyc_status: 'approved' });
  const { token } = await api('POST', `/api/admin/buyers/${made.id}/tokens`, admin.token, {});
  await api('POST', '/api/admin/credits', admin.token, { buyer_id: made.id, amount: '10', reason: 'test' });
  await api('POST', '/api/buyer/accept_policy', token);
  buyer = { account: made.account, password: made.proxy.password };
  stateDir = await mkdtemp(join(tmpdir(), 'ts-agent-'));
  t.teardown(() => rm(stateDir, { recursive: true, force: true }));
});

t.test('login: a code from the bot, this machine a device of its owner', async (t) => {
  const nobody = await run([]);
  t.equal(nobody.code, 6, nobody.err);
  t.match(nobody.err, /traffic-share agent login/);
  const none = await Promise.all(
    [['status'], ['pause'], ['resume'], ['caps'], ['schedule', '--hours', '22-06']].map((argv) => run(argv)),
  );
  for (const { code, err } of none) {
    t.equal(code, 4);
    t.match(err, /No agent runs here/);
  }

  const wrong = await run(['login', '--api-url', world.url, '--telegram-id', `${provider.telegramId}`], {
    input: '000000\n',
  });
  t.equal(wrong.code, 6);
  t.match(wrong.err, /wrong or too old/);
  t.equal(world.codes.at(-1)?.telegramId, provider.telegramId);

  // The code comes while the command waits for it
  const before = world.codes.length;
  const signing = spawn(process.execPath, [PROGRAM, 'login', '--api-url', world.url], {
    env: { PATH: process.env.PATH ?? '', TS_STATE_DIR: stateDir },
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  signing.stdin.write(`${provider.telegramId}\n`);
  const code = await until('a code', async () => world.codes[before]?.code);
  signing.stdin.end(`${code}\n`);
  const [exit] = await once(signing, 'exit');
  t.equal(exit, 0);

  t.equal((await stat(stateDir)).mode & 0o777, 0o700);
  for (const name of ['account.json', 'device.json'])
    t.equal((await stat(join(stateDir, name))).mode & 0o777, 0o600, name);
  const { deviceId } = await account();
  const { items } = await api('GET', '/api/user/devices', provider.token);
  t.match(items, [{ device_id: deviceId, client_version: '0.1.0' }]);

  // For scripts, with a code that was asked for elsewhere; the machine stays the same device
  await world.call('POST', '/api/auth/request_login_code', { body: { telegram_id: provider.telegramId } });
  const again = await run([
    ...['login', '--api-url', world.url, '--telegram-id', `${provider.telegramId}`],
    ...['--code', world.codes.at(-1)?.code as string, '--name', 'attic'],
  ]);
  t.equal(again.code, 0, again.err);
  t.equal((await account()).deviceId, deviceId);
  t.match((await api('GET', '/api/user/devices', provider.token)).items, [{ model: 'attic' }]);
  t.notMatch(again.out + again.err, new RegExp(`${(await account()).deviceKey}|encrypted`));
  const plain = await run(['login', '--api-url', 'http://api.example', '--telegram-id', 'nobody']);
  t.match(plain.err, /Nothing is encrypted on the way to http:\/\/api\.example/);

  // A disk that was full, or somebody's editor: nothing but a login mends it, so a login must
  for (const name of ['account.json', 'device.json']) await writeFile(join(stateDir, name), '{"apiUrl":');
  const damaged = await run([]);
  t.equal(damaged.code, 1);
  t.match(damaged.err, /^\S+account\.json is damaged. Log in again: traffic-share agent login/);
  await signInAgain();
  t.match(await account(), { telegramId: provider.telegramId, deviceId: /^[0-9a-f-]{36}$/ });
});

t.test('terms: never accepted in silence', async (t) => {
  const given = async () =>
    (await world.pool.query('SELECT terms_version FROM consents WHERE user_id = $1', [provider.userId])).rows;
  const [silent, piped, old, text] = await Promise.all([
    run([]),
    run(['consent', 'accept'], { input: 'yes\n' }),
    run(['--accept-terms', '0']),
    run(['consent', '--language', 'uz']),
  ]);
  for (const { code, err } of [silent, piped]) {
    t.equal(code, 2);
    t.match(err, /not accepted on this device.*--accept-terms 1/);
  }
  t.equal(old.code, 2);
  t.match(old.err, /in force are version 1, not 0/);
  t.match(text.out, /version 1[\s\S]*IP-manzil[\s\S]*not accepted on this device/);
  t.same(await given(), []);

  if (await hasProgram(t, 'script')) {
    const refuses = await run([], { person: true, input: 'no\n' });
    t.equal(refuses.code, 2, refuses.out);
    t.match(refuses.out, /What sharing with Traffic Share means[\s\S]*nothing is shared/);
    t.same(await given(), []);
    // The terms are where the question is, not in the file that the output goes to
    const elsewhere = await run(['consent', 'accept', '>', '/dev/null'], { person: true, input: 'no\n' });
    t.match(elsewhere.out, /What sharing with Traffic Share means[\s\S]*Do you accept/);
    const accepts = await run(['consent', 'accept'], { person: true, input: 'yes\n' });
    t.equal(accepts.code, 0, accepts.out);
  } else t.equal((await run(['consent', 'accept', '--accept-terms', '1'])).code, 0);
  t.same(await given(), [{ terms_version: '1' }]);
  t.match((await account()).consent, { version: '1', withdrawn: false });
});

t.test('status, pause, resume, caps, schedule of the agent that runs', async (t) => {
  const agent = await sharing(['run', '--log-level', 'debug']);
  const first = await until('a status', async () => {
    const now = await status();
    return now?.state === 'online' && now.device !== null && now;
  });
  t.match(first, {
    version: '0.1.0',
    paused: null,
    trouble: null,
    today: { bytes: 0, cap_bytes: null },
    device: { code: 'idle', earns: false, what: /ready/, todo: /Leave it on/ },
    earnings: { today: '0.000000', available: '0.000000', currency: 'USD' },
    page: /^http:\/\/127\.0\.0\.1:\d+\/#[\w-]{32}$/,
  });
  t.match((await run(['status'])).out, /State +online since[\s\S]*Earning +no, idle: The device is ready/);
  t.equal((await stat(join(stateDir, 'agent.sock'))).mode & 0o777, 0o600);

  t.notMatch(agent.out() + agent.err(), new URL(first.page).hash, 'the key of the page is in no log');
  const second = await run([]);
  t.equal(second.code, 5, 'one agent a folder');
  t.match(second.err, /Another agent runs here/);
  const named = await run(['--api-url', world.url, '--device-id', 'another', '--key', 'tsd_x']);
  t.equal(named.code, 5, 'also one that was registered elsewhere: it would count against the same caps');

  const stream = await opened();
  stream.write('hello');
  const [hello] = (await once(stream, 'data')) as [Buffer];
  t.equal(hello.toString(), 'hello');
  t.match(await status(), { streams_open: 1, bytes_up: 5, bytes_down: 5, today: { bytes: 10 } });

  await t.test('pause: within a second nothing is shared, and it says so', async (t) => {
    const cut = new Promise((done) => stream.once('close', done));
    const paused = await run(['pause', '--json', '--for', '2h']);
    const pausedMs = performance.now();
    t.match(JSON.parse(paused.out), {
      state: 'online',
      paused: { by: 'owner', until: /^20/ },
      streams_open: 0,
    });
    t.not(typeof (await open()), 'object', 'no new stream');
    await cut;
    const tookMs = performance.now() - pausedMs;
    t.ok(tookMs < AT_ONCE_MS, `${Math.round(tookMs)} ms after the command`);
    t.match((await run(['status'])).out, /paused by you until/);
    t.match((await run(['pause', '--for', 'long'])).err, /--for must be a time such as/);
  });

  await t.test('the page on loopback steers it, for whoever has the key', (t) => walkPage(t, first.page));

  await t.test('limits hold at once', async (t) => {
    t.equal((await run(['resume'])).code, 0);
    const caps = await run(['caps', '--day', '1GB', '--month', '20GB', '--bandwidth', '2MB/s', '--json']);
    t.match(JSON.parse(caps.out).machine, {
      capBytesDay: { value: 1e9, from: 'here' },
      bandwidthBytesPerSecond: { value: 2e6, from: 'here' },
      wifiOnly: { value: false, from: 'default' },
    });
    t.match((await run(['caps'])).out, /Day +1.0 GB\nMonth +20.0 GB\nBandwidth +2.0 MB\/s\nWi-Fi only +no/);
    t.match(await status(), { today: { cap_bytes: 1e9 }, cap_bytes_left: 1e9 - 10 });
    const hour = new Date().getHours();
    await run(['schedule', '--hours', `${(hour + 2) % 24}-${(hour + 3) % 24}`]);
    t.match(await status(), { paused: { by: 'hours', until: null } });
    t.match((await run(['schedule', '--hours', 'any'])).out, /Hours +any time/);
    t.match(await status(), { paused: null });
    for (const argv of [
      ['caps', '--day', '-1'],
      ['caps', '--dai', '1GB'],
      ['caps', 'set'],
      ['schedule', '--hours', '99'],
    ])
      t.equal((await run(argv)).code, 1, argv.join(' '));
  });

  await run(['pause']);
  t.equal(await agent.stop(), 0);
  const logged = agent
    .err()
    .split('\n')
    .filter((line) => !line.includes('exempt from the address policy'));
  t.notMatch(logged.join('\n'), `${destination.port}`, 'not at any level');

  await t.test('what was set outlives the agent; options win over it, and say so', async (t) => {
    // A cap of the account over all devices, beside those of the machine
    await api('POST', '/api/user/update', provider.token, {
      settings: { cap_bytes_per_day: 5_000, wifi_only: true },
    });
    const next = await sharing(['--cap-bytes-month', '7000', '--log-destinations'], {
      env: { TS_NETWORK: 'mobile' },
    });
    t.match(await status(), {
      paused: { by: 'owner' },
      today: { bytes: 10, cap_bytes: 1e9 },
      network: 'mobile',
    });
    await run(['resume']);
    t.match(await status(), { paused: { by: 'wifi_only' }, month: { cap_bytes: 7_000 } });
    const refused = await run(['caps', '--month', '1GB']);
    t.equal(refused.code, 1);
    t.match(refused.err, /started with an option for capBytesMonth/);
    t.match(
      (await run(['caps'])).out,
      /Month +7.0 kB \(by an option.*\n.*[\s\S]*Account +\S+ kB left.*Wi-Fi only/,
    );
    t.equal(await next.stop(), 0);
    await api('POST', '/api/user/update', provider.token, {
      settings: { cap_bytes_per_day: null, wifi_only: false },
    });

    const last = await sharing(['--log-destinations']);
    (await opened()).destroy();
    await until('the destination in the log', async () => last.err().includes(`"port":${destination.port}`));
    await run(['caps', '--day', 'none', '--month', 'none', '--bandwidth', 'none']);
    t.equal(await last.stop(), 0);
  });
});

t.test('a refresh token is used once, whoever needs it', async (t) => {
  const stale = async () => {
    const now = await account();
    now.tokens.accessUntilMs = 0;
    await writeFile(join(stateDir, 'account.json'), JSON.stringify(now));
    return now;
  };
  const old = await stale();
  const all = await Promise.all([1, 2, 3].map(() => run(['consent', 'accept', '--accept-terms', '1'])));
  t.same(
    all.map(({ code }) => code),
    [0, 0, 0],
  );
  const fresh = await account();
  t.not(fresh.tokens.refresh, old.tokens.refresh);
  const revoked = async () =>
    (
      await world.pool.query(
        'SELECT count(*)::int AS n FROM logins WHERE revoked_at IS NOT NULL AND user_id = $1',
        [provider.userId],
      )
    ).rows[0].n;
  t.equal(await revoked(), 0);

  // Killed between the server's answer and the file: the old one is all there is
  await writeFile(
    join(stateDir, 'account.json'),
    JSON.stringify({ ...fresh, tokens: { ...old.tokens, accessUntilMs: 0 } }),
  );
  const lost = await run(['consent', 'withdraw']);
  t.equal(lost.code, 6);
  t.match(lost.err, /signed out .*log in again: traffic-share agent login/);
  t.match(await account(), { tokens: null, deviceKey: fresh.deviceKey });
  const agent = await sharing();
  t.match(await status(), { state: 'online' }, 'it shares on by its device key');
  t.equal(await agent.stop(), 0);
  await signInAgain();
});

/** With a code, as a script would. */
async function signInAgain(): Promise<void> {
  await world.call('POST', '/api/auth/request_login_code', { body: { telegram_id: provider.telegramId } });
  const { code, err } = await run([
    ...['login', '--telegram-id', `${provider.telegramId}`, '--api-url', world.url],
    ...['--code', world.codes.at(-1)?.code as string],
  ]);
  if (code !== 0) throw new Error(err);
}

t.test('why it may not share, each with its exit code', async (t) => {
  const refusals: [Extract<Origin, { ok: false }>['code'], number, RegExp][] = [
    ['region_not_allowed', 11, /not offered in the country/],
    ['vpn_detected', 12, /VPN/],
    ['denylisted', 13, /denylist/],
  ];
  for (const [code, exit, words] of refusals) {
    world.origins.set('127.0.0.1', { ok: false, code, rule: 'test' });
    const ended = await run([]);
    t.equal(ended.code, exit, code);
    t.match(ended.err.trim().split('\n').at(-1), words);
  }
  const patient = start(['--wait-when-refused']);
  const waiting = await until('refused', async () => {
    const now = await status();
    return now?.state === 'refused' && now;
  });
  t.match(waiting, {
    trouble: { code: 'denylisted', text: /denylist/ },
    device: { code: 'network_refused' },
  });
  t.match((await run(['status'])).out, /State +refused\nTrouble +denylisted: The address/);
  patient.child.kill('SIGTERM');
  t.equal(await patient.exit, 0);
  world.origins.delete('127.0.0.1');

  await settings({ min_client_version: '9.0.0', app_latest: '9.1.0' });
  const outdated = await run([]);
  t.equal(outdated.code, 10);
  t.match(outdated.err, /too old: at least 9.0.0 is needed, 9.1.0 is the latest/);
  await settings({ min_client_version: '0.1.0' });

  const agent = await sharing();
  t.match((await run(['status'])).out, /0.1.0; 9.1.0 is available/);
  const banning = api('POST', `/api/admin/user/${provider.userId}/ban`, admin.token, { reason: 'test' });
  t.equal(await agent.exit, 14);
  await banning;
  t.match(agent.err().trim().split('\n').at(-1), /banned/);
  t.equal((await run([])).code, 14, 'nor can it start again');
  await api('POST', `/api/admin/user/${provider.userId}/unban`, admin.token);
});

t.test('a withdrawal is final until the owner acts, whatever a unit file says', async (t) => {
  const agent = await sharing(['--accept-terms', '1']);
  const withdrawn = await run(['consent', 'withdraw']);
  t.equal(withdrawn.code, 0, withdrawn.err);
  t.equal(await agent.exit, 2);
  const restarted = await run(['--accept-terms', '1']);
  t.equal(restarted.code, 2);
  t.match(restarted.err, /withdrawn, so --accept-terms does not count/);
  t.equal((await run(['consent', 'accept', '--accept-terms', '1'])).code, 0);

  // In the app: the agent learns it at its next start
  await api('DELETE', '/api/user/consent', provider.token);
  const elsewhere = await run(['--accept-terms', '1']);
  t.equal(elsewhere.code, 2);
  t.match(elsewhere.err, /not accepted.*consent accept/);
  t.equal((await run(['--accept-terms', '1'])).code, 2);

  await settings({ terms_version: '2' });
  const changed = await run(['--accept-terms', '1']);
  t.equal(changed.code, 2);
  t.match(changed.err, /in force are version 2, not 1/);
  const accepted = await sharing(['--accept-terms', '2']);
  t.match((await account()).consent, { version: '2', withdrawn: false });
  t.equal(await accepted.stop(), 0);
});

t.test('a device that was removed says so; logout removes it', async (t) => {
  const { deviceId } = await account();
  const agent = await sharing();
  await api('DELETE', `/api/user/devices/${deviceId}`, provider.token);
  t.equal(await agent.exit, 15);
  t.match(agent.err().trim().split('\n').at(-1), /removed from the account.*traffic-share agent login/);
  t.equal((await run([])).code, 15);
  await signInAgain();
  t.equal((await account()).deviceId, deviceId);
  const { deviceKey } = await account();
  const out = await run(['logout']);
  t.equal(out.code, 0, out.err);
  t.match((await api('GET', '/api/user/devices', provider.token)).items, []);
  t.notMatch(await readFile(join(stateDir, 'account.json'), 'utf8'), deviceKey);
  t.equal((await run([])).code, 6);
  t.equal((await run(['logout'])).code, 6);
});

interface PageAnswer {
  status: number;
  headers: Record<string, unknown>;
  text: string;
}

/** One request to the page; of events only the first. */
function ask(
  port: string,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<PageAnswer> {
  return new Promise((done, fail) => {
    const { method = 'GET', headers = {}, body } = options;
    const outgoing = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      let text = '';
      const finish = () => done({ status: response.statusCode ?? 0, headers: response.headers, text });
      response.on('data', (data: Buffer) => {
        text += data;
        if (!path.startsWith('/events') || !text.includes('\n\n')) return;
        finish();
        outgoing.destroy();
      });
      response.on('end', finish);
      response.on('error', () => {});
    });
    outgoing.on('error', fail);
    outgoing.end(body);
  });
}

async function walkPage(t: Test, page: string): Promise<void> {
  const { port, hash } = new URL(page);
  const key = { authorization: `Bearer ${hash.slice(1)}` };
  const json = { ...key, 'content-type': 'application/json' };
  const html = await ask(port, '/');
  t.equal(html.status, 200);
  t.match(html.headers['content-security-policy'], /^default-src 'none'; script-src 'self'/);
  t.notMatch(html.text, /<script>|style=|https?:/, 'nothing inline, nothing from elsewhere');
  for (const [, path] of html.text.matchAll(/(?:src|href)="([^"]+)"/g))
    t.equal((await ask(port, path as string)).status, 200, `${path}`);

  const events = await ask(port, '/events', { headers: key });
  t.match(JSON.parse(events.text.slice(6)), { paused: { by: 'owner' }, page: null });
  t.equal((await ask(port, '/resume', { method: 'POST', headers: json, body: '{}' })).status, 200);
  t.match(await status(), { paused: null });
  t.equal(
    (await ask(port, '/pause', { method: 'POST', headers: json, body: '{"for_ms":5000}' })).status,
    200,
  );
  t.match(await status(), { paused: { by: 'owner', until: /^20/ } });

  const resume = (headers: Record<string, string>, body = '{}') =>
    ask(port, '/resume', { method: 'POST', headers, body });
  const refused: [string, Promise<PageAnswer>, number][] = [
    ['without the key', resume({ 'content-type': 'application/json' }), 401],
    ['with another key', resume({ ...json, authorization: 'Bearer x' }), 401],
    ['as a form', resume({ ...key, 'content-type': 'text/plain' }), 415],
    ['from another page', resume({ ...json, origin: 'http://evil.example' }), 403],
    ['by another name (rebinding)', resume({ ...json, host: `evil.example:${port}` }), 421],
    ['the page by another name', ask(port, '/', { headers: { host: 'evil.example' } }), 421],
    ['no JSON', resume(json, '{'), 400],
    [
      'a pause without end',
      ask(port, '/pause', { method: 'POST', headers: json, body: '{"for_ms":-1}' }),
      400,
    ],
    ['something else', ask(port, '/limits', { headers: key }), 404],
  ];
  for (const [what, answer, code] of refused) t.equal((await answer).status, code, what);
  t.match(await status(), { paused: { by: 'owner' } }, 'none of them did anything');
}
