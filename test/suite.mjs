// Runs compiled test files, several at once, and prints the TAP of them all. Each is a plain Node process: what tap's own
// runner loads into every one of them, for coverage, costs two seconds of processor time each, and the same in each of
// their children. Arguments: --jobs=N, --timeout=SECONDS of a file that does not ask for more, and the files.
import { parseArgs } from 'node:util';
import { t } from 'tap';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { jobs: { type: 'string', default: '3' }, timeout: { type: 'string', default: '180' } },
});
const jobs = Number(values.jobs);
const timeout = Number(values.timeout);
// Many tests wait more than they work: three at once fill two cores.
t.jobs = jobs;
t.setTimeout(0);

for (const file of positionals) {
  // `env`, because tap puts its loaders into NODE_OPTIONS of what it starts
  t.spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, '--enable-source-maps', file], {
    name: file,
    at: null,
    stack: '',
    buffered: jobs > 1,
    timeout: timeout * 1_000,
    env: { ...process.env, TAP_TIMEOUT: String(timeout) },
  });
}
