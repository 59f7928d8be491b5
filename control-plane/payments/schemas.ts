import { Type } from 'typebox';
import { Money, Nullable, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { Payment } from './payments.js';

export const PaymentStatusSchema = Type.Enum(['pending', 'processing', 'completed', 'failed', 'cancelled']);

export const PaymentSchema = Type.Object({
  payment_id: Uuid,
  kind: Type.Enum(['payout', 'topup']),
  user_id: Nullable(Uuid),
  buyer_id: Nullable(Uuid),
  status: PaymentStatusSchema,
  amount: Money,
  credited: Nullable(Type.String({ description: 'of a completed top-up: what was really paid' })),
  currency: Type.String(),
  method: Type.Enum(['cryptomus', 'telegram_stars']),
  network: Nullable(Type.String()),
  target: Nullable(Type.String()),
  tx_reference: Nullable(Type.String()),
  failure_reason: Nullable(Type.String()),
  created_at: Timestamp,
  ended_at: Nullable(Timestamp),
  refunded_at: Nullable(
    Type.String({ format: 'date-time', description: 'of a top-up in Telegram Stars that was given back' }),
  ),
  approvals: Type.Array(Type.Object({ admin_id: Uuid, approved_at: Timestamp })),
  send_state: Nullable(
    Type.Enum(['queued', 'sending', 'unknown', 'accepted', 'refused', 'ended'], {
      description:
        'of a released payout; refused: approve it again, or reject it and the money is given back',
    }),
  ),
  calls: Type.Integer({ description: 'times the payout was sent to Cryptomus' }),
  provider_uuid: Nullable(Type.String({ description: 'at Cryptomus' })),
  provider_status: Nullable(Type.String()),
  last_error: Nullable(Type.String()),
});

export const paymentJson = (p: Payment) => ({
  payment_id: p.id,
  kind: p.kind,
  user_id: p.userId,
  buyer_id: p.buyerId,
  status: p.status,
  amount: formatMicros(p.amountMicros),
  credited: p.creditedMicros === null ? null : formatMicros(p.creditedMicros),
  currency: p.currency,
  method: p.method,
  network: p.network,
  target: p.target,
  tx_reference: p.txReference,
  failure_reason: p.failureReason,
  created_at: p.createdAt.toISOString(),
  ended_at: p.endedAt?.toISOString() ?? null,
  refunded_at: p.refundedAt?.toISOString() ?? null,
  approvals: p.approvals.map((a) => ({ admin_id: a.adminId, approved_at: a.approvedAt.toISOString() })),
  send_state: p.sendState,
  calls: p.calls,
  provider_uuid: p.providerUuid,
  provider_status: p.providerStatus,
  last_error: p.lastError,
});
