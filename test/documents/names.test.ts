/** What the documents name is there: commands and their options, calls of the API, settings, scripts, files. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import t from 'tap';
import { isCommand } from '../../agent-protocol/agent/commands.js';
import { buildCli } from '../../deploy/cli.js';
import { openApiDocument } from '../../deploy/commands/openapi.js';
import { allSettings } from '../../deploy/commands/settings.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { DOCUMENTS, inlineCodeOf } from './markdown.js';
import { problemsOfCall, STAND_INS } from './stand-ins.js';

/** Read by operators as well, for the calls, settings and commands in their comments. */
const CONFIGURATIONS = ['deploy/kubernetes/migrate.yaml', 'deploy/compose/compose.yml'];
/** Settings of no process of ours, and beginnings of names in tables. */
const OTHER_SETTINGS =
  /^TS_(TEST|IMAGE_TAG|KEEP_SESSION|DATA_DIR|DEMO|STATE_DIR|PAGE_PORT|API_URL|DEVICE_|NPM)/;
const README_LINES_MAX = 200;

const text = (path: string) => readFileSync(projectPath(path), 'utf8').replace(/\n\s*/g, ' ');
const { paths } = (await openApiDocument()) as { paths: Record<string, Record<string, unknown>> };
const settings = allSettings().flatMap(({ settings }) => settings);
const names = new Set(settings.flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name])));
const { scripts } = JSON.parse(readFileSync(projectPath('package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

/** Whether the documents' way of writing a path is one of the API: `…` stands for any end, a value for a parameter. */
function isPath(method: string, written: string): boolean {
  const wanted = written.split('?')[0] ?? '';
  return Object.entries(paths).some(
    ([path, methods]) =>
      method.toLowerCase() in methods &&
      (wanted.endsWith('/…')
        ? path.startsWith(wanted.slice(0, -1))
        : new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(wanted)),
  );
}

/** What is wrong with the words after `traffic-share`; null: nothing. */
function cliProblem(words: readonly string[]): string | null {
  let command: Command = buildCli();
  for (const word of words) {
    const name = word.split('=')[0] as string;
    if (command.name() === 'agent') return word.startsWith('-') || isCommand(word) ? null : `agent ${word}`;
    const inner = command.commands.find((found) => found.name() === word);
    if (inner !== undefined) command = inner;
    else if (name.startsWith('--') && name !== '--help') {
      if (!command.options.some(({ long }) => long === name)) return `${command.name()} has no ${name}`;
    } else if (command.commands.length > 0 && name !== '--help') return `${command.name()} has no ${word}`;
  }
  return null;
}

/** What is wrong with a command in the text; null: nothing, or it is none. */
async function problemOfInline(code: string): Promise<string | null> {
  const command = code.replace(/^([A-Z]\w*=\S+ +)+/, '').replace(/ [>|].*$/, '');
  // What is left to the reader, or left out
  const [program = '', ...args] = command.split(' ').filter((word) => !/…|^[A-Z]+$/.test(word));
  if (program === 'traffic-share') return cliProblem(args);
  if (program === 'npx') return args[0] === 'traffic-share' ? cliProblem(args.slice(1)) : `npx ${args[0]}`;
  if (program === 'agent') return cliProblem([program, ...args]);
  if (program === 'npm' && args[0] !== 'install' && args.length > 0)
    return args[0] === 'run' ? (scripts[args[1] ?? ''] ? null : code) : null;
  if (program === 'node' && args[0] !== 'test/run.mjs')
    return args[0] && existsSync(projectPath(args[0])) ? null : code;
  if (args.length === 0 || !STAND_INS[program] || program === 'npm') return null;
  return (await problemsOfCall({ program, args }, projectPath('.'))).join('; ') || null;
}

for (const document of [...DOCUMENTS, ...CONFIGURATIONS])
  t.test(document, async (t) => {
    const content = text(document);
    if (document.endsWith('.md'))
      for (const code of inlineCodeOf(document)) t.equal(await problemOfInline(code), null, code);
    for (const [, method = '', path = ''] of content.matchAll(
      /`(GET|POST|PUT|PATCH|DELETE) (\/api\/[^\s`]+)/g,
    ))
      t.ok(isPath(method, path), `${method} ${path}`);
    for (const [name = ''] of content.matchAll(/\bTS_[A-Z0-9_]+/g)) {
      const found = name.endsWith('_')
        ? [...names].some((known) => known.startsWith(name)) // TS_LOGIN_*
        : names.has(name);
      t.ok(found || OTHER_SETTINGS.test(name), name);
    }
    for (const [, script = ''] of content.matchAll(/npm run (?:-s )?([a-z:]+)/g))
      t.ok(scripts[script], `npm run ${script}`);
    for (const [, link = ''] of content.matchAll(/\]\(([^)#:]+)\)/g))
      t.ok(existsSync(join(dirname(projectPath(document)), link)), `link to ${link}`);
  });

t.test('README is short', async (t) => {
  const lines = readFileSync(projectPath('README.md'), 'utf8').trimEnd().split('\n').length;
  t.ok(lines <= README_LINES_MAX, `${lines} lines`);
});

t.test('what is not there is found', async (t) => {
  t.notOk(isPath('GET', '/api/admin/nothing'));
  t.notOk(isPath('DELETE', '/api/admin/kill'));
  t.ok(isPath('GET', '/api/admin/export/…'));
  for (const wrong of [
    'traffic-share fly',
    'traffic-share ledger prove',
    'traffic-share backup --all',
    'npx other-program',
    'agent fly',
    'npm run fly',
    'node deploy/fly.mjs',
    'systemctl restart traffic-share-nothing',
    'systemctl fly traffic-share-gateway',
    'journalctl -u nothing',
    'kubectl apply -k deploy/nothing',
    'kubectl -n traffic-share rollout restart statefulset/nothing',
    'docker compose -f deploy/nothing.yml up',
    'deploy/install.sh --fly',
  ])
    t.type(await problemOfInline(wrong), 'string', wrong);
  for (const right of [
    'kubectl -n traffic-share rollout restart statefulset/gateway',
    'curl',
    'traffic-share agent pause',
  ])
    t.equal(await problemOfInline(right), null, right);
});
