/** What the operators' documents name is there: commands, calls of the API, settings, files. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { openApiDocument } from '../../deploy/commands/openapi.js';
import { allSettings } from '../../deploy/commands/settings.js';
import { projectPath } from '../../gateway/runtime/project-path.js';

const DOCUMENTS = [
  'CONTRIBUTING.md',
  'deploy/OPERATING.md',
  'deploy/RUNBOOK.md',
  'deploy/SECURITY.md',
  'deploy/backups.md',
  'deploy/kubernetes/migrate.yaml',
  'deploy/compose/compose.yml',
];
const text = (path: string) => readFileSync(projectPath(path), 'utf8').replace(/\n\s*/g, ' ');
const { paths } = (await openApiDocument()) as { paths: Record<string, Record<string, unknown>> };
const settings = allSettings().flatMap(({ settings }) => settings);
const names = new Set(settings.flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name])));
const commands = new Set(
  [...text('deploy/cli.ts').matchAll(/\.command\('([a-z-]+)'\)/g)].map(([, name = '']) => name),
);

/** Whether the documents' way of writing a path is one of the API: `…` stands for any end. */
function isPath(method: string, written: string): boolean {
  const wanted = written.split('?')[0] ?? '';
  return Object.entries(paths).some(
    ([path, methods]) =>
      method.toLowerCase() in methods &&
      (wanted.endsWith('/…')
        ? path.startsWith(wanted.slice(0, -1))
        : path.replace(/\{\w+\}/g, '{}') === wanted.replace(/\{\w+\}/g, '{}')),
  );
}

for (const document of DOCUMENTS)
  t.test(document, async (t) => {
    const content = text(document);
    for (const [, command = ''] of content.matchAll(/`traffic-share ([a-z-]+)/g))
      t.ok(commands.has(command), `traffic-share ${command}`);
    for (const [, method = '', path = ''] of content.matchAll(
      /`(GET|POST|PUT|PATCH|DELETE) (\/api\/[^\s`]+)/g,
    ))
      t.ok(isPath(method, path), `${method} ${path}`);
    for (const [name = ''] of content.matchAll(/\bTS_[A-Z0-9_]+/g)) {
      const found = name.endsWith('_')
        ? [...names].some((known) => known.startsWith(name)) // TS_LOGIN_*
        : names.has(name) || /^TS_(TEST|IMAGE_TAG)/.test(name);
      t.ok(found, name);
    }
    for (const [, script = ''] of content.matchAll(/npm run ([a-z:]+)/g))
      t.ok(
        JSON.parse(readFileSync(projectPath('package.json'), 'utf8')).scripts[script],
        `npm run ${script}`,
      );
    // comes with the rules that it explains
    for (const [, link = ''] of content.matchAll(/\]\(([^)#:]+)\)/g))
      if (link !== 'RUNBOOK-ALERTS.md')
        t.ok(existsSync(join(dirname(projectPath(document)), link)), `link to ${link}`);
  });

t.test('what is not there is found', async (t) => {
  t.notOk(isPath('GET', '/api/admin/nothing'));
  t.notOk(isPath('DELETE', '/api/admin/kill'));
  t.ok(isPath('GET', '/api/admin/export/…'));
  t.notOk(commands.has('fly'));
});
