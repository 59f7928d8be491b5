import { existsSync, readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { projectPath } from '../gateway/runtime/project-path.js';
import * as rules from './architecture/rules.js';
import { readSources, type SourceFile } from './architecture/source-file.js';

/** Files that stay longer than the limit, each with its reason. */
const LONG_FILES: Readonly<Record<string, string>> = {};

const root = projectPath('.');
const files = readSources(root);
const manifest = JSON.parse(readFileSync(projectPath('package.json'), 'utf8')) as Record<
  'dependencies' | 'devDependencies' | 'optionalDependencies',
  Record<string, string>
>;
const runtimePackages = new Set(Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }));

const sample = (path: string, text: string): SourceFile => ({ path, text });

/** A rule holds for the project, and refuses each bad sample by exactly one sentence. */
function rule(
  name: string,
  check: (files: readonly SourceFile[]) => string[],
  bad: readonly (SourceFile | SourceFile[])[],
  good: readonly SourceFile[] = [],
): void {
  t.test(name, async (t: Test) => {
    t.same(check(files), [], 'the project');
    for (const one of bad) {
      const samples = Array.isArray(one) ? one : [one];
      t.equal(check(samples).length, 1, `refused: ${samples.map((s) => `${s.path}: ${s.text}`).join(' + ')}`);
    }
    t.same(check(good), [], 'good samples');
  });
}

t.test('the sources are found', async (t) => {
  for (const room of ['gateway', 'control-plane', 'agent-protocol', 'deploy'])
    t.ok(
      files.some(({ path }) => path.startsWith(`${room}/`)),
      room,
    );
  t.ok(files.some(({ path }) => path === 'gateway/live/keys.ts'));
  t.notOk(files.some(({ path }) => path.includes('node_modules')));
});

rule(
  'who may import whom',
  (files) => rules.forbiddenImports(files, runtimePackages),
  [
    sample('gateway/relay/a.ts', "import { x } from '../listeners/b.js';"),
    sample('gateway/metering/a.ts', "import type { X } from '../relay/b.js';"),
    sample('gateway/tunnels/a.ts', "import type { Gateway } from '../gateway.js';"),
    sample('gateway/live/a.ts', "export * from '../buyers/b.js';"),
    sample('gateway/live/a.ts', "import type { X } from '../../agent-protocol/frame.js';"),
    sample('gateway/runtime/a.ts', "import { x } from '../live/keys.js';"),
    sample('gateway/listeners/a.ts', "import { x } from '../../control-plane/errors.js';"),
    sample('gateway/listeners/a.ts', "import { x } from '../../test/helpers/services.js';"),
    sample('gateway/listeners/a.ts', "import t from 'tap';"),
    sample('control-plane/buyers/a.ts', "import { x } from '../../gateway/relay/b.js';"),
    sample('control-plane/buyers/a.ts', "const x = await import('../../agent-protocol/session.js');"),
    sample('control-plane/buyers/a.ts', "let x: import('../../gateway/errors.js').ProxyErrorCode;"),
    sample('agent-protocol/a.ts', "import { liveKeys } from '../gateway/live/keys.js';"),
    sample('agent-protocol/agent/a.ts', "import pg from 'pg';"),
    sample('deploy/a.ts', "import { x } from '../test/helpers/services.js';"),
    sample('control-plane/console/web/a.tsx', "import { problems } from '../../errors.js';"),
    sample('control-plane/console/web/a.tsx', "import { createHash } from 'node:crypto';"),
    sample('control-plane/console/web/a.tsx', "import pg from 'pg';"),
    sample('control-plane/console/plugin.ts', "import { x } from './web/parts/table.js';"),
    sample('deploy/a.ts', "import { x } from '../control-plane/console/web/main.js';"),
  ],
  [
    sample(
      'control-plane/console/web/parts/a.tsx',
      "import { h } from 'preact/hooks';\nimport { x } from '../b.js';",
    ),
    sample('control-plane/console/web/api/a.ts', "import { x } from '../../../client/client.js';"),
    sample('gateway/listeners/a.ts', "import { x } from '../metering/b.js';\nimport net from 'net';"),
    sample('gateway/gateway.ts', "import { x } from './listeners/b.js';"),
    sample(
      'control-plane/buyers/a.ts',
      "import { x } from '../../gateway/live/keys.js';\nimport pg from 'pg';",
    ),
    sample('agent-protocol/a.ts', "import WebSocket from 'ws';\nimport { pack } from 'msgpackr/pack';"),
  ],
);

rule(
  'no circles between files',
  rules.importCycles,
  [
    [
      sample('gateway/relay/a.ts', "import { b } from './b.js';"),
      sample('gateway/relay/b.ts', "import { c } from './c.js';"),
      sample('gateway/relay/c.ts', "export { a } from './a.js';"),
    ],
    sample('gateway/relay/self.ts', "import { x } from './self.js';"),
    [
      sample('control-plane/console/web/a.tsx', "import { b } from './b.js';"),
      sample('control-plane/console/web/b.tsx', "import { a } from './a.js';"),
    ],
  ],
  [
    sample('gateway/relay/a.ts', "import { b } from './b.js';"),
    sample('gateway/relay/b.ts', "import type { A } from './a.js';"),
  ],
);

for (const room of ['control-plane', 'gateway', 'agent-protocol'])
  rule(`no circles between the folders of ${room}`, (files) => rules.folderCycles(files, room), [
    [
      sample(`${room}/one/a.ts`, "import { b } from '../two/b.js';"),
      sample(`${room}/two/c.ts`, "import type { D } from '../one/d.js';"),
    ],
  ]);

rule(
  'the environment is read in config.ts only',
  rules.environmentReads,
  [sample('gateway/relay/a.ts', 'export const x = () => process.env.X;')],
  [sample('gateway/config.ts', 'export const x = process.env;'), sample('gateway/a.ts', '// process.env\n')],
);

rule(
  'importing a module does nothing',
  rules.importSideEffects,
  [
    sample('control-plane/db/a.ts', 'pg.types.setTypeParser(20, BigInt);'),
    sample('control-plane/db/a.ts', 'if (x) y();'),
    sample('gateway/relay/a.ts', 'await start();'),
  ],
  [
    sample('gateway/main.ts', 'await start();'),
    sample('gateway/a.ts', 'const x = new Map();\nexport { x };'),
  ],
);

rule(
  'only the ledger writes ledger tables',
  rules.ledgerWrites,
  [
    sample('control-plane/payouts/a.ts', 'q(`INSERT INTO ledger_entries (a) VALUES (1)`)'),
    sample('control-plane/payouts/a.ts', 'q("update  ledger_accounts set x = 1")'),
    sample('control-plane/settlement/a.ts', 'q(`WITH a AS (\n  DELETE\n  FROM ledger_entries) SELECT 1`)'),
    sample('gateway/relay/a.ts', 'q(`TRUNCATE ledger_entries`)'),
  ],
  [
    sample('control-plane/ledger/post.ts', 'q(`INSERT INTO ledger_entries (a) VALUES (1)`)'),
    sample('control-plane/payouts/a.ts', 'q(`SELECT sum(amount) FROM ledger_entries FOR UPDATE`)'),
  ],
);

rule(
  'Redis keys are built in gateway/live/keys.ts only',
  (files) => rules.redisKeysElsewhere(files, 'ts:'),
  [
    sample('control-plane/buyers/a.ts', "redis.get('ts:account:{x}')"),
    sample('gateway/tunnels/a.ts', 'redis.get(`ts:device:\x24{id}`)'),
  ],
  [sample('gateway/live/keys.ts', "const PREFIX = 'ts:';"), sample('gateway/a.ts', "const x = 'units: ms';")],
);

rule(
  'no files named after nothing',
  rules.emptyNames,
  ['gateway/utils.ts', 'control-plane/http/util.ts', 'gateway/tunnels/tunnel-manager.ts'].map((path) =>
    sample(path, ''),
  ),
  [sample('gateway/tunnels/tunnel-table.ts', '')],
);

rule('files of one idea', (files) => rules.longFiles(files, LONG_FILES), [
  sample('gateway/relay/a.ts', 'x;\n'.repeat(451)),
]);

t.test('every dependency is explained in ARCHITECTURE.md', async (t) => {
  const path = projectPath('ARCHITECTURE.md');
  const document = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
  t.same(rules.unnamedDependencies(names, document), []);
  t.same(rules.unnamedDependencies(['ws', 'pg'], 'The `ws` package; pgledger is not pg.').length, 1);
});
