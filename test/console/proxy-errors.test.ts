import { readFileSync } from 'node:fs';
import t from 'tap';
import { proxyErrors } from '../../gateway/errors.js';
import { projectPath } from '../../gateway/runtime/project-path.js';

t.test('the console tells what to do about every code of the proxy', async (t) => {
  const source = readFileSync(projectPath('control-plane/console/web/buyer/proxy-errors.ts'), 'utf8');
  const told = [...source.matchAll(/^ {2}([A-Z_]+): \{/gm)].map(([, code]) => code);
  t.same(told.sort(), [...Object.keys(proxyErrors), 'PROXY_UNREACHABLE'].sort());
});
