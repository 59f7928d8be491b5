/** Numbers as people read them. Money comes as decimal strings and stays text: nothing is rounded into it. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** 1 GB is 10⁹ bytes, as everywhere here. */
export function bytesText(bytes: number | string | bigint): string {
  const { value, unit } = scaled(Number(bytes), UNITS.length);
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** In the unit that leaves three digits before the point, also once it is rounded. */
function scaled(amount: number, units: number): { value: number; unit: number } {
  let value = amount;
  let unit = 0;
  while (Math.abs(value) >= (unit === 0 ? 1_000 : 999.5) && unit < units - 1) {
    value /= 1_000;
    unit++;
  }
  return { value, unit };
}

/** Bits per second, as connections are sold. */
export function rateText(bytesPerSecond: number): string {
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'];
  const { value, unit } = scaled(bytesPerSecond * 8, units.length);
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

/**
 * `12.345678` as `$12.35`; with `exact`, or when it is too little to be seen in cents, with all its digits. Rounded
 * half up on the text itself.
 */
export function moneyText(amount: string, { exact = false }: { exact?: boolean } = {}): string {
  if (!/^-?[0-9]+(\.[0-9]+)?$/.test(amount)) return amount;
  const signed = microsOf(amount);
  const micros = signed < 0n ? -signed : signed;
  const minus = signed < 0n ? '−' : '';
  const tiny = micros > 0n && micros < 10_000n;
  if (exact || tiny) {
    const digits = (micros % 1_000_000n)
      .toString()
      .padStart(6, '0')
      .replace(/0{1,4}$/, '');
    return `${minus}$${group(micros / 1_000_000n)}.${digits}`;
  }
  const cents = (micros + 5_000n) / 10_000n;
  return `${minus}$${group(cents / 100n)}.${(cents % 100n).toString().padStart(2, '0')}`;
}

/** Millionths of a dollar of an amount as the API writes it, exactly; digits behind the sixth are dropped. */
export function microsOf(amount: string): bigint {
  const [whole = '0', fraction = ''] = amount.replace('-', '').split('.');
  const micros = BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6));
  return amount.startsWith('-') ? -micros : micros;
}

function group(whole: bigint): string {
  return whole.toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

export function countText(count: number): string {
  return count.toLocaleString('en-US');
}

/** Up and down together, exact whether they come as numbers or as text. */
export function bytesSum(...parts: (number | string)[]): bigint {
  return parts.reduce((sum, part) => sum + BigInt(part), 0n);
}

const STEPS: [unit: Intl.RelativeTimeFormatUnit, seconds: number][] = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'long' });

/** `3 minutes ago`, `in 2 days`, `just now`. */
export function relativeText(atMs: number, nowMs: number): string {
  const seconds = (atMs - nowMs) / 1_000;
  for (const [unit, size] of STEPS)
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  return Math.abs(seconds) < 10 ? 'just now' : relative.format(Math.trunc(seconds), 'second');
}

const dateTime = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const zone = new Intl.DateTimeFormat('en-GB', { timeZoneName: 'short' });

/** Date and time in the viewer's zone, which is named. */
export function dateTimeText(at: string | number): string {
  const date = new Date(at);
  const name = zone.formatToParts(date).find(({ type }) => type === 'timeZoneName')?.value ?? '';
  return `${dateTime.format(date)} ${name}`;
}

/** `1 h 05 min`, `12 s`. */
export function durationText(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1_000));
  if (s < 60) return `${s} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
  return `${Math.floor(s / 3_600)} h ${String(Math.floor((s % 3_600) / 60)).padStart(2, '0')} min`;
}
