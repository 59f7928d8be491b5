import { createHash, createHmac, randomInt, randomUUID } from 'node:crypto';
import { insertLogin, issuePair } from '../../control-plane/auth/logins.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { writeGatewayPresence } from '../../gateway/live/presence.js';
import { BOT_TOKEN, initData, newTelegramId, signedIn, TEST_ENV, withDevice } from './control-plane.js';
import { TestMeter } from './money-world.js';
import { type PaymentsWorld, TARGET } from './payments-world.js';

/** Who a call may come from: the roles of API.md, a Mini App's init data and a device's key counted by themselves. */
export const CALLERS = ['none', 'user', 'init', 'device', 'buyer', 'admin', 'bot', 'internal'] as const;
export type Caller = (typeof CALLERS)[number];

/** Settings under which nobody meets a rate limit, and no call waits for background work. */
export const UNHURRIED_ENV = {
  TS_API_REQUESTS_PER_MINUTE: '10000000',
  TS_CODES_PER_ID_PER_HOUR: '1000000',
  TS_CODE_CALLS_PER_IP_PER_HOUR: '10000000',
  TS_CODE_TRIES_PER_IP_PER_HOUR: '10000000',
  TS_PULLS_PER_SECOND: '100000',
  TS_PULL_BURST: '100000',
  TS_STOP_WAIT_MS: '0',
  TS_LIVE_STREAMS_PER_ACTOR_MAX: '1000',
  TS_ABUSE_REPORTS_PER_IP_PER_HOUR: '1000000',
  TS_ABUSE_REPORTS_PER_HOUR: '1000000',
  TS_BOT_USERNAME: 'sharebot',
};

/** Fields of the Login Widget as Telegram signs them for BOT_TOKEN. */
export function widgetData(id: number, authDateS = Math.floor(Date.now() / 1000)): Record<string, unknown> {
  const fields: Record<string, string | number> = { id, first_name: 'Ann', auth_date: authDateS };
  const lines = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
  const key = createHash('sha256').update(BOT_TOKEN).digest();
  return { ...fields, hash: createHmac('sha256', key).update(lines.sort().join('\n')).digest('hex') };
}

/** A public address nobody else of the cast has, with good odds. */
export const newAddress = () => `84.${randomInt(128, 192)}.${randomInt(256)}.${randomInt(1, 255)}`;

/**
 * People who have nothing to do with each other's casts, and what is theirs. Each is made when it is first asked
 * for, through the API where it has a call for it, and is then always the same.
 */
export class Cast {
  readonly #made = new Map<string, Promise<unknown>>();

  constructor(readonly world: PaymentsWorld) {}

  #once<T>(name: string, make: () => Promise<T>): Promise<T> {
    const made = (this.#made.get(name) as Promise<T> | undefined) ?? make();
    this.#made.set(name, made);
    return made;
  }

  /** An answer that must be good; its body. */
  async #good(method: string, path: string, token: string, body?: unknown): Promise<Record<string, never>> {
    const answer = await this.world.call(method, path, { token, body, from: newAddress() });
    if (answer.status >= 300)
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
  readonly #asAdmin = (method: string, path: string, body?: unknown) =>
    this.#good(method, path, this.world.admin.token, body);

  /** What a caller's request carries. */
  async credentials(caller: Caller): Promise<Record<string, string>> {
    const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
    switch (caller) {
      case 'none':
        return {};
      case 'user':
        return bearer((await this.user()).token);
      case 'init':
        return { 'x-telegram-init-data': initData({ id: (await this.user()).telegramId }) };
      case 'device':
        return bearer((await this.device()).deviceKey);
      case 'buyer':
        return bearer((await this.buyer()).token);
      case 'admin':
        return bearer((await this.admin()).token);
      case 'bot':
        return { 'x-bot-secret': TEST_ENV.TS_BOT_SECRET };
      case 'internal':
        return { 'x-internal-secret': TEST_ENV.TS_INTERNAL_SECRET };
    }
  }

  user = () => this.#once('user', () => signedIn(this.world));
  userId = async () => (await this.user()).userId;
  telegramId = async () => (await this.user()).telegramId;
  admin = () => this.#once('admin', () => signedIn(this.world, 'admin'));
  /** A user who is nobody's caller: to be banned or deleted. */
  stranger = () => this.#once('stranger', () => signedIn(this.world));

  device = () => this.#once('device', async () => withDevice(this.world, await this.user(), newAddress()));
  deviceId = async () => (await this.device()).deviceId;

  /** A session that is under way on the user's device. */
  sessionId = () =>
    this.#once('session', async () => {
      const { deviceId, deviceKey } = await this.device();
      const { body } = await this.world.call('POST', '/api/traffic/start', {
        token: deviceKey,
        body: { device_id: deviceId, client_version: '1.0.0' },
        from: newAddress(),
      });
      return String(body.session_id);
    });

  /** A session that has relayed a GB for the buyer. */
  chargedSessionId = () =>
    this.#once('charged session', async () => {
      const sessionId = await this.sessionId();
      const meter = new TestMeter('g1', sessionId, (await this.buyer()).id).count(4e8, 6e8);
      const { reportMeters } = await import('../../gateway/live/meters.js');
      await reportMeters(this.world.redis, 'g1', [meter.report({ final: true, allocationEnded: true })]);
      await this.world.services.settlement.settleNow();
      return sessionId;
    });

  /** Another login of the user. */
  loginId = () =>
    this.#once('login', async () =>
      insertLogin(this.world.pool, { userId: await this.userId(), ip: null, userAgent: 'cast' }),
    );

  refreshToken = () =>
    this.#once('refresh', async () => {
      const login = { userId: await this.userId(), loginId: await this.loginId() };
      return (await issuePair(this.world.pool, this.world.config, login, Date.now())).refresh_token;
    });

  loginCode = () =>
    this.#once('code', async () => {
      const telegramId = await this.telegramId();
      await this.world.call('POST', '/api/auth/request_login_code', { body: { telegram_id: telegramId } });
      return this.world.codes.findLast((sent) => sent.telegramId === telegramId)?.code ?? '';
    });

  /** A token to link a further Telegram account with. */
  linkToken = () =>
    this.#once('link', async () =>
      String((await this.#good('POST', '/api/user/telegrams/link', (await this.user()).token)).token),
    );

  /** The index of a second Telegram account. */
  telegramIndex = () =>
    this.#once('telegram', async () => {
      const { body } = await this.world.call('POST', '/api/bot/confirm_link', {
        headers: await this.credentials('bot'),
        body: { token: await this.linkToken(), telegram_id: newTelegramId() },
      });
      return Number(body.index);
    });

  /** A buyer who may have traffic, with $10. */
  buyer = () =>
    this.#once('buyer', async () => {
      const { id, account } = await this.#asAdmin('POST', '/api/admin/buyers', {
        name: 'Cast',
        kyc_status: 'approved',
      });
      const made = await this.#asAdmin('POST', `/api/admin/buyers/${id}/tokens`, {});
      await this.#good('POST', '/api/buyer/accept_policy', made.token as never);
      const credit = { buyer_id: id, amount: '10', reason: 'cast' };
      await this.#asAdmin('POST', '/api/admin/credits', credit);
      return {
        id: String(id),
        account: String(account),
        token: String(made.token),
        tokenId: String(made.id),
      };
    });
  buyerId = async () => (await this.buyer()).id;

  /** A Telegram account that may top up for the buyer. */
  buyerTelegramId = () =>
    this.#once('buyer telegram', async () => {
      const telegramId = newTelegramId();
      await this.world.pool.query('INSERT INTO buyer_telegrams (telegram_id, buyer_id) VALUES ($1, $2)', [
        telegramId,
        await this.buyerId(),
      ]);
      return telegramId;
    });

  /** The version of a list of the policy that is in force. */
  policyVersion = async (name: string): Promise<number> =>
    Number((await this.#good('GET', `/api/admin/policy/${name}`, (await this.admin()).token)).version);

  subUserId = () =>
    this.#once('sub-user', async () =>
      String(
        (await this.#good('POST', '/api/buyer/sub_users', (await this.buyer()).token, { name: 'S' })).id,
      ),
    );

  /** A package that is available. */
  packageId = () =>
    this.#once('package', async () => {
      const uuid = randomUUID();
      const row = { uuid, user_id: await this.userId(), ip: newAddress(), size_bytes: 1_000_000 };
      await this.#asAdmin('POST', '/api/admin/packages/bulk_create', [row]);
      return uuid;
    });

  /** A package in the buyer's hands. */
  pulledId = () =>
    this.#once('pulled', async () => {
      const id = await this.packageId();
      const body = { buyer_id: await this.buyerId() };
      await this.#asAdmin('POST', `/api/admin/packages/${id}/assign`, body);
      return id;
    });

  /** A payout that is pending. */
  payoutId = () =>
    this.#once('payout', async () => {
      await this.credit();
      return this.world.withdraw(await this.user(), '6');
    });

  /** The user has $20 to withdraw. */
  credit = () =>
    this.#once('credit', async () =>
      this.#asAdmin('POST', '/api/admin/credits', {
        user_id: await this.userId(),
        amount: '20',
        reason: 'cast',
      }),
    );

  /** A payout that an admin has released. */
  releasedId = () =>
    this.#once('released', async () => {
      const id = await this.payoutId();
      const answer = await this.world.approve(id);
      if (answer.status !== 200) throw new Error(`approve: ${JSON.stringify(answer.body)}`);
      return id;
    });

  newsId = () =>
    this.#once('news', async () => String((await this.#asAdmin('POST', '/api/admin/news', NEWS)).id));

  promo = () =>
    this.#once('promo', async () => {
      const code = `CAST-${randomUUID().slice(0, 8).toUpperCase()}`;
      const made = await this.#asAdmin('POST', '/api/admin/promo_codes', { code, bonus: '1', uses_max: 5 });
      return { id: String(made.id), code };
    });

  threadId = () =>
    this.#once('thread', async () =>
      String((await this.#good('POST', '/api/support', (await this.user()).token, { message: 'Help' })).id),
    );

  /** A broadcast to the user alone, not started. */
  broadcastId = () =>
    this.#once('broadcast', async () => {
      const body = { target: `user:${await this.userId()}`, message: 'Hello' };
      return String((await this.#asAdmin('POST', '/api/admin/broadcasts', body)).id);
    });

  /** An open finding of abuse by the buyer. */
  findingId = () =>
    this.#once('finding', async () => {
      const { rows } = await this.world.pool.query<{ id: string }>(
        `INSERT INTO abuse_findings (id, rule, subject, buyer_id, measured, measured_max, threshold, evidence)
         VALUES (gen_random_uuid(), 'fan_out', $1::text, $1::uuid, 9, 9, 5, '{"hosts": 9}') RETURNING id`,
        [await this.buyerId()],
      );
      return rows[0]?.id as string;
    });

  /** A report of abuse that waits for an answer. */
  abuseReport = () =>
    this.#once('abuse report', async () => {
      const { body } = await this.world.call('POST', '/api/abuse_reports', {
        body: REPORT,
        from: newAddress(),
      });
      const { rows } = await this.world.pool.query<{ id: string }>(
        'SELECT id FROM abuse_reports WHERE reference = $1',
        [body.reference],
      );
      return { id: rows[0]?.id as string, reference: String(body.reference), secret: String(body.secret) };
    });

  /** A legal hold that another admin asked for. */
  legalHoldId = () =>
    this.#once('legal hold', async () =>
      String(
        (
          await this.#asAdmin('POST', '/api/admin/legal_holds', {
            buyer_id: await this.buyerId(),
            reason: 'cast',
          })
        ).id,
      ),
    );

  /** A gateway that says it is there. */
  gatewayId = () =>
    this.#once('gateway', async () => {
      const gatewayId = `cast-${randomUUID().slice(0, 8)}`;
      await writeGatewayPresence(this.world.redis, {
        gatewayId,
        epoch: randomUUID().replaceAll('-', ''),
        version: '1',
        startedAtMs: Date.now(),
        tunnels: 0,
        streams: 0,
        draining: false,
      });
      return gatewayId;
    });
}

export const REPORT = {
  exit_ip: '84.128.0.5',
  happened_at: '2026-11-27T08:00:00Z',
  port: 443,
  destination: 'www.example.com',
  description: 'Many failed logins to our shop.',
};

export const NEWS = {
  texts: {
    uz: { title: 'Yangi', body: 'Yangi versiya' },
    ru: { title: 'Новое', body: 'Новая версия' },
    en: { title: 'New', body: 'A new version' },
  },
};

export const withdrawal = (amount: string) => ({
  amount,
  method: 'cryptomus',
  network: 'TRON',
  currency: 'USDT',
  target: TARGET,
});

/** The keys of the live state that count calls and nothing else. */
export const isRateLimitKey = (key: string) => key.startsWith(liveKeys.apiRateLimit());
