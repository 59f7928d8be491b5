/** What takes two admins is not to be had by one who changes the rule. */
import t from 'tap';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('raising who has to agree to a payout takes two admins', async (t) => {
  const world = await startWorld(t);
  const [one, two, three] = [
    await signedIn(world, 'admin'),
    await signedIn(world, 'admin'),
    await signedIn(world, 'admin'),
  ];
  const patch = (by: typeof one, body: object) =>
    world.call('PATCH', '/api/admin/settings', { token: by.token, body });
  const inForce = async () => {
    const { body } = await world.call('GET', '/api/admin/settings', { token: one.token });
    return {
      twoAdmin: body.payout_two_admin_min,
      auto: body.payout_auto_approve_max,
      proposals: body.proposals,
    };
  };
  const audit = async () =>
    (
      await world.pool.query(
        "SELECT actor_id, action, before, after FROM audit_log WHERE object_type = 'settings' ORDER BY id",
      )
    ).rows;

  await t.test('one admin proposes, however often', async (t) => {
    const body = { payout_two_admin_min: '100000', payout_auto_approve_max: '400', trial_bytes: 7 };
    const answer = await patch(one, body);
    t.equal(answer.status, 200);
    t.match(answer.body, {
      payout_two_admin_min: '500.000000',
      payout_auto_approve_max: '0.000000',
      trial_bytes: 7,
      proposals: [
        { setting: 'payout_auto_approve_max', value: '400.000000', proposed_by: one.userId },
        { setting: 'payout_two_admin_min', value: '100000.000000', proposed_by: one.userId },
      ],
    });
    await patch(one, { payout_two_admin_min: '100000' });
    t.match(await inForce(), { twoAdmin: '500.000000', auto: '0.000000', proposals: { length: 2 } });
    t.equal((await world.services.settings.read()).payoutTwoAdminMicrosMin, 500_000_000n);
    t.match(await audit(), [
      {
        actor_id: one.userId,
        action: 'settings_proposed',
        before: { payout_two_admin_min: '500.000000' },
        after: { payout_two_admin_min: '100000.000000', payout_auto_approve_max: '400.000000' },
      },
      { action: 'settings_changed', after: { trial_bytes: 7 } },
      { action: 'settings_proposed' },
    ]);
  });

  await t.test('another value of another admin is another proposal', async (t) => {
    await patch(two, { payout_two_admin_min: '99999' });
    t.match(await inForce(), { twoAdmin: '500.000000' });
    await patch(two, { payout_two_admin_min: '99999' });
    t.match(await inForce(), { twoAdmin: '500.000000' });
    t.match((await inForce()).proposals[1], { value: '99999.000000', proposed_by: two.userId });
  });

  await t.test('the same value of a second admin is in force at once', async (t) => {
    t.match((await patch(one, { payout_two_admin_min: '99999' })).body, {
      payout_two_admin_min: '99999.000000',
      proposals: [{ setting: 'payout_auto_approve_max' }],
    });
    t.match((await audit()).slice(-2), [
      {
        actor_id: one.userId,
        action: 'settings_proposal_agreed',
        before: { payout_two_admin_min: { value: '99999.000000', proposed_by: two.userId } },
      },
      {
        actor_id: one.userId,
        action: 'settings_changed',
        before: { payout_two_admin_min: '500.000000' },
        after: { payout_two_admin_min: '99999.000000' },
      },
    ]);
  });

  await t.test('lowering is for one, and makes a proposal void', async (t) => {
    await patch(one, { payout_two_admin_min: '200000' });
    t.match((await patch(one, { payout_two_admin_min: '300' })).body, {
      payout_two_admin_min: '300.000000',
      proposals: [{ setting: 'payout_auto_approve_max' }],
    });
    t.match((await audit()).at(-2), {
      action: 'settings_proposal_void',
      before: { payout_two_admin_min: { value: '200000.000000' } },
    });
    await patch(two, { payout_two_admin_min: '200000' });
    t.equal((await inForce()).twoAdmin, '300.000000', 'nothing is left of it to agree to');
    await patch(two, { payout_two_admin_min: '300' });
  });

  await t.test('who is no admin any more has proposed nothing', async (t) => {
    await patch(three, { payout_two_admin_min: '1000' });
    await world.pool.query('UPDATE users SET is_admin = false WHERE id = $1', [three.userId]);
    await patch(one, { payout_two_admin_min: '1000' });
    t.match(await inForce(), { twoAdmin: '300.000000' });
    await patch(two, { payout_two_admin_min: '1000' });
    t.match(await inForce(), { twoAdmin: '1000.000000' }, 'one of two who are admins');
  });

  await t.test('two at the same moment are two', async (t) => {
    for (let i = 0; i < 10; i++) {
      const value = String(2_000 + i);
      await Promise.all([one, two].map((admin) => patch(admin, { payout_two_admin_min: value })));
      t.equal((await inForce()).twoAdmin, `${value}.000000`);
    }
    await Promise.all([1, 2, 3, 4].map(() => patch(one, { payout_two_admin_min: '9000' })));
    t.equal((await inForce()).twoAdmin, '2009.000000', 'and one alone never is');
  });
});
