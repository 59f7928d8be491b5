import { Type } from 'typebox';
import { Money } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { ProviderBalance } from './balance.js';

/** A provider's money as the API tells it. */
export const BalanceSchema = Type.Object({
  available: Money,
  pending: Money,
  currency: Type.Literal('USD'),
  lifetime: Money,
  withdrawn: Money,
});

export const balanceJson = (b: ProviderBalance) => ({
  available: formatMicros(b.availableMicros),
  pending: formatMicros(b.pendingMicros),
  currency: 'USD' as const,
  lifetime: formatMicros(b.lifetimeMicros),
  withdrawn: formatMicros(b.withdrawnMicros),
});
