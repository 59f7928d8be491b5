import { readFileSync } from 'node:fs';

/**
 * Reads settings from environment variables: once, all problems reported together, the result frozen.
 * Only `config.ts` files call this with `process.env`.
 */

/** How one setting is read: `parse` gives the value or throws an Error whose message says what is expected. */
export interface Setting<T> {
  /** Environment variable, `TS_…`. */
  name: string;
  /** One line for `--help` and the documents: meaning, unit, and what happens at a limit. */
  help: string;
  /** What a value looks like, for the documents: `whole number, 0 to 65535`. */
  takes: string;
  /** Used when the variable is absent or empty; a required setting has none. */
  default?: T;
  /** What the documents say instead of a default that is the machine's. */
  defaultText?: string;
  /** Must not be seen by others: may be in a file instead, whose path is in `NAME_FILE`. */
  secret?: true;
  parse(text: string): T;
}

/** A text setting, any non-empty value. */
export function text<D extends string | null = never>(
  name: string,
  help: string,
  fallback?: D,
): Setting<string | D> {
  return {
    name,
    help,
    takes: 'text',
    parse: (value) => value,
    ...(fallback === undefined ? {} : { default: fallback }),
  };
}

/** A text that others must not see. It is in the variable, or in the file that `NAME_FILE` names; blanks at its ends go. */
export function secret<D extends string | null = never>(
  name: string,
  help: string,
  fallback?: D,
): Setting<string | D> {
  return { ...text(name, help, fallback), secret: true };
}

/** A whole number in [min, max]; the unit is in the setting's name. */
export function integer(
  name: string,
  help: string,
  range: { default?: number; min?: number; max?: number },
): Setting<number> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = range;
  return {
    name,
    help,
    takes: max === Number.MAX_SAFE_INTEGER ? `whole number from ${min}` : `whole number, ${min} to ${max}`,
    ...(range.default === undefined ? {} : { default: range.default }),
    parse(value) {
      const n = Number(value);
      if (!/^-?\d+$/.test(value) || !Number.isSafeInteger(n) || n < min || n > max)
        throw new Error(`a whole number from ${min} to ${max}`);
      return n;
    },
  };
}

/** A port, 0 included; unset: null. */
export function optionalPort(name: string, help: string): Setting<number | null> {
  return { ...integer(name, help, { max: 65_535 }), default: null } as Setting<number | null>;
}

/** `from-to`, ports from 1 to 65535; unset: null. */
export function portRange(name: string, help: string): Setting<{ from: number; to: number } | null> {
  return {
    name,
    help,
    takes: 'from-to',
    default: null,
    parse(value) {
      const match = /^(\d{1,5})-(\d{1,5})$/.exec(value);
      const [from, to] = [Number(match?.[1]), Number(match?.[2])];
      if (!match || from < 1 || to > 65_535 || from > to) throw new Error('from-to, ports from 1 to 65535');
      return { from, to };
    },
  };
}

/** A switch: 1/0, true/false, yes/no, on/off. */
export function flag(name: string, help: string, fallback: boolean): Setting<boolean> {
  return {
    name,
    help,
    takes: '1 or 0',
    default: fallback,
    parse(value) {
      if (/^(1|true|yes|on)$/i.test(value)) return true;
      if (/^(0|false|no|off)$/i.test(value)) return false;
      throw new Error('1 or 0');
    },
  };
}

/** A list separated by commas; blanks around items are dropped, so are empty items. */
export function list(
  name: string,
  help: string,
  fallback: readonly string[] = [],
): Setting<readonly string[]> {
  return {
    name,
    help,
    takes: 'list, by commas',
    default: fallback,
    parse: (value) =>
      value
        .split(',')
        .map((item) => item.trim())
        .filter(Boolean),
  };
}

/** One of a few words. */
export function oneOf<T extends string>(
  name: string,
  help: string,
  words: readonly T[],
  fallback: T,
): Setting<T> {
  return {
    name,
    help,
    takes: `one of ${words.join(', ')}`,
    default: fallback,
    parse(value) {
      const word = words.find((w) => w === value);
      if (word === undefined) throw new Error(`one of ${words.join(', ')}`);
      return word;
    },
  };
}

/** The values of a table of settings. */
export type Values<S extends Record<string, Setting<unknown>>> = {
  readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never;
};

/** Thrown by `readEnvironment` with one line a problem. Values are never quoted: they may be secrets. */
export class EnvironmentError extends Error {
  readonly code = 'BAD_ENVIRONMENT';
  constructor(readonly problems: readonly string[]) {
    super(`Settings need attention:\n${problems.map((p) => `  ${p}`).join('\n')}`);
  }
}

/**
 * Reads every setting of the table. `check` sees the values together and returns further problems (relations
 * between settings). Throws EnvironmentError that lists all of them; the result is frozen.
 */
export function readEnvironment<S extends Record<string, Setting<unknown>>>(
  settings: S,
  env: Readonly<Record<string, string | undefined>>,
  check: (values: Values<S>) => string[] = () => [],
): Values<S> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(settings)) {
    const raw = rawValue(setting, env, problems);
    if (raw === null) continue;
    if (raw === undefined || raw === '') {
      if ('default' in setting) values[key] = setting.default;
      else problems.push(`${setting.name} is required: ${setting.help}`);
      continue;
    }
    try {
      values[key] = setting.parse(raw);
    } catch (error) {
      problems.push(`${setting.name} must be ${(error as Error).message}`);
    }
  }
  if (problems.length === 0) problems.push(...check(values as Values<S>));
  if (problems.length > 0) throw new EnvironmentError(problems);
  return Object.freeze(values) as Values<S>;
}

/** The text of a setting, from its variable or its file; null: neither can be used, and `problems` says why. */
function rawValue(
  { name, secret: isSecret }: Setting<unknown>,
  env: Readonly<Record<string, string | undefined>>,
  problems: string[],
): string | null | undefined {
  const raw = env[name]?.trim();
  const path = isSecret ? env[`${name}_FILE`]?.trim() : undefined;
  if (!path) return raw;
  if (raw) {
    problems.push(`${name} and ${name}_FILE exclude each other`);
    return null;
  }
  try {
    const inFile = readFileSync(path, 'utf8').trim();
    if (inFile !== '') return inFile;
    problems.push(`${name}_FILE names an empty file`);
  } catch (error) {
    problems.push(`${name}_FILE is not readable (${(error as NodeJS.ErrnoException).code})`);
  }
  return null;
}

/** A default as it would be written into the variable; null: unset, or the machine's. */
export function defaultAsText(setting: Setting<unknown>): string | null {
  const value = setting.default;
  if (value === null || value === undefined || value === '' || setting.defaultText !== undefined) return null;
  if (typeof value === 'boolean') return value ? '1' : '0';
  if (Array.isArray(value)) return value.length === 0 ? null : value.join(',');
  return String(value);
}

/** The settings as lines for `--help`. */
export function describeSettings(settings: Record<string, Setting<unknown>>): string {
  return Object.values(settings)
    .map((s) => {
      const fallback = !('default' in s) ? 'required' : (s.defaultText ?? defaultAsText(s));
      const shown = fallback === 'required' ? fallback : fallback === null ? 'unset' : `default ${fallback}`;
      const file = s.secret ? `; or in the file of ${s.name}_FILE` : '';
      return `  ${s.name.padEnd(32)} ${s.help}${file} (${shown})`;
    })
    .join('\n');
}
