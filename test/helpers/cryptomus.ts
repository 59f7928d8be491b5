import { createHash, randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

interface Teardown {
  teardown(fn: () => unknown): unknown;
}

export const CRYPTOMUS_KEYS = {
  TS_CRYPTOMUS_MERCHANT_ID: '8b03432e-385b-4670-8d06-064591096795',
  TS_CRYPTOMUS_PAYMENT_KEY: 'payment-key-of-the-test',
  TS_CRYPTOMUS_PAYOUT_KEY: 'payout-key-of-the-test',
};

/** What is to happen to a call. `cut` does it and hangs up, `drop` hangs up without doing it, `stall` does and stays silent. */
export type Fault =
  | { kind: 'cut' | 'drop' | 'stall' }
  | { kind: 'answer'; status: number; body: string }
  | { kind: 'late'; afterMs: number };

export interface FakePayout {
  uuid: string;
  order_id: string;
  amount: string;
  currency: string;
  network: string;
  address: string;
  txid: string | null;
  status: string;
  is_final: boolean;
}

export interface FakePayment {
  uuid: string;
  order_id: string;
  amount: string;
  currency: string;
  payer_amount: string | null;
  payer_currency: string | null;
  payment_amount: string | null;
  payment_amount_usd: string | null;
  payment_status: string;
  status: string;
  is_final: boolean;
  url: string;
  expired_at: number;
  txid: string | null;
  [more: string]: unknown;
}

type Json = Record<string, unknown>;
const md5 = (text: string) => createHash('md5').update(text).digest('hex');
const sign = (body: string, key: string) => md5(Buffer.from(body).toString('base64') + key);

/** As PHP's `json_encode($value, JSON_UNESCAPED_UNICODE)`. */
const phpJson = (value: Json) =>
  JSON.stringify(value)
    .replaceAll('/', '\\/')
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029');
/** As PHP's `json_encode($value)`, which is how an HTTP library sends it. */
const asciiJson = (value: Json) =>
  phpJson(value).replace(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The amounts payouts are allowed, USDT. */
const PAYOUT_LIMITS = { min: 1, max: 1_000_000 };

/**
 * A server that does what Cryptomus's documents say of payouts, invoices and webhooks: signatures over the exact
 * bytes, one payout and one invoice an order id, errors with `state: 1` (422 for validation). Disturbed on demand.
 */
export class CryptomusServer {
  readonly payouts = new Map<string, FakePayout>();
  readonly payments = new Map<string, FakePayment>();
  /** Calls whose signature was right, in order. */
  readonly calls: { path: string; body: Json }[] = [];
  /** What payouts may take in all, USDT. */
  balance = 1_000_000;
  readonly #done = new EventEmitter();
  readonly #faults = new Map<string, Fault[]>();
  readonly #server = http.createServer((request, response) => void this.#serve(request, response));

  static async start(t: Teardown): Promise<CryptomusServer> {
    const fake = new CryptomusServer();
    fake.#server.listen(0, '127.0.0.1');
    await once(fake.#server, 'listening');
    t.teardown(() => {
      fake.#server.closeAllConnections();
      fake.#server.close();
    });
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Settings of a control plane that uses it. */
  get env(): Record<string, string> {
    return { ...CRYPTOMUS_KEYS, TS_CRYPTOMUS_URL: this.url, TS_CRYPTOMUS_TIMEOUT_MS: '2000' };
  }

  /** The next calls of a path meet these, one each. */
  disturb(path: string, ...faults: Fault[]): void {
    this.#faults.set(path, [...(this.#faults.get(path) ?? []), ...faults]);
  }

  /** Resolves when the next call of a path has had its effect, whatever its answer meets. */
  async called(path: string): Promise<void> {
    await once(this.#done, path);
  }

  callsOf(path: string): Json[] {
    return this.calls.filter((call) => call.path === path).map((call) => call.body);
  }

  /** A payout or invoice changes at Cryptomus; no webhook is sent by that. */
  change(orderId: string, changes: Partial<FakePayout> & Partial<FakePayment>): void {
    const order = this.payouts.get(orderId) ?? this.payments.get(orderId);
    if (order === undefined) throw new Error(`no order ${orderId}`);
    Object.assign(order, changes);
    if (changes.status !== undefined && 'payment_status' in order) order.payment_status = changes.status;
  }

  /** The body of a webhook about an order, signed; `changes` make it say something else than is true. */
  webhook(orderId: string, changes: Json = {}): string {
    const payout = this.payouts.get(orderId);
    const order = payout ?? this.payments.get(orderId) ?? { uuid: randomUUID(), order_id: orderId };
    const { url: _, expired_at: __, payment_status: ___, ...fields } = order as Json;
    const type = payout === undefined ? 'payment' : 'payout';
    return this.signedWebhook({ type, ...fields, additional_data: 'Ünïcode / "slash" \u2028', ...changes });
  }

  signedWebhook(data: Json): string {
    const key =
      data.type === 'payout'
        ? CRYPTOMUS_KEYS.TS_CRYPTOMUS_PAYOUT_KEY
        : CRYPTOMUS_KEYS.TS_CRYPTOMUS_PAYMENT_KEY;
    return asciiJson({ ...data, sign: sign(phpJson(data), key) });
  }

  async #serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const raw = Buffer.concat(chunks).toString();
    const path = request.url ?? '';
    const fault = this.#faults.get(path)?.shift();
    if (fault?.kind === 'drop') return void request.socket.destroy();
    const send = (status: number, body: string) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(body);
    if (fault?.kind === 'answer') return void send(fault.status, fault.body);
    const [status, answer] = this.#answer(path, raw, request.headers);
    this.#done.emit(path);
    if (fault?.kind === 'cut') return void request.socket.destroy();
    if (fault?.kind === 'stall') return;
    if (fault?.kind === 'late') await new Promise((resolve) => setTimeout(resolve, fault.afterMs));
    send(status, JSON.stringify(answer));
  }

  #answer(path: string, raw: string, headers: http.IncomingHttpHeaders): [number, Json] {
    const key = path.startsWith('/v1/payout')
      ? CRYPTOMUS_KEYS.TS_CRYPTOMUS_PAYOUT_KEY
      : CRYPTOMUS_KEYS.TS_CRYPTOMUS_PAYMENT_KEY;
    if (headers.merchant !== CRYPTOMUS_KEYS.TS_CRYPTOMUS_MERCHANT_ID)
      return [401, { state: 1, message: 'The merchant was not found' }];
    if (headers.sign !== sign(raw, key)) return [401, { state: 1, message: 'Invalid Sign' }];
    const body = JSON.parse(raw) as Json;
    this.calls.push({ path, body });
    switch (path) {
      case '/v1/payout':
        return this.#createPayout(body);
      case '/v1/payment':
        return this.#createPayment(body);
      case '/v1/payout/info':
        return this.#info(this.payouts, body, 'Payout');
      case '/v1/payment/info':
        return this.#info(this.payments, body, 'Payment');
      case '/v1/payout/services':
      case '/v1/payment/services':
        return [
          200,
          {
            state: 0,
            result: [
              {
                network: 'TRON',
                currency: 'USDT',
                is_available: true,
                limit: { min_amount: '1.00000000', max_amount: '1000000.00000000' },
                commission: { fee_amount: '2.00', percent: '0.00' },
              },
            ],
          },
        ];
      default:
        return [404, { state: 1, message: 'Not found route' }];
    }
  }

  #createPayout(body: Json): [number, Json] {
    const errors: Record<string, string[]> = {};
    for (const field of ['amount', 'currency', 'order_id', 'address', 'network'])
      if (typeof body[field] !== 'string') errors[field] = ['validation.required'];
    if (typeof body.is_subtract !== 'boolean') errors.is_subtract = ['validation.boolean'];
    if (!/^[\w-]{1,32}$/.test(String(body.order_id))) errors.order_id = ['validation.alpha_dash'];
    if (Object.keys(errors).length > 0) return [422, { state: 1, errors }];
    const orderId = String(body.order_id);
    const existing = this.payouts.get(orderId);
    if (existing !== undefined) return [200, { state: 0, result: this.#payoutResult(existing) }];
    const amount = Number(body.amount);
    if (amount < PAYOUT_LIMITS.min)
      return [422, { state: 1, message: `Minimum amount ${PAYOUT_LIMITS.min} USDT` }];
    if (amount > this.balance) return [422, { state: 1, message: 'Not enough funds' }];
    this.balance -= amount;
    const payout: FakePayout = {
      uuid: randomUUID(),
      order_id: orderId,
      amount: String(body.amount),
      currency: String(body.currency),
      network: String(body.network),
      address: String(body.address),
      txid: null,
      status: 'process',
      is_final: false,
    };
    this.payouts.set(orderId, payout);
    return [200, { state: 0, result: this.#payoutResult(payout) }];
  }

  #payoutResult(payout: FakePayout): Json {
    return {
      ...payout,
      balance: this.balance,
      payer_currency: payout.currency,
      payer_amount: Number(payout.amount),
    };
  }

  #createPayment(body: Json): [number, Json] {
    const errors: Record<string, string[]> = {};
    for (const field of ['amount', 'currency', 'order_id'])
      if (typeof body[field] !== 'string') errors[field] = ['validation.required'];
    if (Object.keys(errors).length > 0) return [422, { state: 1, errors }];
    const orderId = String(body.order_id);
    const payment = this.payments.get(orderId) ?? {
      uuid: randomUUID(),
      order_id: orderId,
      amount: String(body.amount),
      currency: String(body.currency),
      payer_amount: null,
      payer_currency: null,
      payment_amount: null,
      payment_amount_usd: null,
      payment_status: 'check',
      status: 'check',
      is_final: false,
      url: `https://pay.example/pay/${orderId}`,
      expired_at: Math.floor(Date.now() / 1000) + Number(body.lifetime ?? 3_600),
      txid: null,
    };
    this.payments.set(orderId, payment);
    return [200, { state: 0, result: payment }];
  }

  #info(orders: Map<string, object>, body: Json, what: string): [number, Json] {
    if (typeof body.order_id !== 'string' && typeof body.uuid !== 'string')
      return [
        422,
        {
          state: 1,
          errors: { uuid: ['validation.required_without'], order_id: ['validation.required_without'] },
        },
      ];
    const order = orders.get(String(body.order_id));
    return order === undefined
      ? [404, { state: 1, message: `${what} not found` }]
      : [200, { state: 0, result: { ...order } }];
  }
}
