/** Every command of the documents runs here as it is written, or is judged by a stand-in whose reason is in stand-ins.ts. */
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { requireFreshBuild } from '../helpers/api-processes.js';
import { hasProgram, runProgram } from '../helpers/programs.js';
import { startSystemPostgres } from '../helpers/system-postgres.js';
import { type Block, blocksOf, commandsOf, DOCUMENTS, isShell, type ShellCommand } from './markdown.js';
import { type Place, preparePlace, stopSystem } from './place.js';
import { type RunOptions, Shell } from './shell.js';
import { problemsOfCall, takeCalls } from './stand-ins.js';

// Many processes, one after the other, on a machine that may be busy.
t.setTimeout(600_000);

/** Blocks with a name that another test runs, and which. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'deploy/backups.md sh base': 'test/control-plane/backup/point-in-time.test.ts',
  'deploy/backups.md sh restore': 'test/control-plane/backup/point-in-time.test.ts',
};

/** Languages that have no commands, and those that are run by themselves. */
const OTHERS = ['text', 'http', 'conf'];
const PROGRAMS: Readonly<Record<string, (place: Place, text: string) => Promise<string>>> = {
  python: runPython,
  js: runNode,
};

const PROVIDER = 5_000_001;
const PYTHON = '/usr/bin/python3';

/** What documents leave to the reader. */
function filledIn(text: string, place: Place): string {
  const known: Record<string, string> = {
    'postgres://…': place.databaseUrl,
    '/etc/traffic-share': place.etc,
    '/var/lib/traffic-share/gateway': '.data/gateway',
    '[FILE]': '',
  };
  if (started) {
    const { api_url, buyer, admin } = place.system();
    Object.assign(known, {
      'https://api.example.org': api_url,
      'ADMIN=…': `ADMIN=${admin.token}`,
      'BUYER=…': `BUYER=${buyer.id}`,
    });
  }
  return Object.entries(known).reduce((filled, [name, value]) => filled.replaceAll(name, value), text);
}

let started = false;
/** Commands that ran, and calls that were judged: a second time in another document they are the same. */
const seen = new Set<string>();

interface Step {
  command: RegExp;
  /** Put before it: what is true on the machine that it is for. */
  prefix?: (place: Place) => string;
  before?: (place: Place) => Promise<unknown>;
  options?: (place: Place) => RunOptions;
  /** What it prints. */
  prints?: RegExp;
}

/** A database of that name and a live state that nobody uses. */
const unused = (name: string) => (place: Place) => {
  const url = new URL(place.databaseUrl);
  url.pathname = name;
  return `TS_DATABASE_URL=${url} TS_REDIS_URL=${place.redisUrl}/1 `;
};

/** What some commands need, and what they must say; the first that fits counts. */
const STEPS: readonly Step[] = [
  {
    command: /^npm start/,
    prefix: ({ databaseUrl, redisUrl }) => `env TS_DATABASE_URL=${databaseUrl} TS_REDIS_URL=${redisUrl} `,
    options: (place) => ({ untilReady: place.untilStarted }),
  },
  { command: /^curl .*"\$URL"/, prints: /It works/ },
  { command: /^curl .*echo\.traffic-share\.internal/, prints: /"exit_id"/ },
  { command: /ledger verify( +#.*)?$/, prints: /everything adds up/ },
  {
    command: /agent login/,
    before: (place) => place.call('POST', '/api/auth/register', null, { telegram_id: PROVIDER }),
    prefix: () => 'env -u TS_TUNNEL_URL ',
    options: (place) => ({
      typist: async (type) => type(await place.loginCode(PROVIDER, () => type(String(PROVIDER)))),
    }),
    prints: /this machine is a device of yours now/,
  },
  {
    command: /traffic-share agent( +#.*)?$/,
    prefix: () => 'env -u TS_TUNNEL_URL ',
    options: (place) => ({
      terminal: true,
      typist: (type) => type('yes'),
      untilReady: () => place.untilTunnels(2),
    }),
  },
  { command: /agent status/, prints: /State +online/ },
  {
    command: /rotate-tokens --buyer acme/,
    before: async (place) => {
      const { token } = place.system().admin;
      const { items } = await place.call('GET', '/api/admin/buyers?query=acme', token);
      if ((items as unknown[]).length > 0) return;
      const body = { name: 'Acme', account: 'acme', kyc_status: 'approved' };
      const { id } = await place.call('POST', '/api/admin/buyers', token, body);
      await place.call('POST', `/api/admin/buyers/${id}/tokens`, token, {});
    },
    prints: /^acme,token,/m,
  },
  { command: /restore --into-empty/, prefix: unused('empty'), prints: /everything adds up/ },
  { command: /restore --replace/, prefix: unused('replaced'), prints: /everything adds up/ },
];

t.test('every command of every document', async (all) => {
  requireFreshBuild();
  const postgres = await startSystemPostgres(all);
  if (postgres === null) return;
  for (const [name, probe] of [
    ['curl'],
    ['openssl', ['openssl', 'version']],
    ['redis-cli'],
    ['script'],
  ] as const)
    if (!(await hasProgram(all, name, probe))) return;
  const place = await preparePlace(all, postgres);
  const shells: Shell[] = [];
  all.teardown(async () => {
    await stopSystem(place);
    for (const shell of shells) await shell.stop();
  });
  all.equal(DOCUMENTS[0], 'README.md', 'which starts the system that the others are about');
  for (const document of DOCUMENTS)
    await all.test(document, async (t) => {
      const shell = await openShell(place, document);
      shells.push(shell); // what README's starts the others need
      for (const block of blocksOf(document)) await runBlock(t, place, shell, block);
    });
});

async function openShell(place: Place, document: string): Promise<Shell> {
  const folder = join(place.home, document.replaceAll('/', '-'));
  await mkdir(folder);
  return new Shell(folder, place.folder, place.env);
}

async function runBlock(t: Test, place: Place, shell: Shell, block: Block): Promise<void> {
  const { document, line, info, text } = block;
  const name = `${document}:${line}`;
  const elsewhere = ELSEWHERE[`${document} ${info}`];
  if (elsewhere !== undefined)
    return void t.ok(
      readFileSync(projectPath(elsewhere), 'utf8').includes(`'${info}'`),
      `${name}: ${elsewhere}`,
    );
  if (isShell(block)) {
    for (const command of await commandsOf(block)) await runCommand(t, place, shell, command);
    return;
  }
  if (info === 'python' && !(await hasProgram(t, PYTHON, [PYTHON, '-c', 'import requests, socks']))) return;
  const program = PROGRAMS[info];
  if (program) return void t.match(await program(place, text), /It works/, name);
  t.ok(OTHERS.includes(info), `${name}: a block says what it is, not "${info}"`);
}

async function runCommand(t: Test, place: Place, shell: Shell, { document, line, text }: ShellCommand) {
  const name = `${document}:${line}: ${text}`;
  const step = STEPS.find(({ command }) => command.test(text));
  const starts = /^npm start/.test(text);
  if (starts && started) return void t.pass(`${name} (it runs already)`);
  const repeated =
    /^(npx )?traffic-share (?!agent)/.test(text) && filledIn(text.replace(/ +#.*/, ''), place).trim();
  if (repeated && seen.has(repeated)) return void t.pass(`${name} (it ran already)`);
  if (repeated) seen.add(repeated);
  await step?.before?.(place);
  const written = (step?.prefix?.(place) ?? '') + filledIn(text, place);
  const ran = await shell.run(written, step?.options?.(place));
  started ||= starts;
  const said = `${ran.out}${ran.err}`.slice(-2_000);
  t.ok(ran.code === 0 || (ran.code === null && step?.options), name, { code: ran.code, said });
  if (step?.prints) t.match(ran.out, step.prints, `${name}: says`);
  for (const call of await takeCalls(place.record)) {
    const words = [call.program, ...call.args].join(' ');
    if (!seen.has(words)) t.same(await problemsOfCall(call, place.folder), [], words);
    seen.add(words);
  }
}

/** The values that a reader puts into an example in another language. */
function values({ system }: Place): Record<string, unknown> {
  const { buyer, proxy_port: port, demo_destination_url: url } = system();
  return { user: buyer.username, password: buyer.password, port, url };
}

function assigned(place: Place, prefix: string): string {
  return Object.entries(values(place))
    .map(([name, value]) => `${prefix}${name} = ${JSON.stringify(value)}\n`)
    .join('');
}

async function runPython(place: Place, text: string): Promise<string> {
  const ran = await runProgram(PYTHON, ['-c', assigned(place, '') + text]);
  return ran.out + ran.err;
}

async function runNode(place: Place, text: string): Promise<string> {
  const file = join(place.folder, 'snippet.mjs');
  writeFileSync(file, assigned(place, 'const ') + text);
  const ran = await runProgram(process.execPath, [file]);
  return ran.out + ran.err;
}
