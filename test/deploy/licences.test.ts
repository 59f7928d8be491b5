/** What is shipped: its licences, and its list of parts. */
import { readFile } from 'node:fs/promises';
import t from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { runProgram } from '../helpers/programs.js';

interface Shipped {
  name: string;
  licence: string | null;
  allowed: boolean;
}

t.test('licences of what is shipped are on the list', async (t) => {
  const ran = await runProgram(process.execPath, [projectPath('deploy/licences.mjs'), '--json']);
  t.match(ran, { code: 0, err: '' }, ran.err);
  const list = JSON.parse(ran.out) as Shipped[];
  t.same(
    list.filter(({ allowed }) => !allowed),
    [],
  );
  const { dependencies, devDependencies } = JSON.parse(
    await readFile(projectPath('package.json'), 'utf8'),
  ) as Record<string, Record<string, string>>;
  const names = new Set(list.map(({ name }) => name));
  for (const name of Object.keys(dependencies ?? {})) t.ok(names.has(name), `${name} is shipped`);
  for (const name of ['tap', 'vite', '@biomejs/biome']) {
    t.ok(devDependencies?.[name]);
    t.notOk(names.has(name), `${name} is not`);
  }
});

t.test('a licence that is not on the list is found', async (t) => {
  const { shippedLicences } = (await import(projectPath('deploy/licences.mjs'))) as {
    shippedLicences(lock: object): Shipped[];
  };
  const packages = {
    '': { license: 'MIT' },
    'node_modules/good': { version: '1.0.0', license: 'MIT' },
    'node_modules/good/node_modules/bad': { version: '2.0.0', license: 'AGPL-3.0-only' },
    'node_modules/none': { version: '1.0.0' },
    'node_modules/tool': { version: '1.0.0', license: 'GPL-3.0-only', dev: true },
  };
  t.same(
    shippedLicences({ packages }).map(({ name, allowed }) => [name, allowed]),
    [
      ['bad', false],
      ['good', true],
      ['none', false],
    ],
  );
});

t.test('npm run sbom', async (t) => {
  const env = { npm_config_update_notifier: 'false' };
  const ran = await runProgram('npm', ['run', '-s', 'sbom', '--prefix', projectPath('.')], { env });
  t.match(ran, { code: 0 }, ran.err);
  const { bomFormat, components } = JSON.parse(ran.out) as {
    bomFormat: string;
    components: { name: string }[];
  };
  t.equal(bomFormat, 'CycloneDX');
  t.ok(components.some(({ name }) => name === 'pg'));
  t.notOk(components.some(({ name }) => name === 'tap'));
});
