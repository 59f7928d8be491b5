/** A real Prometheus with the shipped configuration on the standalone system: every panel and rule finds its data. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { ProxyAgent, request } from 'undici';
import { dashboards } from '../../deploy/observe/dashboards/all.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { hasProgram, runProgram } from '../helpers/programs.js';
import { RULE_FILES, RULES_FOLDER, recordedIn, ruleText } from '../helpers/prometheus.js';
import { freePort } from '../helpers/services.js';
import { removeData, type Standalone, startStandalone } from '../helpers/standalone.js';

/** All figures are there by then: those on the ledger's entries with the second reading, ten seconds after the first. */
const DATA_TIMEOUT_MS = 40_000;

interface Rule {
  name: string;
  health: string;
  lastError?: string;
  type: 'alerting' | 'recording';
  state?: string;
  labels: { severity?: string };
}

class Prometheus {
  private constructor(
    private readonly url: string,
    private readonly child: ChildProcess,
    private readonly folder: string,
    readonly output: () => string,
  ) {}

  /** With deploy/prometheus/prometheus.yml, of which only the intervals and the targets are other ones. */
  static async start(targets: { gateway: string; controlPlane: string }): Promise<Prometheus> {
    const folder = await mkdtemp(join(tmpdir(), 'ts-prometheus-'));
    const listen = `127.0.0.1:${await freePort()}`;
    const shipped = await readFile(projectPath('deploy/prometheus/prometheus.yml'), 'utf8');
    const config = shipped
      .replace(/_interval: 15s/g, '_interval: 1s')
      .replace('scrape_timeout: 10s', 'scrape_timeout: 1s')
      .replace('[gateway-1:9464, gateway-2:9464]', `['${targets.gateway}']`)
      .replace('[control-plane:9465]', `['${targets.controlPlane}']`)
      .replace('[localhost:9090]', `['${listen}']`);
    await symlink(RULES_FOLDER, join(folder, 'rules'));
    await writeFile(join(folder, 'prometheus.yml'), config);
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(folder, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=${listen}`,
        '--log.level=warn',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let printed = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
    const prometheus = new Prometheus(`http://${listen}`, child, folder, () => printed);
    for (let tries = 0; ; tries++) {
      const ready = await prometheus.#get('/-/ready').catch(() => null);
      if (ready?.status === 200) return prometheus;
      if (child.exitCode !== null || tries > 200) throw new Error(`Prometheus did not start: ${printed}`);
      await delay(50);
    }
  }

  /** Values of the instant vector now. */
  async query(expr: string): Promise<number[]> {
    const answer = await this.#get(`/api/v1/query?query=${encodeURIComponent(expr)}`);
    const { status, error, data } = (await answer.json()) as {
      status: string;
      error?: string;
      data: { result: { value: [number, string] }[] };
    };
    if (status !== 'success') throw new Error(`${expr}: ${error}`);
    return data.result.map(({ value }) => Number(value[1]));
  }

  async rules(): Promise<Rule[]> {
    const answer = await this.#get('/api/v1/rules');
    const { data } = (await answer.json()) as { data: { groups: { rules: Rule[] }[] } };
    return data.groups.flatMap(({ rules }) => rules);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, 'exit');
      this.child.kill('SIGKILL'); // its data is thrown away
      await exited;
    }
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  #get(path: string): Promise<Response> {
    return fetch(this.url + path, { headers: { connection: 'close' } });
  }
}

/** A payout, once; then buyers who are served and refused, and the API likewise, until it is told to end. */
async function makeTraffic({ file, api }: Standalone, until: AbortSignal): Promise<void> {
  const { username, password } = file.buyer;
  const agent = (secret: string) =>
    new ProxyAgent({
      uri: `http://127.0.0.1:${file.proxy_port}`,
      token: `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}`,
    });
  await api('/api/admin/credits', file.admin.token, {
    user_id: file.provider.user_id,
    amount: '50',
    reason: 'test',
  });
  await api('/api/withdraw', file.provider.access_token, {
    amount: '5',
    method: 'cryptomus',
    network: 'TRON',
    currency: 'USDT',
    target: 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t',
  });
  const blob = Buffer.alloc(200_000);
  while (!until.aborted) {
    const good = agent(password);
    const wrong = agent('wrong-password');
    const get = async (dispatcher: ProxyAgent, url: string, body?: Buffer) => {
      const answer = await request(url, { dispatcher, ...(body && { method: 'POST', body }) });
      await answer.body.dump({ limit: 10_000_000 });
    };
    await get(good, new URL('/bytes/300000', file.demo_destination_url).href);
    await get(good, new URL('/upload', file.demo_destination_url).href, blob);
    await get(good, 'http://10.0.0.1/').catch(() => {});
    await get(wrong, file.demo_destination_url).catch(() => {});
    await Promise.all([good.close(), wrong.close()]);
    for (const path of ['/api/system/version', '/api/dashboard', '/api/nowhere'])
      await (await fetch(file.api_url + path, { headers: { connection: 'close' } })).arrayBuffer();
    await delay(100);
  }
}

/** As Grafana fills it in, for an interval of 1 s. */
const filledIn = (expr: string) => expr.replaceAll('$__rate_interval', '10s').replaceAll('$gateway', '.*');

t.test('every panel and every rule finds its data', { timeout: 90_000 }, async (t) => {
  if (!(await hasProgram(t, 'prometheus'))) return;
  const system = await startStandalone();
  t.teardown(async () => {
    await system.stop();
    await removeData(system.dataDir);
  });
  const [gateway, controlPlane] = system.file.metrics_urls.map((url) => new URL(url).host);
  const prometheus = await Prometheus.start({
    gateway: gateway as string,
    controlPlane: controlPlane as string,
  });
  t.teardown(() => prometheus.stop());
  const enough = new AbortController();
  const traffic = makeTraffic(system, enough.signal);
  traffic.catch(() => {}); // awaited below

  const waiting = new Map<string, string>();
  for (const { title, rows } of Object.values(dashboards))
    for (const panel of rows.flatMap(({ panels }) => panels))
      for (const [expr] of panel.queries) waiting.set(`${title}, ${panel.title}: ${expr}`, filledIn(expr));
  const panels = waiting.size;
  const recorded = RULE_FILES.flatMap((file) => [...recordedIn(ruleText(file))]);
  for (const name of recorded) waiting.set(`recorded: ${name}`, name);
  const untilMs = performance.now() + DATA_TIMEOUT_MS;
  while (waiting.size > 0 && performance.now() < untilMs) {
    for (const [what, expr] of waiting)
      if ((await prometheus.query(expr)).some(Number.isFinite)) waiting.delete(what);
    if (waiting.size > 0) await delay(500);
  }
  enough.abort();
  await traffic;
  t.ok(panels > 100, `${panels} queries of panels, ${recorded.length} recorded series`);
  t.same([...waiting.keys()], [], 'all have answered with data');

  const rules = await prometheus.rules();
  const alerts = rules.filter(({ type }) => type === 'alerting');
  t.equal(alerts.length, RULE_FILES.flatMap((file) => ruleText(file).match(/- alert: /g) ?? []).length);
  t.same(
    rules.filter(({ health }) => health !== 'ok').map(({ name, lastError }) => `${name}: ${lastError}`),
    [],
    'every rule can be evaluated',
  );
  t.same(
    alerts.filter(({ state }) => state === 'firing').map(({ name }) => name),
    [],
    'and nothing is wrong',
  );
  for (const url of system.file.metrics_urls) {
    const text = await (await fetch(url, { headers: { connection: 'close' } })).text();
    const { out, err } = await runProgram('promtool', ['check', 'metrics'], { input: text });
    // Node's own have three gauges that are called _total.
    const said = `${out}${err}`.split('\n').filter((line) => line !== '' && !line.startsWith('nodejs_'));
    t.same(said, [], `promtool finds nothing to say of ${url}`);
  }
  t.notMatch(prometheus.output(), /level=(warn|error).*(duplicate|out of order|invalid)/i);
});
