import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Log } from '../../gateway/runtime/logging.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { idOfOrder } from '../cryptomus/client.js';
import { isSignedWebhook } from '../cryptomus/signature.js';
import { Problem } from '../errors.js';
import { Ok, problemResponses } from '../http/schemas.js';
import type { SendState } from '../payouts/sends.js';
import type { TopUpStatus } from '../topups/topups.js';

export interface CryptomusWebhookDeps {
  pool: pg.Pool;
  log: Log;
  /** Null while Cryptomus is not configured: every webhook is then badly signed. */
  keys: { paymentKey: string; payoutKey: string } | null;
  payouts: { hint(payoutId: string): Promise<SendState | null> };
  topUps: { hint(topUpId: string): Promise<TopUpStatus | null> };
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The body as it came, where a signature is over its bytes; null elsewhere. */
    rawBody: string | null;
  }
}

const WebhookBody = Type.Object(
  {
    type: Type.Optional(Type.String({ description: 'payout, or payment of a top-up' })),
    uuid: Type.Optional(Type.String()),
    order_id: Type.Optional(
      Type.Union([Type.String(), Type.Null()], { description: 'our id without dashes' }),
    ),
    status: Type.Optional(Type.String()),
    is_final: Type.Optional(Type.Boolean()),
    sign: Type.Optional(
      Type.String({ description: 'md5(base64(the other members, as PHP writes JSON) + key)' }),
    ),
  },
  {
    additionalProperties: true,
    examples: [
      {
        type: 'payout',
        uuid: 'a7c0caec-a594-4aaa-b1c4-77d511857594',
        order_id: '7b0c2f4e3c584a399d0f0f6a5a0d4a11',
        amount: '5.00000000',
        currency: 'USDT',
        network: 'TRON',
        status: 'paid',
        is_final: true,
        txid: '6f0d9c8374db57cac0d806251473de754f361c83a03cd805f74aa9da3193486b',
        sign: '0f4e1b9f5f0e0d7b2f6b5f3c1f9a8d7e',
      },
    ],
  },
);

/** Webhooks of Cryptomus: hints to look a payment up, never the truth about it. */
export const cryptomusWebhookPlugin: FastifyPluginAsyncTypebox<CryptomusWebhookDeps> = async (app, deps) => {
  const { pool, log, keys, payouts, topUps } = deps;

  // In this plugin alone: the signature is over the bytes, not over what they parse to.
  app.decorateRequest('rawBody', null);
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    request.rawBody = body;
    parseJson(request, body, done);
  });

  app.post(
    '/api/webhook/cryptomus',
    {
      config: { roles: ['none'] },
      schema: {
        tags: ['Balance'],
        summary: 'Webhook of Cryptomus',
        description:
          'Signed with the payout or the payment key. What it says is looked up at Cryptomus before anything is booked, ' +
          'so repeated and late ones are harmless. Unknown orders are 200, a bad signature is 401.',
        body: WebhookBody,
        response: { 200: Ok, ...problemResponses(401) },
      },
    },
    async (request) => {
      const { type, order_id: orderId, status } = request.body;
      const ofPayout = type === 'payout';
      const key = ofPayout ? keys?.payoutKey : keys?.paymentKey;
      if (key === undefined || !isSignedWebhook(request.rawBody ?? '', key)) {
        await recordAudit(pool, {
          ...auditContext(request),
          action: 'webhook_refused',
          objectType: ofPayout ? 'payout' : 'topup',
          objectId: idOfOrder(orderId),
          after: { reason: 'invalid_signature' },
        });
        throw new Problem('invalid_signature');
      }
      const id = idOfOrder(orderId);
      try {
        const before = id === null ? null : await (ofPayout ? payouts : topUps).hint(id);
        if (before === null)
          log.warn({ type, order_id: orderId, provider_status: status }, 'webhook_of_unknown_order');
        else log.info({ type, payment_id: id, provider_status: status, before }, 'webhook');
        if (!ofPayout && before === 'completed' && status?.startsWith('refund_'))
          // Given back at Cryptomus by hand: what was credited is taken back by an admin, too (`/api/admin/credits`).
          log.error({ topup_id: id, provider_status: status }, 'topup_refunded_outside');
      } catch (error) {
        // The hint may be written or not: the payment is looked up in time anyway.
        log.warn({ err: error, payment_id: id }, 'webhook_not_followed');
      }
      return { ok: true as const };
    },
  );
};
