import { formatMicros } from '../../control-plane/ledger/money.js';
import {
  type Answer,
  signedIn,
  startWorld,
  type TestUser,
  type TestWorld,
  type WorldOptions,
} from './control-plane.js';
import { CryptomusServer } from './cryptomus.js';

interface Teardown {
  teardown(fn: () => unknown): unknown;
}

export const TARGET = 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t';

export interface PaymentsWorld extends TestWorld {
  cryptomus: CryptomusServer;
  admin: TestUser;
  admin2: TestUser;
  /** A provider with so much to withdraw, US dollars. */
  provider(amount: string): Promise<TestUser>;
  /** A pending payout. Resolves to its id. */
  withdraw(user: TestUser, amount: string): Promise<string>;
  approve(id: string, admin?: TestUser): Promise<Answer>;
  reject(id: string, admin?: TestUser): Promise<Answer>;
  payment(id: string): Promise<Answer['body']>;
  available(user: TestUser): Promise<string>;
  /** Delivers a webhook's body. */
  webhook(body: string): Promise<Answer>;
  /** A payout or top-up is due, as if the time had come and its last worker were gone. */
  due(id: string): Promise<void>;
  /** A buyer with an API token. */
  buyer(): Promise<{ id: string; token: string }>;
  prepaid(buyerId: string): Promise<string>;
}

/** A control plane whose Cryptomus is a server of the test's own. Background services do not run by themselves. */
export async function startPaymentsWorld(t: Teardown, options: WorldOptions = {}): Promise<PaymentsWorld> {
  const cryptomus = await CryptomusServer.start(t);
  const env = {
    TS_API_REQUESTS_PER_MINUTE: '1000000',
    TS_PUBLIC_API_URL: 'https://api.example/',
    ...cryptomus.env,
    ...options.env,
  };
  const world = await startWorld(t, { ...options, env });
  const { call, pool } = world;
  const [admin, admin2] = [await signedIn(world, 'admin'), await signedIn(world, 'admin')];
  const good = (answer: Answer, status: number) => {
    if (answer.status !== status) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const asAdmin = (path: string, body: unknown) => call('POST', path, { token: admin.token, body });
  return {
    ...world,
    cryptomus,
    admin,
    admin2,
    async provider(amount) {
      const user = await signedIn(world);
      good(await asAdmin('/api/admin/credits', { user_id: user.userId, amount, reason: 'test' }), 201);
      return user;
    },
    async withdraw(user, amount) {
      const body = { amount, method: 'cryptomus', network: 'TRON', currency: 'USDT', target: TARGET };
      return good(await call('POST', '/api/withdraw', { token: user.token, body }), 201).payment_id;
    },
    approve: (id, by = admin) => call('POST', `/api/admin/payments/${id}/approve`, { token: by.token }),
    reject: (id, by = admin) =>
      call('POST', `/api/admin/payments/${id}/reject`, { token: by.token, body: { reason: 'not today' } }),
    async payment(id) {
      const { items } = good(await call('GET', '/api/admin/payments?limit=200', { token: admin.token }), 200);
      return items.find((item: { payment_id: string }) => item.payment_id === id);
    },
    available: async (user) => good(await call('GET', '/api/balance', { token: user.token }), 200).available,
    webhook: (body) => call('POST', '/api/webhook/cryptomus', { body }),
    async due(id) {
      for (const [table, key] of [
        ['payout_sends', 'payout_id'],
        ['topups', 'id'],
      ])
        await pool.query(
          `UPDATE ${table} SET next_at = now(), leased_until = '-infinity' WHERE ${key} = $1`,
          [id],
        );
    },
    async buyer() {
      const { id } = good(await asAdmin('/api/admin/buyers', { name: 'Payer', kyc_status: 'approved' }), 201);
      return { id, token: good(await asAdmin(`/api/admin/buyers/${id}/tokens`, {}), 201).token };
    },
    async prepaid(buyerId) {
      const { rows } = await pool.query<{ balance_micros: bigint }>(
        "SELECT balance_micros FROM ledger_accounts WHERE kind = 'buyer_prepaid' AND owner_id = $1",
        [buyerId],
      );
      return formatMicros(rows[0]?.balance_micros ?? 0n);
    },
  };
}
