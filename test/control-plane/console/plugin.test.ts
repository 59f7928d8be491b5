/** How the console's pages are served: policy, caching, compression, and what is not theirs. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import Fastify, { type FastifyInstance } from 'fastify';
import t, { type Test } from 'tap';
import { consolePlugin } from '../../../control-plane/console/plugin.js';
import { createLog } from '../../../gateway/runtime/logging.js';

const SCRIPT = 'export const long = "x";\n'.repeat(100);

async function served(t: Test, built: boolean) {
  const warnings: unknown[] = [];
  const log = createLog('test', 'silent');
  log.warn = ((fields: unknown, event: unknown) => warnings.push([event, fields])) as typeof log.warn;
  const publicDir = t.testdir(built ? { 'index.html': '<!doctype html><title>console</title>' } : {});
  if (built) {
    mkdirSync(join(publicDir, 'assets'));
    writeFileSync(join(publicDir, 'assets/main-1a2b3c.js'), SCRIPT);
    writeFileSync(join(publicDir, 'assets/main-1a2b3c.js.gz'), gzipSync(SCRIPT));
    writeFileSync(join(publicDir, 'secret.txt'), 'not an asset');
  }
  const app: FastifyInstance = Fastify();
  await app.register(consolePlugin, {
    log,
    publicDir,
    signIn: { botId: '42', botUsername: 'bot', oauthUrl: 'https://oauth.telegram.org' },
  });
  t.teardown(() => app.close());
  return { app, warnings };
}

t.test('pages: never cached without asking, strict policy, a frame only for the Mini App', async (t) => {
  const { app } = await served(t, true);
  for (const [url, ancestors] of [
    ['/', "'none'"],
    ['/signin/buyer', "'none'"],
    ['/provider/traffic/1', "'none'"],
    ['/admin', "'none'"],
    ['/app', 'https://web.telegram.org'],
  ] as const) {
    const { statusCode, headers, body } = await app.inject({ url });
    t.equal(statusCode, 200, url);
    t.match(body, /console/);
    t.equal(headers['cache-control'], 'no-cache');
    const policy = String(headers['content-security-policy']);
    t.ok(policy.includes(`frame-ancestors ${ancestors};`), `${url} frames: ${ancestors}`);
    t.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/);
    t.notMatch(policy, /unsafe|data:|\*/);
  }
});

t.test('assets: for good, compressed as the client takes them; nothing else of the folder', async (t) => {
  const { app } = await served(t, true);
  const url = '/assets/main-1a2b3c.js';
  const gzipped = await app.inject({ url, headers: { 'accept-encoding': 'gzip, deflate' } });
  t.equal(gzipped.statusCode, 200);
  t.equal(gzipped.headers['content-encoding'], 'gzip');
  t.match(gzipped.headers['content-type'], /javascript/);
  t.equal(gzipped.headers['cache-control'], 'public, max-age=31536000, immutable');
  t.match(gzipped.headers.vary, /accept-encoding/i);
  const plain = await app.inject({ url });
  t.equal(plain.headers['content-encoding'], undefined);
  t.equal(plain.body, SCRIPT);
  for (const other of [
    '/assets/gone.js',
    '/assets/../secret.txt',
    '/assets/..%2fsecret.txt',
    '/secret.txt',
    '/api/x',
  ])
    t.equal((await app.inject({ url: other })).statusCode, 404, `${other} is not there`);
});

t.test('not built: the pages say what to do', async (t) => {
  const { app } = await served(t, false);
  const { statusCode, body } = await app.inject({ url: '/' });
  t.equal(statusCode, 404);
  t.match(body, /npm run build/);
  t.equal((await app.inject({ url: '/console.json' })).statusCode, 200);
});

t.test('what the policy refused is logged, without queries; what is no report is nothing', async (t) => {
  const { app, warnings } = await served(t, true);
  const report = (type: string, payload: string) =>
    app.inject({ method: 'POST', url: '/console-reports', headers: { 'content-type': type }, payload });
  const old = await report(
    'application/csp-report',
    JSON.stringify({
      'csp-report': {
        'effective-directive': 'script-src-elem',
        'blocked-uri': 'https://evil.example/x.js?token=abc',
        'document-uri': 'https://console.example/provider?secret=1',
      },
    }),
  );
  t.equal(old.statusCode, 204);
  const one = {
    type: 'csp-violation',
    body: { effectiveDirective: 'img-src', blockedURL: 'inline', documentURL: 'x' },
  };
  t.equal((await report('application/reports+json', JSON.stringify(Array(50).fill(one)))).statusCode, 204);
  t.equal(warnings.length, 11, 'at most ten of one request');
  t.match(warnings[0], [
    'content_policy_violation',
    {
      directive: 'script-src-elem',
      blocked: 'https://evil.example/x.js',
      document: 'https://console.example/provider',
    },
  ]);
  for (const nothing of ['null', '[]', '[null,3]', '{"csp-report":7}', '"text"'])
    t.equal((await report('application/csp-report', nothing)).statusCode, 204, nothing);
  t.equal(warnings.length, 11);
  t.equal((await report('application/csp-report', '{')).statusCode, 400);
  t.equal((await report('application/csp-report', `"${'x'.repeat(20_000)}"`)).statusCode, 413);
});
