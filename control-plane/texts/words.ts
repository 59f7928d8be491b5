import { formatMicros } from '../ledger/money.js';

/** `"25.012000"` → `25.012`: two places at least. */
export function dollars(micros: bigint | string): string {
  const text = typeof micros === 'string' ? micros : formatMicros(micros);
  return text.replace(/(\.\d\d\d*?)0+$/, '$1');
}

/** Two places, rounded to the nearest. 1 GB = 10⁹ bytes. */
export function gigabytes(bytes: bigint | number | string): string {
  const hundredths = (BigInt(bytes) + 5_000_000n) / 10_000_000n;
  return `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, '0')}`;
}

/** Two places. 1 MB = 10⁶ bytes. */
export function megabytes(bytes: bigint | number | string): string {
  return (Number(BigInt(bytes) / 10_000n) / 100).toFixed(2);
}

/** `2026-11-27 10:05`, UTC. */
export const moment = (iso: string) => iso.slice(0, 16).replace('T', ' ');

/** What a person may type as an amount: dollars with whole cents. */
const AMOUNT = /^\$?\s?(\d{1,8}(?:[.,]\d{1,2})?)\s?\$?$/;

/** `$12,50` → `12.50`; null: no amount. */
export const amountIn = (text: string) => AMOUNT.exec(text.trim())?.[1]?.replace(',', '.') ?? null;
