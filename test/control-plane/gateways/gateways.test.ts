import t from 'tap';
import { writeGatewayPresence } from '../../../gateway/live/presence.js';
import { type GatewayPresence, runOf } from '../../../gateway/live/records.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('the fleet', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const call = (method: string, path: string, token = admin.token) => world.call(method, path, { token });
  const presence = (gatewayId: string, draining = false): GatewayPresence => ({
    gatewayId,
    epoch: 'a'.repeat(32),
    version: '1',
    startedAtMs: 1_790_000_000_000,
    tunnels: 3,
    streams: 5,
    draining,
  });
  t.same((await call('GET', '/api/admin/gateways')).body.items, []);
  await writeGatewayPresence(world.redis, presence('west'));
  await writeGatewayPresence(world.redis, presence('east', true));
  for (const [method, path] of [
    ['GET', '/api/admin/gateways'],
    ['POST', '/api/admin/gateways/west/drain'],
  ] as const) {
    t.equal((await world.call(method, path)).status, 401);
    t.equal((await call(method, path, user.token)).status, 403);
  }
  t.match((await call('GET', '/api/admin/gateways')).body.items, [
    { id: 'east', draining: true },
    {
      id: 'west',
      run: 'a'.repeat(24),
      tunnels: 3,
      streams: 5,
      draining: false,
      started_at: '2026-09-21T14:13:20.000Z',
    },
  ]);
  t.equal((await call('POST', '/api/admin/gateways/north/drain')).body.code, 'not_found');
  t.equal((await call('POST', '/api/admin/gateways/no%20id/drain')).status, 400);
  t.equal((await call('POST', '/api/admin/gateways/east/drain')).body.code, 'gateway_draining');
  const drained = await call('POST', '/api/admin/gateways/west/drain');
  t.match([drained.status, drained.body], [202, { id: 'west', run: runOf('a'.repeat(32)) }]);
  const commands = (await world.redis.xrange('ts:commands', '-', '+')) as [string, string[]][];
  t.same(
    commands.map(([, [, command]]) => JSON.parse(command ?? '')).filter(({ kind }) => kind === 'drain'),
    [{ kind: 'drain', gatewayId: 'west', run: 'a'.repeat(24) }],
  );
  const { rows } = await world.pool.query(
    `SELECT object_id, after FROM audit_log WHERE action = 'gateway_drained'`,
  );
  t.same(rows, [{ object_id: 'west', after: { run: 'a'.repeat(24) } }]);
});
