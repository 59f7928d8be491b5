/** Every row of PROXY.md, "Errors", provoked at a running gateway, and what each kind of client is told. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { type Agent, startAgent } from '../../../agent-protocol/agent/agent.js';
import { agentConfig } from '../../../agent-protocol/agent/config.js';
import { silentAgentLog } from '../../../agent-protocol/agent/log.js';
import { DialCode } from '../../../agent-protocol/frame.js';
import { type ProxyErrorCode, proxyErrors } from '../../../gateway/errors.js';
import type { AccountSnapshot } from '../../../gateway/live/records.js';
import { writeAccount, writeLiveSettings } from '../../../gateway/live/store.js';
import { FLEET_ENV, type FleetDevice, joinFleet, NETWORKS } from '../../helpers/fleet.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { hasProgram, runProgram } from '../../helpers/programs.js';
import { askRaw, basic, type RawAnswer, readAnswer } from '../../helpers/raw-http.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { fundsKey } from '../../helpers/wallet-bank.js';
import { contractOf, errorContract } from '../error-contract.js';

/** How a refusal is provoked. */
interface Provocation {
  name: string;
  code: ProxyErrorCode;
  /** What BAD_PARAM names. */
  detail?: string;
  username?: string;
  password?: string;
  host?: string;
  port?: number;
  /** OPENs that devices get for one connection; left out: none, or 3 when the contract says it is retried. */
  opens?: number;
  /** Makes it so; what it gives undoes it. */
  prepare?: () => Promise<() => Promise<void>>;
}

/** What devices of the fleet answer to OPEN, by host. */
const DIALS: Record<string, DialCode> = {
  'no-such-name.example.org': DialCode.DNS_FAIL,
  'refusing.example.org': DialCode.REFUSED,
  'unreachable.example.org': DialCode.UNREACHABLE,
  'silent.example.org': DialCode.TIMEOUT,
  'inside.example.org': DialCode.PROHIBITED,
  'capped.example.org': DialCode.CAP_REACHED,
  'paused.example.org': DialCode.PAUSED,
  'unsupported.example.org': DialCode.UNSUPPORTED,
  'broken.example.org': DialCode.INTERNAL,
  'owner-blocks.example.org': DialCode.BLOCKED,
};
/** Hosts whose answers the gateway has waited for in vain. */
const UNANSWERED = 'unanswered.example.org';

let rig: GatewayRig;
let agent: Agent;
const fleet: FleetDevice[] = [];

async function withAccount(account: string, changes: Partial<AccountSnapshot>): Promise<AccountSnapshot> {
  const snapshot = { ...rig.account, account, buyerId: randomUUID(), ...changes };
  await writeAccount(rig.redis, snapshot);
  return snapshot;
}

t.before(async () => {
  rig = await startGatewayRig({
    ...FLEET_ENV,
    TS_DEV_LOOPBACK_COUNTRY: 'NL',
    TS_DIAL_TIMEOUT_MS: '300',
    TS_WALLET_ADMIT_MS: '200',
    // So many wrong logins from one address would have to wait.
    TS_LOGIN_PAIR_FAILURES_MAX: '1000',
    TS_LOGIN_ADDRESS_FAILURES_MAX: '1000',
    TS_LOGIN_ACCOUNT_FAILURES_MAX: '1000',
  });
  t.teardown(() => rig.stop());
  await writeLiveSettings(rig.redis, {
    policyVersion: 1,
    termsVersion: '1',
    deniedDomains: ['.blocked.example.org'],
    deniedIps: ['93.184.216.0/24'],
  });
  const poor = await withAccount('poor', {});
  rig.bank.funds.set(fundsKey({ kind: 'buyer', ownerId: poor.buyerId }), 0);
  const subUser = { id: randomUUID(), limited: true };
  rig.bank.funds.set(fundsKey({ kind: 'sub_user', ownerId: subUser.id }), 0);
  await withAccount('quota', { subUser });
  await withAccount('suspended', { status: 'suspended' });
  await withAccount('closed', { status: 'closed' });
  await withAccount('unverified', { kycStatus: 'pending' });
  await withAccount('rejected', { kycStatus: 'rejected' });
  await withAccount('nopolicy', { aupAccepted: false });
  await withAccount('single', { limits: { ...rig.account.limits, streamsMax: 1 } });
  await withAccount('slow', { limits: { ...rig.account.limits, connectionsPerSecondMax: 0 } });
  const [credential] = rig.account.credentials;
  if (credential)
    await withAccount('elsewhere', { credentials: [{ ...credential, allowedIps: ['8.8.8.8'] }] });
  if (credential) await withAccount('expired', { credentials: [{ ...credential, expiresAtMs: 1 }] });
  await rig.restart(); // reads the lists

  // Those of the US go to the account that asks first; the other account finds one in Germany.
  for (const exitIp of [...[1, 2, 3, 4].map(NETWORKS.US), NETWORKS.DE(1)]) {
    const device = await joinFleet(rig, exitIp);
    device.plain.echo(undefined, ({ host }) => (host === UNANSWERED ? null : (DIALS[host] ?? 0)));
    fleet.push(device);
  }
  // One real agent, alone in its country: its resolver leads into somebody's network.
  const { text } = await rig.ticket();
  const tunnelUrl = `ws://127.0.0.1:${rig.gateway.tunnelPort}/tunnel`;
  agent = startAgent(agentConfig({ kind: 'direct', tunnelUrl, ticket: text }), silentAgentLog, {
    resolve: async (name) =>
      name === 'rebinding.example.org'
        ? { ok: true, addresses: ['192.168.1.1', '::ffff:10.0.0.1', 'fd00::1'] }
        : { ok: false, code: 'ENOTFOUND' },
  });
  t.teardown(() => agent.stop());
  while ((await rig.status()).tunnels < 6) await new Promise((resolve) => setTimeout(resolve, 10));
});

const opensOf = () => fleet.reduce((sum, { plain }) => sum + plain.opens.length, 0);

/** A stream held open on the account. */
async function holdStream(username: string): Promise<() => Promise<void>> {
  const { proxyPort } = rig.gateway;
  const to = { proxyPort, username, password: rig.password, host: 'example.org', port: 443 };
  const { socket, reply } = await socksConnect(to);
  if (reply !== 0) throw new Error(`not connected: ${reply}`);
  return async () => {
    socket.destroy();
    if (!socket.closed) await once(socket, 'close');
  };
}

/** A strict session whose device has gone. */
async function loseExit(): Promise<() => Promise<void>> {
  const device = await joinFleet(rig, NETWORKS.FR(1));
  device.plain.echo();
  const release = await holdStream(`${rig.username}-country-fr-session-lost1`);
  await release();
  const tunnels = (await rig.status()).tunnels;
  device.plain.socket.terminate();
  while ((await rig.status()).tunnels === tunnels) await new Promise((resolve) => setTimeout(resolve, 5));
  // Another device is there: the session could go on, but must not.
  const other = await joinFleet(rig, NETWORKS.FR(2));
  other.plain.echo();
  return async () => other.plain.socket.terminate();
}

const PROVOCATIONS: Provocation[] = [
  { name: 'wrong password', code: 'AUTH_FAILED', password: 'wrong' },
  { name: 'unknown account', code: 'AUTH_FAILED', username: 'nobody' },
  { name: 'an address the credential is not for', code: 'AUTH_FAILED', username: 'elsewhere' },
  { name: 'an expired credential', code: 'AUTH_FAILED', username: 'expired' },
  { name: 'no package of theirs', code: 'AUTH_FAILED', username: `acme-package-${'0'.repeat(32)}` },
  { name: 'unknown key', code: 'BAD_PARAM', detail: 'colour', username: 'acme-colour-red' },
  { name: 'bad value', code: 'BAD_PARAM', detail: 'country', username: 'acme-country-xx' },
  { name: 'repeated key', code: 'BAD_PARAM', detail: 'cc', username: 'acme-country-de-cc-de' },
  { name: 'key without value', code: 'BAD_PARAM', detail: 'session', username: 'acme-session' },
  { name: 'city without country', code: 'BAD_PARAM', detail: 'city', username: 'acme-city-berlin' },
  { name: 'no balance', code: 'NO_BALANCE', username: 'poor' },
  { name: 'sub-user out of bytes', code: 'QUOTA_REACHED', username: 'quota' },
  { name: 'suspended', code: 'ACCOUNT_SUSPENDED', username: 'suspended' },
  { name: 'closed', code: 'ACCOUNT_SUSPENDED', username: 'closed' },
  { name: 'not verified yet', code: 'KYC_REQUIRED', username: 'unverified' },
  { name: 'verification refused', code: 'KYC_REQUIRED', username: 'rejected' },
  { name: 'policy not accepted', code: 'KYC_REQUIRED', username: 'nopolicy' },
  { name: 'denied name', code: 'TARGET_BLOCKED', host: 'www.blocked.example.org' },
  { name: 'denied address', code: 'TARGET_BLOCKED', host: '93.184.216.34' },
  { name: 'mail port', code: 'PORT_BLOCKED', port: 25 },
  { name: 'a port nobody opened', code: 'PORT_BLOCKED', port: 8081 },
  { name: 'private address', code: 'IP_PROHIBITED', host: '192.168.1.1' },
  { name: 'metadata address', code: 'IP_PROHIBITED', host: '169.254.169.254' },
  { name: 'local name', code: 'IP_PROHIBITED', host: 'router.lan' },
  { name: 'the device says it is inside', code: 'IP_PROHIBITED', host: 'inside.example.org', opens: 1 },
  {
    name: 'a name that leads inside, by a real agent',
    code: 'IP_PROHIBITED',
    username: 'acme-country-nl',
    host: 'rebinding.example.org',
  },
  {
    name: 'too many streams',
    code: 'CONN_LIMIT',
    username: 'single-country-de',
    prepare: () => holdStream('single-country-de'),
  },
  { name: 'too many connections a second', code: 'RATE_LIMIT', username: 'slow' },
  { name: 'no device there', code: 'NO_PEER', username: 'acme-country-jp' },
  {
    name: 'strict session whose exit is gone',
    code: 'SESSION_LOST',
    username: 'acme-country-fr-session-lost1-strict-1',
    prepare: loseExit,
  },
  { name: 'device failed', code: 'PEER_DROPPED', host: 'broken.example.org' },
  { name: 'device out of cap', code: 'PEER_DROPPED', host: 'capped.example.org' },
  { name: 'device paused', code: 'PEER_DROPPED', host: 'paused.example.org' },
  { name: 'device can not', code: 'PEER_DROPPED', host: 'unsupported.example.org' },
  { name: 'owner blocks it', code: 'PEER_DROPPED', host: 'owner-blocks.example.org' },
  { name: 'name does not resolve', code: 'DNS_FAIL', host: 'no-such-name.example.org' },
  {
    name: 'name does not resolve, by a real agent',
    code: 'DNS_FAIL',
    username: 'acme-country-nl',
    host: 'no-such-name.example.org',
    opens: 0,
  },
  {
    name: 'strict: not tried elsewhere',
    code: 'DNS_FAIL',
    username: 'acme-country-us-session-s1-strict-1',
    host: 'no-such-name.example.org',
    opens: 1,
  },
  { name: 'refused', code: 'REFUSED', host: 'refusing.example.org', opens: 1 },
  { name: 'unreachable', code: 'UNREACHABLE', host: 'unreachable.example.org' },
  { name: 'destination silent', code: 'CONNECT_TIMEOUT', host: 'silent.example.org' },
  { name: 'device silent', code: 'CONNECT_TIMEOUT', host: UNANSWERED },
];

interface Asked {
  username: string;
  password: string;
  host: string;
  port: number;
}

const asked = (p: Provocation): Asked => ({
  username: p.username ?? 'acme-country-us',
  password: p.password ?? rig.password,
  host: p.host ?? 'example.org',
  port: p.port ?? 443,
});

function checkHttp(t: Test, answer: RawAnswer, code: ProxyErrorCode, detail: string | undefined): void {
  const row = contractOf(code);
  const named = detail === undefined ? code : `${code} ${detail}`;
  t.equal(answer.line, `HTTP/1.1 ${row.status} ${named}`, 'status line');
  t.equal(
    answer.headers.get('proxy-status'),
    `traffic-share; error=${row.error}; details="${named}: ${proxyErrors[code].text}"`,
    'Proxy-Status',
  );
  t.equal(answer.headers.get('x-ts-error'), code, 'X-TS-Error');
  const requestId = answer.headers.get('x-ts-request-id') ?? '';
  t.match(requestId, /^[0-9a-f]{12}$/, 'X-TS-Request-Id');
  t.equal(answer.headers.has('retry-after'), row.retryAfter, 'Retry-After');
  if (row.retryAfter) t.match(answer.headers.get('retry-after'), /^[1-9][0-9]?$/, 'in seconds');
  const challenge = row.status === 407 ? 'Basic realm="traffic-share"' : undefined;
  t.equal(answer.headers.get('proxy-authenticate'), challenge, 'Proxy-Authenticate');
  t.equal(answer.headers.get('content-type'), 'application/json');
  t.same(JSON.parse(answer.body), {
    error: code,
    ...(detail === undefined ? {} : { detail }),
    message: proxyErrors[code].text,
    request_id: requestId,
  });
  for (const name of ['x-ts-exit-id', 'x-ts-exit-country', 'x-ts-session'])
    t.notOk(answer.headers.has(name), `no ${name}`);
}

const authority = ({ host, port }: Asked) => `${host}:${port}`;
const login = ({ username, password }: Asked) => `Proxy-Authorization: ${basic(username, password)}\r\n`;
const connectHead = (to: Asked) =>
  `CONNECT ${authority(to)} HTTP/1.1\r\nHost: ${authority(to)}\r\n${login(to)}\r\n`;
const getHead = (to: Asked) =>
  `GET http://${authority(to)}/ HTTP/1.1\r\nHost: ${authority(to)}\r\n${login(to)}\r\n`;

async function checkSocks(t: Test, to: Asked, code: ProxyErrorCode): Promise<void> {
  const { socks } = contractOf(code);
  const answer = await socksConnect({ ...to, proxyPort: rig.gateway.proxyPort });
  answer.socket.destroy();
  if ('auth' in socks) t.same([answer.auth, answer.reply], [socks.auth, null], 'SOCKS5 login status');
  else t.same([answer.auth, answer.reply], [0, socks.reply], 'SOCKS5 reply');
}

/** What a person at a shell sees: curl's exit code, its own words, and ours behind `-v`. */
async function checkCurl(t: Test, to: Asked, code: ProxyErrorCode): Promise<void> {
  const row = contractOf(code);
  const proxy = `${to.username}:${to.password}@127.0.0.1:${rig.gateway.proxyPort}`;
  const curl = (args: string[]) => runProgram('curl', ['-sv', '-m', '10', ...args]);
  const [tunnel, plain, socks] = await Promise.all([
    curl(['-p', '-x', `http://${proxy}`, '-w', '%{http_connect}', `http://${authority(to)}/`]),
    curl(['-x', `http://${proxy}`, '-w', '\n%{http_code}', `http://${authority(to)}/`]),
    curl(['-x', `socks5h://${proxy}`, `http://${authority(to)}/`]),
  ]);
  t.equal(tunnel.code, 56, 'curl through CONNECT: exit code');
  t.equal(tunnel.out, String(row.status).padStart(3, '0'), 'curl through CONNECT: http_connect');
  t.match(tunnel.err, `< HTTP/1.1 ${row.status} ${code}`, 'curl -v shows the reason phrase');
  t.match(tunnel.err, `response ${row.status}`, 'and without -v at least the status');
  t.equal(plain.code, 0, 'curl by plain HTTP: exit code');
  const [body = '', status] = plain.out.split('\n').filter(Boolean);
  t.equal(status, String(row.status), 'curl by plain HTTP: http_code');
  t.match(JSON.parse(body), { error: code }, 'the body is what it prints');
  t.equal(socks.code, 97, 'curl through SOCKS5: exit code');
  const said = 'auth' in row.socks ? `(1 ${row.socks.auth})` : `(${row.socks.reply})`;
  t.ok(socks.err.includes(said), `curl through SOCKS5 says ${said}: ${socks.err.slice(-200)}`);
}

t.test(
  'provoked: HTTP tunnel, plain HTTP, SOCKS5 and curl; how often it was tried; nothing billed',
  async (t) => {
    const withCurl = await hasProgram(t, 'curl');
    for (const provocation of PROVOCATIONS) {
      const { name, code, detail, prepare } = provocation;
      await t.test(`${code}: ${name}`, async (t) => {
        const undo = await prepare?.();
        const to = asked(provocation);
        const opensBefore = opensOf();
        checkHttp(t, await askRaw(rig.gateway.proxyPort, connectHead(to)), code, detail);
        const expected = provocation.opens ?? (contractOf(code).retried ? 3 : 0);
        t.equal(opensOf() - opensBefore, expected, `${expected} devices were asked`);
        checkHttp(t, await askRaw(rig.gateway.proxyPort, getHead(to)), code, detail);
        await checkSocks(t, to, code);
        if (withCurl) await checkCurl(t, to, code);
        await undo?.();
      });
    }
    const untried = errorContract.filter(({ code }) => !PROVOCATIONS.some((p) => p.code === code));
    t.same(
      untried.map(({ code }) => code),
      ['UDP_NOT_ALLOWED', 'DRAINING', 'INTERNAL'],
      'the others come below; UDP_NOT_ALLOWED in associations.test.ts',
    );
    await nothingBilled(t);
  },
);

async function nothingBilled(t: Test): Promise<void> {
  const { bytesUp, bytesDown } = await rig.status();
  t.same([bytesUp, bytesDown], [0, 0], 'the gateway relayed nothing');
  const billed = (await rig.meters()).filter((meter) => meter.bytesUp + meter.bytesDown > 0);
  t.same(billed, [], 'no meter counts a byte');
}

t.test('INTERNAL: the live state does not answer', async (t) => {
  await rig.bank.stop();
  await withAccount('unknown', {});
  const to = { username: 'unknown', password: rig.password, host: 'example.org', port: 443 };
  const answer = await askRaw(rig.gateway.proxyPort, connectHead(to));
  t.equal(answer.line, 'HTTP/1.1 500 INTERNAL');
  const says = 'traffic-share; error=proxy_internal_error; details="INTERNAL live state unavailable: ';
  t.match(answer.headers.get('proxy-status'), says);
  t.match(JSON.parse(answer.body), { error: 'INTERNAL', detail: 'live state unavailable' });
  await checkSocks(t, to, 'INTERNAL');
  await nothingBilled(t);
});

t.test('PEER_DROPPED: the tunnel is lost while every device dials', async (t) => {
  for (const { plain } of fleet) plain.onFrame = ({ type }) => void (type === 4 && plain.socket.terminate());
  const answer = await askRaw(rig.gateway.proxyPort, connectHead(asked({ name: '', code: 'PEER_DROPPED' })));
  checkHttp(t, answer, 'PEER_DROPPED', undefined);
  await nothingBilled(t);
});

t.test('DRAINING: connections from before, requests from after', async (t) => {
  const { proxyPort } = rig.gateway;
  const to = asked({ name: '', code: 'DRAINING' });
  const early = await Promise.all(
    [connectHead(to), getHead(to)].map(async (head) => {
      const socket = connect({ port: proxyPort, host: '127.0.0.1' });
      await once(socket, 'connect');
      socket.write(head.slice(0, 20));
      return { socket, rest: head.slice(20) };
    }),
  );
  const socks = connect({ port: proxyPort, host: '127.0.0.1' });
  await once(socks, 'connect');
  socks.write(Buffer.from([5, 1, 2]));
  t.same((await once(socks, 'data'))[0], Buffer.from([5, 2]));

  const stopped = rig.gateway.stop(5_000);
  for (const { socket, rest } of early) {
    socket.write(rest);
    let text = '';
    for await (const chunk of socket) text += (chunk as Buffer).toString('latin1');
    const answer = readAnswer(text);
    if (answer) checkHttp(t, answer, 'DRAINING', undefined);
    else t.fail(`no answer: ${text}`);
  }
  const user = Buffer.from(to.username);
  const password = Buffer.from(to.password);
  socks.write(Buffer.concat([Buffer.from([1, user.length]), user, Buffer.from([password.length]), password]));
  t.same((await once(socks, 'data'))[0], Buffer.from([1, 0]), 'the login passes');
  socks.write(Buffer.from([5, 1, 0, 3, 1, 97, 1, 187]));
  const [reply] = (await once(socks, 'data')) as [Buffer];
  t.same([...reply.subarray(0, 2)], [5, contractReply('DRAINING')]);
  socks.destroy();
  await stopped;
});

function contractReply(code: ProxyErrorCode): number | undefined {
  const { socks } = contractOf(code);
  return 'reply' in socks ? socks.reply : undefined;
}
