import t from 'tap';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { readClaim } from '../../../gateway/live/claims.js';
import { readPackageRoute } from '../../../gateway/live/store.js';
import { type ApiProcess, startApiProcesses } from '../../helpers/api-processes.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { addUser } from '../../helpers/money-world.js';

const env = { TS_API_REQUESTS_PER_MINUTE: '100000' };
const PACKAGES = 50;
const PULLS = 100;
/** A token may pull this often at once. */
const BURST = 5;

t.test('100 pulls of 50 packages at once, on two API processes', async (t) => {
  const world = await startWorld(t, { env });
  const apis = await startApiProcesses(t, 2, world, env);
  const { pool, redis, call } = world;
  const admin = await signedIn(world, 'admin');
  const asAdmin = (path: string, body: unknown) => call('POST', path, { token: admin.token, body });

  const tokens = await Promise.all(
    Array.from({ length: PULLS / BURST }, async () => {
      const { body: buyer } = await asAdmin('/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
      const { body: made } = await asAdmin(`/api/admin/buyers/${buyer.id}/tokens`, {});
      await asAdmin('/api/admin/credits', { buyer_id: buyer.id, amount: '10', reason: 'test' });
      await call('POST', '/api/buyer/accept_policy', { token: made.token });
      return made.token as string;
    }),
  );
  // Two providers on the same addresses. Each exit has three packages, of which one may be live at a time.
  const providers = [await addUser(pool), await addUser(pool)];
  const rows = providers.flatMap((userId) =>
    Array.from({ length: PACKAGES / 2 }, (_, i) => ({ user_id: userId, ip: `192.0.2.${i}`, size_bytes: 10 })),
  );
  t.equal((await asAdmin('/api/admin/packages/bulk_create', [...rows, ...rows, ...rows])).body.created, 150);

  /** Those of a provider and an exit that are live beside another one: none, ever. */
  const doubled = async () =>
    (
      await pool.query(
        `SELECT user_id, exit_ip FROM packages WHERE status IN ('allocated', 'in_progress')
          GROUP BY user_id, exit_ip HAVING count(*) > 1`,
      )
    ).rows;
  let running = true;
  let looks = 0;
  const watched = (async () => {
    while (running) {
      looks++;
      const found = await doubled();
      if (found.length > 0) return found;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return [];
  })();
  const answers = await Promise.all(
    Array.from({ length: PULLS }, (_, i) =>
      // By turns, and each buyer from both.
      (apis[(i + Math.floor(i / tokens.length)) % 2] as ApiProcess).post(
        '/api/buyer/packets/pull',
        tokens[i % tokens.length] as string,
        { max_count: 1 },
      ),
    ),
  );
  running = false;
  t.same(await watched, [], 'never two live packages on one provider and address');
  t.ok(looks > 1, `seen ${looks} times meanwhile`);

  const statuses = answers.map((a) => a.status);
  t.equal(statuses.filter((s) => s === 200).length, PACKAGES);
  t.equal(statuses.filter((s) => s === 204).length, PULLS - PACKAGES, 'the others get nothing, not an error');
  const got = answers.flatMap((a) => (a.status === 200 ? a.body.packages : []));
  t.equal(got.length, PACKAGES);
  t.equal(new Set(got.map((p) => p.uuid)).size, PACKAGES, 'each package once');
  t.equal(new Set(got.map((p) => `${p.user_id} ${p.ip}`)).size, PACKAGES, 'each exit once');
  for (const p of got) {
    const route = await readPackageRoute(redis, p.uuid);
    t.equal(route?.exitIp, p.ip, 'the gateways find it');
    t.equal((await readClaim(redis, p.user_id, p.ip))?.allocationId, route?.allocationId, 'under one claim');
  }
  const { rows: allocations } = await pool.query(
    `SELECT count(*)::int AS n, count(DISTINCT package_id)::int AS packages FROM allocations`,
  );
  t.same(allocations, [{ n: PACKAGES, packages: PACKAGES }]);
  const { rows: live } = await pool.query(
    `SELECT count(*)::int AS n, count(DISTINCT (user_id, exit_ip))::int AS exits
       FROM packages WHERE status IN ('allocated', 'in_progress')`,
  );
  t.same(live, [{ n: PACKAGES, exits: PACKAGES }], 'in the record as well');
  t.same(await doubled(), []);
  t.same(await invariants(pool), []);
});
