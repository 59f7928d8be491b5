import t from 'tap';
import { signedIn, startBotWorld } from '../../helpers/bot-world.js';

t.test('/start', async (t) => {
  const world = await startBotWorld(t);
  const { telegram, pool, call, openLink } = world;
  const user = async (telegramId: number) =>
    (
      await pool.query(
        'SELECT u.* FROM users u JOIN telegram_accounts a ON a.user_id = u.id WHERE a.telegram_id = $1',
        [telegramId],
      )
    ).rows[0];

  await t.test('makes the user, in the language of the app, and once', async (t) => {
    const person = world.person('ru-RU');
    await telegram.say(person, '/start');
    await world.settle();
    const made = await user(person.id);
    t.match(made, { language: 'ru', is_verified: true, username: 'ann', referred_by: null });
    t.match(world.textsTo(person), [/Добро пожаловать/]);
    await telegram.say(person, '/start');
    await world.settle();
    t.equal((await user(person.id)).id, made.id);
    t.match(world.textsTo(person)[1], /С возвращением/);
  });

  await t.test('a referral code', async (t) => {
    const inviter = await signedIn(world);
    const { body } = await call('GET', '/api/referrals', { token: inviter.token });
    const start = new URL(body.link).searchParams.get('start');
    const person = world.person('uz');
    await telegram.say(person, `/start ${start}`);
    await telegram.say(person, '/start');
    await world.settle();
    t.equal((await user(person.id)).referred_by, inviter.userId);
    t.match(world.textsTo(person)[0], /xush kelibsiz/);
    const [known] = [await signedIn(world)];
    await telegram.say({ id: known.telegramId }, `/start ${start}`);
    await world.settle();
    t.equal((await user(known.telegramId)).referred_by, null, 'who was there before was invited by nobody');
    const stranger = world.person();
    await telegram.say(stranger, '/start NOBODY00');
    await world.settle();
    t.match(await user(stranger.id), { referred_by: null }, 'an unknown code is passed over');
  });

  await t.test('the deep link to a user’s account', async (t) => {
    const owner = await signedIn(world);
    const { body } = await call('POST', '/api/user/telegrams/link', { token: owner.token });
    const start = new URL(body.url).searchParams.get('start');
    const second = world.person();
    await telegram.say(second, `/start ${start}`);
    await world.settle();
    t.equal(await user(second.id), undefined, 'opening it links nobody');
    const update = await openLink(second, start as string);
    if (update !== null) await telegram.deliver(update);
    await world.settle();
    t.equal((await user(second.id)).id, owner.userId, 'nobody was made of it');
    const asked = new RegExp(`^Link this Telegram account to the Traffic Share user ${owner.telegramId}\\?`);
    t.match(world.textsTo(second), [asked, asked, /^Done/]);
    const { rows } = await pool.query(
      "SELECT actor_role FROM audit_log WHERE action = 'telegram_linked' AND object_id = $1",
      [owner.userId],
    );
    t.same(rows, [{ actor_role: 'bot' }]);
    await telegram.say(world.person(), `/start ${start}`);
    const third = world.person();
    await telegram.say(third, `/start ${start}`);
    await world.settle();
    t.match(world.textsTo(third), [/used or is too old/]);
    t.equal(await user(third.id), undefined);
    const stranger = await signedIn(world);
    const { body: other } = await call('POST', '/api/user/telegrams/link', { token: owner.token });
    await openLink({ id: stranger.telegramId }, other.start);
    t.match(world.textsTo({ id: stranger.telegramId }), [asked, /another Traffic Share user/]);
  });

  await t.test('the deep link to a buyer’s account', async (t) => {
    const buyer = await world.buyer();
    const [person, other] = [world.person(), await world.buyer()];
    let calls = 0; // each from an address of its own: the route allows 20 a minute
    const link = async (token: string) =>
      (await call('POST', '/api/buyer/telegrams/link', { token, from: `192.0.2.${++calls}` })).body;
    const made = await link(buyer.token);
    t.match(made, { url: `https://t.me/sharebot?start=${made.start}`, expires_in: 900 });
    t.ok(made.start.length <= 64);
    const { rows } = await pool.query("SELECT encode(token_hash, 'escape') AS h FROM buyer_link_tokens");
    t.notMatch(JSON.stringify(rows), made.token, 'kept as a hash');
    await openLink(person, made.start);
    await openLink(person, made.start);
    await openLink(person, (await link(other.token)).start);
    await openLink(person, 'buyer_');
    const asked = /^Link this Telegram account to the buyer /;
    t.match(world.textsTo(person), [
      ...[asked, /^Done/, /used or is too old/],
      ...[asked, /another buyer/, /used or is too old/],
    ]);
    const list = await call('GET', '/api/buyer/telegrams', { token: buyer.token });
    t.match(list.body.items, [{ telegram_id: person.id, username: 'ann', linked_at: String }]);
    t.equal(await user(person.id), undefined, 'a buyer’s account is no user');
    const path = `/api/buyer/telegrams/${person.id}`;
    t.equal((await call('DELETE', path, { token: other.token })).status, 404, 'not theirs');
    t.same((await call('DELETE', path, { token: buyer.token })).body, { items: [] });
    t.equal((await call('DELETE', path, { token: buyer.token })).status, 404);
    t.equal((await call('DELETE', '/api/buyer/telegrams/0', { token: buyer.token })).status, 400);

    const late = await link(buyer.token);
    await pool.query('UPDATE buyer_link_tokens SET expires_at = now()');
    const tokens = await Promise.all(Array.from({ length: 12 }, () => link(buyer.token)));
    await telegram.say(person, `/start ${late.start}`);
    await telegram.say(person, `/start ${tokens[0].start}`);
    await world.settle();
    t.match(world.textsTo(person).slice(-2), [/too old/, /too old/], 'only the newest five wait');
    for (let n = 0; n < 11; n++) await openLink(world.person(), (await link(buyer.token)).start);
    const full = await call('GET', '/api/buyer/telegrams', { token: buyer.token });
    t.equal(full.body.items.length, 10, 'no more than ten');
    const suspended = await link(other.token);
    await pool.query("UPDATE buyers SET status = 'suspended' WHERE id = $1", [other.id]);
    await openLink(person, suspended.start);
    t.match(world.textsTo(person).at(-1), /not active/);
  });

  await t.test('a banned user, somebody who comes back, a group', async (t) => {
    const banned = await signedIn(world);
    await pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [banned.userId]);
    await telegram.say({ id: banned.telegramId }, '/start');
    const back = await signedIn(world);
    await pool.query('UPDATE users SET telegram_blocked_at = now() WHERE id = $1', [back.userId]);
    await telegram.say({ id: back.telegramId }, '/start@sharebot');
    const person = world.person();
    const update = telegram.messageUpdate(person, {
      text: '/start',
      entities: [{ type: 'bot_command', offset: 0, length: 6 }],
      chat: { id: -5, type: 'group', title: 'g' },
    });
    await telegram.deliver(update);
    await world.settle();
    t.match(world.textsTo({ id: banned.telegramId }), [/banned/]);
    t.match(await user(back.telegramId), { telegram_blocked_at: null });
    t.equal(await user(person.id), undefined);
  });

  await t.test('roles', async (t) => {
    for (const [method, path] of [
      ['GET', '/api/buyer/telegrams'],
      ['POST', '/api/buyer/telegrams/link'],
      ['DELETE', '/api/buyer/telegrams/5'],
    ] as const) {
      t.equal((await call(method, path)).status, 401, path);
      t.equal((await call(method, path, { token: world.admin.token })).status, 403, path);
    }
  });
});
