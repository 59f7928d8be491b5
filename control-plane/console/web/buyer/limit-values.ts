/** Limits as the API holds them: those that a buyer and a sub-user both can have. */
export interface Limits {
  streams_max?: number;
  connections_per_second_max?: number;
  bandwidth_bytes_per_second_max?: number;
  bytes_per_day_max?: number;
  bytes_per_month_max?: number;
  ports?: number[];
  allowed_domains?: string[];
  denied_domains?: string[];
  passwordless_ips?: string[];
}

/** The same as text in a form; empty: not limited. */
export interface LimitTexts {
  streams: string;
  connections: string;
  mbits: string;
  dayGb: string;
  monthGb: string;
  ports: string;
  allowed: string;
  denied: string;
  passwordless: string;
}

const GB = 1e9;
const MBIT_BYTES = 125_000;

/** Entries of a list, one a line or with commas between. */
export const listOf = (text: string): string[] => text.split(/[\s,]+/).filter((entry) => entry !== '');
const numberText = (value: number | undefined, unit = 1) => (value === undefined ? '' : String(value / unit));

/** `5.25` GB as bytes; null for no limit; NaN for what is no number. */
export function bytesOfGb(text: string): number | null {
  return text.trim() === '' ? null : Math.round(Number(text) * GB);
}

export function textsOf(limits: Limits): LimitTexts {
  return {
    streams: numberText(limits.streams_max),
    connections: numberText(limits.connections_per_second_max),
    mbits: numberText(limits.bandwidth_bytes_per_second_max, MBIT_BYTES),
    dayGb: numberText(limits.bytes_per_day_max, GB),
    monthGb: numberText(limits.bytes_per_month_max, GB),
    ports: (limits.ports ?? []).join(', '),
    allowed: (limits.allowed_domains ?? []).join('\n'),
    denied: (limits.denied_domains ?? []).join('\n'),
    passwordless: (limits.passwordless_ips ?? []).join('\n'),
  };
}

/** Back to the API's form; what is no number goes as it is, for the API to say so beside the field. */
export function limitsOf(texts: LimitTexts): Limits {
  const count = (text: string, unit = 1) =>
    text.trim() === '' ? undefined : Math.round(Number(text) * unit);
  const all: Record<keyof Limits, number | number[] | string[] | undefined> = {
    streams_max: count(texts.streams),
    connections_per_second_max: count(texts.connections),
    bandwidth_bytes_per_second_max: count(texts.mbits, MBIT_BYTES),
    bytes_per_day_max: count(texts.dayGb, GB),
    bytes_per_month_max: count(texts.monthGb, GB),
    ports: listOf(texts.ports).map(Number),
    allowed_domains: listOf(texts.allowed),
    denied_domains: listOf(texts.denied),
    passwordless_ips: listOf(texts.passwordless),
  };
  return Object.fromEntries(
    Object.entries(all).filter(
      ([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0),
    ),
  );
}
