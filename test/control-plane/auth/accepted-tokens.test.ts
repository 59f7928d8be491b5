import t from 'tap';
import { AcceptedTokens } from '../../../control-plane/auth/accepted-tokens.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('what is remembered, for how long and for whom', async (t) => {
  const clock = new ManualClock(0);
  const tokens = new AcceptedTokens(500, clock);
  const actor = { role: 'buyer', buyerId: 'b', tokenId: 't', scopes: [] } as const;
  t.equal(tokens.get('token', '192.0.2.1'), null);
  tokens.accept('token', '192.0.2.1', { ...actor, scopes: [] }, null);
  tokens.accept('short', '192.0.2.1', { ...actor, scopes: [] }, 100);
  t.match(tokens.get('token', '192.0.2.1'), actor);
  t.equal(tokens.get('token', '192.0.2.2'), null, 'from this address alone');
  clock.advance(100);
  t.equal(tokens.get('short', '192.0.2.1'), null, 'not beyond its own end');
  clock.advance(399);
  t.match(tokens.get('token', '192.0.2.1'), actor);
  clock.advance(1);
  t.equal(tokens.get('token', '192.0.2.1'), null);
  tokens.accept('token', '192.0.2.1', { ...actor, scopes: [] }, null);
  tokens.forget();
  t.equal(tokens.get('token', '192.0.2.1'), null);
  const off = new AcceptedTokens(0, clock);
  off.accept('token', '192.0.2.1', { ...actor, scopes: [] }, null);
  t.equal(off.get('token', '192.0.2.1'), null);
});

t.test('a revoked token', async (t) => {
  const clock = new ManualClock(Date.now());
  const env = { TS_AUTH_CACHE_MS: '1000' };
  const world = await startWorld(t, { env, clock });
  const other = await startWorld(t, { env, clock, share: world });
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const me = (w: typeof world, token = user.token) => w.call('GET', '/api/user/me', { token });
  t.same([(await me(world)).status, (await me(other)).status], [200, 200]);
  t.equal((await world.call('POST', '/api/auth/logout', { token: user.token })).status, 200);
  t.equal((await me(world)).status, 401, 'at once where it was revoked');
  clock.advance(1_000);
  t.equal((await me(other)).status, 401, 'within a second elsewhere');

  const { body: buyer } = await world.call('POST', '/api/admin/buyers', {
    token: admin.token,
    body: { name: 'B' },
  });
  const path = `/api/admin/buyers/${buyer.id}/tokens`;
  const { body: made } = await world.call('POST', path, { token: admin.token, body: {} });
  const self = (w: typeof world) => w.call('GET', '/api/buyer/me', { token: made.token });
  t.same([(await self(world)).status, (await self(other)).status], [200, 200]);
  await world.call('POST', `/api/admin/tokens/${made.id}/revoke`, { token: admin.token });
  t.equal((await self(world)).status, 401);
  clock.advance(1_000);
  t.equal((await self(other)).status, 401);
});
