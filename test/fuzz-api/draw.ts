import { Value } from 'typebox/value';
import { CALLERS, type Caller } from '../helpers/cast.js';
import type { Operation, Schema } from '../helpers/openapi.js';
import { Random } from '../sim/random.js';
import { BAD_ESCAPES, brokenJson, hostileJson, hostileText } from './hostile.js';

/** What there is in the world that a request may name, and how its callers sign in. */
export interface Known {
  credentials: Readonly<Record<Caller, Readonly<Record<string, string>>>>;
  /** By the name of the parameter or field they fit, and by what stands before a parameter in a path (`legal_holds`); `id`: any. */
  values: Readonly<Record<string, readonly (string | number)[]>>;
}

/** One request as it goes over the wire. */
export interface Request {
  seed: number;
  operation: Operation;
  caller: Caller;
  /** Path and query, escaped. */
  target: string;
  headers: Record<string, string>;
  body: string | null;
}

/** How far a request is from a good one. */
type Mode = 'valid' | 'near' | 'hostile';

const SCHEMES: Record<string, Caller> = {
  user_token: 'user',
  telegram_init_data: 'init',
  device_key: 'device',
  buyer_token: 'buyer',
  admin_token: 'admin',
  bot_secret: 'bot',
  internal_secret: 'internal',
};

/** Tried against patterns: the first that fit stand for them. */
const SAMPLES = [
  ...['DE', 'eu', 'US', '1.0.0', '12.34', '5', '25.5', '+998901234567', '12:30', '08:00', 'example.net'],
  ...[
    '192.0.2.0/24',
    '198.51.100.7',
    '2001:db8::/32',
    '123456',
    'ABC-123',
    'cleanup',
    'stats',
    'gw-1',
    'all',
  ],
  ...['active', 'region:DE', 'language:uz', 'ipintel', 'login', 'user', 'device-abcdef12', 'a'.repeat(24)],
  ...['b'.repeat(32), 'c'.repeat(64), 'link_abcdefghijklmnopqrstuvwxyz', 'buyer', '7', 'abcd1234'],
];

/** The request of a seed: the same for the same operations and a world with as many things in it. */
export function draw(seed: number, operations: readonly Operation[], known: Known): Request {
  return new Drawing(new Random(seed), known).request(seed, operations);
}

class Drawing {
  constructor(
    readonly random: Random,
    readonly known: Known,
  ) {}

  request(seed: number, operations: readonly Operation[]): Request {
    const { random } = this;
    const operation = random.pick(operations);
    const mode: Mode = random.pick(['valid', 'near', 'near', 'hostile']);
    const allowed = (operation.schemes ?? []).map((scheme) => SCHEMES[scheme] ?? 'none');
    const caller = allowed.length > 0 && random.chance(0.85) ? random.pick(allowed) : random.pick(CALLERS);
    const headers: Record<string, string> = {
      ...this.known.credentials[caller],
      'x-forwarded-for': `84.${random.between(128, 191)}.${random.below(256)}.${random.between(1, 254)}`,
    };
    if (operation.idempotent && random.chance(0.3)) headers['idempotency-key'] = `key-${random.below(50)}`;
    const target = this.#target(operation, mode);
    const body = this.#body(operation, mode, headers);
    if (mode === 'hostile') this.#spoilHeaders(headers);
    return { seed, operation, caller, target, headers, body };
  }

  #target(operation: Operation, mode: Mode): string {
    const { random } = this;
    const path = operation.path.replace(/(\w+)\/\{(\w+)\}/g, (_, before: string, name: string) => {
      const parameter = operation.parameters.find((p) => p.in === 'path' && p.name === name);
      if (mode === 'hostile' && random.chance(0.1)) return `${before}/${random.pick(BAD_ESCAPES)}`;
      const key = before in this.known.values && random.chance(0.8) ? before : name;
      return `${before}/${escapeText(this.#text(key, parameter?.schema, mode)) || '-'}`;
    });
    const query: string[] = [];
    for (const { name, in: where, required, schema } of operation.parameters) {
      if (where !== 'query' || !(required || random.chance(0.4))) continue;
      if (mode === 'near' && random.chance(0.05)) continue;
      const value = escapeText(this.#text(name, schema, mode));
      query.push(`${name}=${mode === 'hostile' && random.chance(0.1) ? random.pick(BAD_ESCAPES) : value}`);
      if (mode !== 'valid' && random.chance(0.1)) query.push(`${name}=${value}`); // twice
    }
    if (mode !== 'valid' && random.chance(0.1))
      query.push(
        random.pick(['__proto__[a]=1', 'constructor=1', 'surprise=1', '=', '&&', 'limit[]=1', '%00=%00']),
      );
    return query.length === 0 ? path : `${path}?${query.join('&')}`.slice(0, 8_000);
  }

  #text(name: string, schema: Schema, mode: Mode): string {
    const { random } = this;
    if (name === 'cursor') return this.#cursor();
    if (mode === 'hostile' ? random.chance(0.5) : mode === 'near' && random.chance(0.2))
      return hostileText(random).slice(0, 3_000);
    const value = this.#valid(name, schema, 0);
    return typeof value === 'object' ? JSON.stringify(value) : String(value);
  }

  #cursor(): string {
    const { random } = this;
    const part = () =>
      random.pick([
        '2026-01-01T00:00:00.000Z',
        '2026-02-31T00:00:00Z',
        random.hex(8),
        '0',
        '20000',
        'a',
        '\0',
        'é',
      ]);
    const parts = Array.from({ length: random.below(4) }, part);
    if (random.chance(0.3)) parts.push(String(this.#known('id') ?? ''));
    const json = random.chance(0.1) ? hostileJson(random).slice(0, 200) : JSON.stringify(parts);
    return random.chance(0.1) ? hostileText(random).slice(0, 500) : Buffer.from(json).toString('base64url');
  }

  #body({ method, body: schema }: Operation, mode: Mode, headers: Record<string, string>): string | null {
    const { random } = this;
    if (method === 'GET') return null;
    if (schema === null && (mode === 'valid' || random.chance(0.7))) return null;
    headers['content-type'] = 'application/json';
    const sound = schema === null ? '{}' : (this.#json('', schema, mode, 0) ?? '{}');
    if (mode === 'valid') return sound;
    if (random.chance(0.03)) return brokenJson(random, sound);
    if (mode === 'hostile' && random.chance(0.1)) return hostileJson(random);
    if (random.chance(0.04))
      headers['content-type'] = random.pick([
        ...[
          'text/plain',
          'application/xml',
          'application/json; charset=utf-16',
          'application/x-www-form-urlencoded',
        ],
        ...['multipart/form-data; boundary=x', 'application/problem+json', 'json', '/', 'text/csv'],
      ]);
    return sound;
  }

  /** JSON text of a value for the schema: sound, or not. */
  #json(name: string, schema: Schema, mode: Mode, depth: number): string | undefined {
    const { random } = this;
    if (depth > 0 && (mode === 'hostile' ? random.chance(0.25) : mode === 'near' && random.chance(0.08)))
      return hostileJson(random);
    if (schema.anyOf !== undefined) return this.#json(name, random.pick(schema.anyOf), mode, depth);
    if (schema.type === 'array') {
      const { minItems = 0, maxItems = 3 } = schema;
      const count = random.between(minItems, Math.max(minItems, Math.min(maxItems, 3)));
      return `[${Array.from({ length: count }, () => this.#json(name, schema.items, mode, depth + 1)).join()}]`;
    }
    if (schema.type !== 'object') return JSON.stringify(this.#valid(name, schema, depth));
    const fields: string[] = [];
    for (const [field, inner] of Object.entries<Schema>(schema.properties ?? {})) {
      const wanted = schema.required?.includes(field)
        ? !(mode !== 'valid' && random.chance(0.05))
        : random.chance(0.4);
      if (wanted) fields.push(`${JSON.stringify(field)}:${this.#json(field, inner, mode, depth + 1)}`);
    }
    if (mode !== 'valid' && random.chance(0.07))
      fields.push(
        `${random.pick(['"__proto__"', '"constructor"', '"\\u0000"', '"surprise"'])}:${hostileJson(random)}`,
      );
    return `{${fields.join()}}`;
  }

  #known(name: string): string | number | null {
    const values = this.known.values[name] ?? [];
    return values.length === 0 ? null : this.random.pick(values);
  }

  /** A value that fits the schema, one that is there where it names something. */
  #valid(name: string, schema: Schema, depth: number): unknown {
    const { random } = this;
    if (schema === undefined) return '';
    if (schema.anyOf !== undefined) return this.#valid(name, random.pick(schema.anyOf), depth);
    if (schema.const !== undefined) return schema.const;
    if (schema.enum !== undefined) return random.pick(schema.enum);
    const known = random.chance(0.9) ? this.#known(name) : null;
    if (known !== null && Value.Check(schema, known)) return known;
    switch (schema.type) {
      case 'null':
        return null;
      case 'boolean':
        return random.chance(0.5);
      case 'integer':
      case 'number': {
        const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = schema;
        if (random.chance(0.15)) return random.pick([minimum, maximum]);
        return Math.min(maximum, minimum + random.below(100));
      }
      case 'string':
        return this.#string(schema);
      case undefined:
        return random.pick([1, 'x', []]);
      default:
        return {};
    }
  }

  #string(schema: Schema): string {
    const { random } = this;
    const { format, minLength = 0, maxLength = 40 } = schema;
    const examples: string[] = schema.examples ?? [];
    switch (format) {
      case 'uuid':
        return String(this.#known('id') ?? `${random.hex(8)}-0000-4000-8000-${random.hex(12)}`);
      case 'date-time':
        return `20${random.between(20, 29)}-0${random.between(1, 9)}-1${random.below(10)}T0${random.below(10)}:00:00Z`;
      case 'date':
        return `20${random.between(24, 27)}-0${random.between(1, 9)}-2${random.below(9)}`;
      case 'email':
        return 'ann@example.org';
      case 'ipv4':
        return `84.130.${random.below(256)}.${random.below(256)}`;
      case 'ipv6':
        return `2001:db8::${random.hex(4)}`;
    }
    if (schema.pattern !== undefined) {
      const fitting = [...examples, ...SAMPLES].filter((text) => Value.Check(schema, text));
      return fitting.length === 0 ? 'x' : random.pick(fitting);
    }
    const length = random.between(minLength, Math.min(maxLength, minLength + 30));
    // with the sign that ends a text of SQL: it may be in any name
    return "Aб'c d🙂ef-ghij"
      .repeat(4)
      .slice(0, Math.max(length, minLength))
      .replace(/\p{Surrogate}/gu, '?');
  }

  #spoilHeaders(headers: Record<string, string>): void {
    const { random } = this;
    if (random.chance(0.1))
      headers['x-request-id'] = random.pick(['a', 'x'.repeat(3_000), '\u00ff', '"', 'ok-12345678']);
    if (random.chance(0.05))
      headers['idempotency-key'] = random.pick(['', ' ', 'x'.repeat(500), '\u00e9', 'k']);
    if (random.chance(0.05))
      headers['x-forwarded-for'] = random.pick(['', 'nobody', '::1, ::2', '1.2.3.4, x', '\u00ff']);
    if (random.chance(0.05))
      headers.authorization = random.pick([
        ...['Bearer', 'Bearer ', 'Basic YTpi', 'Bearer tsb', 'Bearer tsd_', `Bearer ${'x'.repeat(5_000)}`],
        ...['Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.', 'Bearer a.b.c', '\u00ff'],
      ]);
    if (random.chance(0.03))
      headers['x-telegram-init-data'] = random.pick(['', '&', 'hash=%', 'user=%7B%7D&hash=00', '%ff']);
    if (random.chance(0.03)) headers.accept = random.pick(['text/csv', '*', 'application/xml;q=NaN']);
  }
}

/** As a part of an address; half characters become what no decoder takes for UTF-8. */
function escapeText(text: string): string {
  return [...text]
    .map((character) => (/\p{Surrogate}/u.test(character) ? '%ED%A0%80' : encodeURIComponent(character)))
    .join('');
}
