/** Decimal amounts as Cryptomus writes them, exactly: never through a float. */

const DECIMAL = /^(\d{1,24})(?:\.(\d{1,18}))?$/;
const PLACES = 18;

/** The amount in units of 10⁻¹⁸, or null when it is no plain decimal. */
function units(text: string): bigint | null {
  const match = DECIMAL.exec(text);
  if (match === null) return null;
  return BigInt((match[1] as string) + (match[2] ?? '').padEnd(PLACES, '0'));
}

/** Micro-units of a decimal amount, rounded down; null when it is no plain decimal. */
export function microsOfDecimal(text: string): bigint | null {
  const value = units(text);
  return value === null ? null : value / 10n ** BigInt(PLACES - 6);
}

/** floor(micros × part / whole); null when either is no plain decimal or `whole` is zero. */
export function shareOf(micros: bigint, part: string, whole: string): bigint | null {
  const [p, w] = [units(part), units(whole)];
  return p === null || w === null || w === 0n ? null : (micros * p) / w;
}

/** Whether a decimal amount is exactly so many micro-units. */
export function isMicros(text: string, micros: bigint): boolean {
  return units(text) === micros * 10n ** BigInt(PLACES - 6);
}
