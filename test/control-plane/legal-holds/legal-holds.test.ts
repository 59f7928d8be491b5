/** Legal holds: who may set and lift them, and that retention leaves alone what they keep, and nothing else. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { legalHoldConditions } from '../../../control-plane/legal-holds/legal-holds.js';
import { makeUsagePartition, UsageRetention } from '../../../control-plane/usage/partitions.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { addBuyer, addSession, addUser } from '../../helpers/money-world.js';

t.test('legal holds', async (t) => {
  const world = await startWorld(t);
  const { pool } = world;
  const [first, second, third] = await Promise.all([1, 2, 3].map(() => signedIn(world, 'admin')));
  const call = (who: typeof first, method: string, path: string, body?: object) =>
    world.call(method, path, { token: who?.token as string, ...(body && { body }) });
  const [held, other, also] = await Promise.all([addBuyer(pool), addBuyer(pool), addBuyer(pool)]);
  const provider = await signedIn(world);
  const theirs = await addSession(pool, provider.userId);
  const others = await addSession(pool, await addUser(pool));

  /** One row of the buyer on the session, so many days ago. */
  async function row(buyerId: string, { sessionId, userId }: typeof theirs, daysAgo: number): Promise<void> {
    const { rows } = await pool.query<{ day: string }>(
      "SELECT ((now() AT TIME ZONE 'UTC')::date - $1::int)::text AS day",
      [daysAgo],
    );
    const day = rows[0]?.day as string;
    await makeUsagePartition(pool, day);
    await pool.query(
      `INSERT INTO destination_usage (day, session_id, allocation_id, buyer_id, user_id, exit_ip, country, host, port,
                                      bytes_up, bytes_down, streams, first_at, last_at)
       VALUES ($1::date, $2, gen_random_uuid(), $3, $4, '198.51.100.1', 'DE', 'kept.example', 443, 1, 1, 1, $1::date, $1::date)`,
      [day, sessionId, buyerId, userId],
    );
  }
  const retention = new UsageRetention({ pool, log: silentLog, retentionDays: () => 90 });
  const kept = async () =>
    (
      await pool.query<{ buyer_id: string; user_id: string; age: number }>(
        `SELECT buyer_id, user_id, (now() AT TIME ZONE 'UTC')::date - day AS age FROM destination_usage ORDER BY age`,
      )
    ).rows.map(({ buyer_id, user_id, age }) => `${buyer_id} ${user_id} ${age}`);
  const everything = async () => {
    for (const age of [10, 95, 400]) {
      await row(held, others, age);
      await row(other, others, age);
      await row(also, theirs, age);
    }
  };
  const ask = (body: object, who = first) => call(who, 'POST', '/api/admin/legal_holds', body);

  t.match(await ask({ buyer_id: randomUUID(), reason: 'x' }), { status: 404 });
  for (const bad of [
    { reason: 'x' },
    { buyer_id: held, user_id: provider.userId, reason: 'x' },
    { buyer_id: held },
  ])
    t.equal((await ask(bad)).status, 400, JSON.stringify(bad));
  t.equal((await call(provider as typeof first, 'GET', '/api/admin/legal_holds')).status, 403);

  const ofBuyer = await ask({ buyer_id: held, reason: 'Case 1' });
  t.match(ofBuyer, {
    status: 201,
    body: { state: 'asked', buyer_id: held, user_id: null, asked_by: first?.userId },
  });
  const ofProvider = await ask({ user_id: provider.userId, reason: 'Case 2' });
  t.match(ofProvider, { status: 201, body: { state: 'asked', user_id: provider.userId } });
  const hold = ofBuyer.body.id;

  await t.test('what is held stays from the first moment, months and days; all else goes', async (t) => {
    await everything();
    await retention.runOnce();
    const both = [95, 400].flatMap((age) => [
      `${held} ${others.userId} ${age}`,
      `${also} ${provider.userId} ${age}`,
    ]);
    const young = [
      `${held} ${others.userId} 10`,
      `${other} ${others.userId} 10`,
      `${also} ${provider.userId} 10`,
    ];
    t.same((await kept()).sort(), [...young, ...both].sort());
    t.same(await retention.runOnce(), { months: 0, rows: 0 });
  });

  await t.test('only admins are shown what is kept for longer than usual', async (t) => {
    const from = new Date(Date.now() - 500 * 86_400_000).toISOString();
    const admins = await call(first, 'GET', `/api/admin/destinations?from=${from}&buyer_id=${held}`);
    t.equal(admins.body.items.length, 3);
    const day = from.slice(0, 10);
    const own = await call(provider as typeof first, 'GET', `/api/traffic/destinations?from=${day}`);
    t.equal(own.body.items.length, 1, 'not that there is a hold');
    const history = await call(
      provider as typeof first,
      'GET',
      `/api/traffic/history?session_id=${theirs.sessionId}`,
    );
    t.match(history.body.items[0], { destination_count: 1, destinations: [{ streams: 1 }] });
    const usage = await call(first, 'GET', `/api/admin/buyers/${held}/usage?from=${day}&group_by=day`);
    t.equal(usage.body.items.length, 1);
  });

  await t.test('two admins', async (t) => {
    const confirm = (who: typeof first) => call(who, 'POST', `/api/admin/legal_holds/${hold}/confirm`);
    t.match(await legalHoldConditions(pool), [{ key: 'legal_hold_waits' }], 'admins are told');
    t.match(await confirm(first), { status: 403, body: { code: 'second_admin_needed' } });
    t.match(await confirm(second), {
      status: 200,
      body: { state: 'in_force', confirmed_by: second?.userId },
    });
    t.match(await confirm(third), { status: 409, body: { code: 'legal_hold_state' } });

    const lift = (who: typeof first) =>
      call(who, 'POST', `/api/admin/legal_holds/${hold}/lift`, { reason: 'case closed' });
    t.match(await lift(second), {
      status: 200,
      body: { state: 'lift_asked', lift_asked_by: second?.userId },
    });
    t.match(await lift(second), { status: 200, body: { state: 'lift_asked' } }, 'one admin stays one');
    await retention.runOnce();
    t.ok(
      (await kept()).some((one) => one.startsWith(`${held} `) && one.endsWith(' 400')),
      'in force still',
    );
    await pool.query('UPDATE users SET is_admin = false WHERE id = $1', [second?.userId]);
    t.match(await lift(third), { body: { state: 'lift_asked' } }, 'who is no admin any more has not asked');
    t.match(await lift(first), { status: 200, body: { state: 'lifted', lifted_by: first?.userId } });
    t.match(await lift(third), { status: 409, body: { code: 'legal_hold_state' } });
    await retention.runOnce();
    t.same(
      (await kept()).filter((one) => one.startsWith(`${held} `)).map((one) => one.split(' ')[2]),
      ['10'],
    );
    t.ok(
      (await kept()).some((one) => one.endsWith(' 400')),
      "the provider's stay",
    );
  });

  await t.test('without a second admin it lapses', async (t) => {
    await pool.query('ALTER TABLE legal_holds DISABLE TRIGGER go_forward');
    await pool.query("UPDATE legal_holds SET lapses_at = now() - interval '1 second' WHERE id = $1", [
      ofProvider.body.id,
    ]);
    await pool.query('ALTER TABLE legal_holds ENABLE TRIGGER go_forward');
    const { body } = await call(first, 'GET', `/api/admin/legal_holds?user_id=${provider.userId}`);
    t.match(body.items, [{ state: 'lapsed', reason: 'Case 2' }]);
    t.match(await call(third, 'POST', `/api/admin/legal_holds/${ofProvider.body.id}/confirm`), {
      status: 409,
    });
    t.same(await legalHoldConditions(pool), []);
    t.ok((await retention.runOnce()).months >= 1);
    t.same(new Set((await kept()).map((one) => one.split(' ')[2])), new Set(['10']));
  });

  await t.test('nothing of it can be changed or deleted, each step is in the audit log', async (t) => {
    for (const sql of [
      "UPDATE legal_holds SET reason = 'another'",
      'UPDATE legal_holds SET lifted_at = NULL, lifted_by = NULL',
      'DELETE FROM legal_holds',
      'TRUNCATE legal_holds',
    ])
      await t.rejects(pool.query(sql), { code: '23001' }, sql);
    const { body } = await call(
      first,
      'GET',
      `/api/admin/audit/search?object_type=legal_hold&object_id=${hold}`,
    );
    t.same(
      body.items.map((line: { action: string }) => line.action),
      [
        'legal_hold_lifted',
        ...Array(3).fill('legal_hold_lift_asked'),
        'legal_hold_confirmed',
        'legal_hold_asked',
      ],
    );
    t.match(body.items.at(-1), { after: { buyer_id: held, reason: 'Case 1' } });
  });
});
