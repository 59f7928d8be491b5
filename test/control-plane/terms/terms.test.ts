import t from 'tap';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('the terms as text', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const admin = await signedIn(world, 'admin');
  const read = async (query = '') => (await world.call('GET', `/api/terms${query}`)).body;
  const write = (version: string, word: string) => {
    const text = (language: string) => ({ title: `Terms ${language}`, body: `${word} in ${language}` });
    const body = { texts: { en: text('en'), ru: text('ru'), uz: text('uz') } };
    return world.call('PUT', `/api/admin/terms/${version}`, { token: admin.token, body });
  };
  const force = (terms_version: string) =>
    world.call('PATCH', '/api/admin/settings', { token: admin.token, body: { terms_version } });
  const accept = (terms_version: string) =>
    world.call('POST', '/api/user/consent', { token: user.token, body: { terms_version } });

  await t.test('what the program brings along, to everyone, in each language', async (t) => {
    const [en, ru, uz] = await Promise.all(['', '?language=ru', '?language=uz'].map(read));
    t.match(en, { version: '1', language: 'en', in_force: true, body: /consent withdraw/ });
    t.match(ru, { version: '1', language: 'ru', body: /IP-адрес/ });
    t.match(uz, { version: '1', language: 'uz', body: /IP-manzil/ });
    t.equal((await world.call('GET', '/api/terms?version=7')).status, 404);
    t.equal((await world.call('GET', '/api/terms?language=de')).status, 400);
  });

  await t.test('a version’s own text, before it is in force and after', async (t) => {
    t.equal((await write('2', 'first')).status, 200);
    t.equal((await write('2', 'second')).status, 200, 'while nobody accepted it, it may change');
    t.match(await read('?version=2&language=ru'), { body: 'second in ru', in_force: false });
    t.match(await read(), { version: '1' });
    await force('2');
    t.match(await read('?language=uz'), { version: '2', body: 'second in uz', in_force: true });
    const { rows } = await world.pool.query(
      "SELECT object_id, after->'texts'->'en'->>'body' AS body FROM audit_log WHERE action = 'terms_written' ORDER BY id",
    );
    t.same(rows, [
      { object_id: '2', body: 'first in en' },
      { object_id: '2', body: 'second in en' },
    ]);
  });

  await t.test('what somebody accepted stays as they read it', async (t) => {
    t.equal((await accept('2')).status, 200);
    t.match((await write('2', 'third')).body, { status: 409, code: 'terms_accepted' });
    t.equal((await write('3', 'third')).status, 200);
    await force('3');
    await world.call('DELETE', '/api/user/consent', { token: user.token });
    t.equal((await write('2', 'third')).status, 409, 'withdrawn or not');
    t.match(await read('?version=2'), { body: 'second in en', in_force: false });
  });
});
