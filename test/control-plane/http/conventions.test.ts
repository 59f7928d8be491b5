import t from 'tap';
import { startWorld } from '../../helpers/control-plane.js';
t.test('x', async (t) => {
  const w = await startWorld(t);
  console.error(await w.call('GET', '/api/system/ready'));
  console.error(await w.call('GET', '/api/system/version'));
  console.error(await w.call('POST', '/api/auth/register', {body:{telegram_id:'5', zz:1}}));
  console.error(await w.call('POST', '/api/auth/register', {body:{telegram_id:5}}));
  console.error(w.codes);
  const d = await w.call('GET', '/openapi.json');
  console.error(d.status, Object.keys(d.body.paths));
  t.ok(true);
});
