/** Checks of what comes back from Redis: another version, or another program, may have written it. */
export type Check<T> = (value: unknown) => value is T;

export const isString: Check<string> = (value): value is string => typeof value === 'string';
export const isBoolean: Check<boolean> = (value): value is boolean => typeof value === 'boolean';
/** A whole number from 0 to 2^53 − 1. */
export const isCount: Check<number> = (value): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;
/** Micro-dollars as decimal text, sign allowed, at most 19 digits (a Postgres bigint). */
export const isMicros: Check<string> = (value): value is string =>
  typeof value === 'string' && /^-?\d{1,19}$/.test(value);
/** SHA-256 as 64 hex digits. */
export const isSha256Hex: Check<string> = (value): value is string =>
  typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);

export function isOneOf<const T extends string>(...words: readonly T[]): Check<T> {
  return (value): value is T => words.includes(value as T);
}

export function isNullOr<T>(check: Check<T>): Check<T | null> {
  return (value): value is T | null => value === null || check(value);
}

/** A field that older writers leave out. */
export function isMissingOr<T>(check: Check<T>): Check<T | undefined> {
  return (value): value is T | undefined => value === undefined || check(value);
}

export function isListOf<T>(check: Check<T>): Check<T[]> {
  return (value): value is T[] => Array.isArray(value) && value.every(check);
}

/** An object with at least these fields; further fields are allowed, so that old code reads newer records. */
export function isRecordOf<T extends object>(fields: { [K in keyof Required<T>]: Check<T[K]> }): Check<T> {
  const entries = Object.entries(fields) as Array<[string, Check<unknown>]>;
  return (value): value is T => {
    if (typeof value !== 'object' || value === null) return false;
    for (const [name, check] of entries) if (!check((value as Record<string, unknown>)[name])) return false;
    return true;
  };
}

/** The value of the JSON text when it passes the check, else undefined. */
export function parseJson<T>(text: string, check: Check<T>): T | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return check(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
