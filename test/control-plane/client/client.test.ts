import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { ApiProblem, createApiClient, must } from '../../../control-plane/client/client.js';
import { openApiDocument } from '../../../deploy/commands/openapi.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { initData, newTelegramId, signedIn, startWorld } from '../../helpers/control-plane.js';
import { operationsOf } from '../../helpers/openapi.js';

t.setTimeout(120_000);

t.test('the types are those of the document', async (t) => {
  const script = projectPath('deploy/generate-client.mjs');
  const ended = await promisify(execFile)(process.execPath, [script, '--check']).then(
    () => 'up to date',
    (error: { stderr: string }) => error.stderr,
  );
  t.equal(ended, 'up to date');
});

t.test('the document needs no services, and is the one that is served', async (t) => {
  const { call } = await startWorld(t);
  const calls = (document: object) => operationsOf(document).map((o) => o.call);
  t.same(calls(await openApiDocument()), calls((await call('GET', '/openapi.json')).body));
});

t.test('calls', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const client = createApiClient({ url: world.url, token: user.token });
  const me = await must(client.GET('/api/user/me'));
  t.equal(me.id, user.userId);
  const changed = await must(client.PATCH('/api/profile', { body: { language: 'uz' } }));
  t.equal(changed.language, 'uz');
  const list = await must(client.GET('/api/sessions', { params: { query: { limit: 5, status: 'active' } } }));
  t.same(list.items, []);
  const { error, response } = await client.GET('/api/sessions/{id}', {
    params: { path: { id: user.loginId } },
  });
  t.match([response.status, error?.code], [404, 'not_found'], 'a problem document');
  await t.rejects(must(client.POST('/api/promo/redeem', { body: { code: 'NOBODYS' } })), {
    name: 'ApiProblem',
    status: 422,
    code: 'unknown_promo_code',
    message: /\/api\/promo\/redeem answered 422 unknown_promo_code/,
  });

  const miniApp = createApiClient({
    url: world.url,
    headers: { 'x-telegram-init-data': initData({ id: newTelegramId() }) },
  });
  t.ok((await must(miniApp.GET('/api/user/me'))).is_verified, 'signed in by a header');
  const broken = createApiClient({
    url: world.url,
    fetch: async () => new Response('<html>', { status: 502 }),
  });
  await t.rejects(
    broken.GET('/api/system/version').then((answer) => must(Promise.resolve(answer))),
    ApiProblem,
  );
});
