import type { FastifyInstance, FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Value } from 'typebox/value';
import { Problem } from '../errors.js';

/**
 * Bodies are taken as they are: a number is not a string, and an unknown field is an error. Everything else comes
 * as text (query, path, headers) and is read as the schema's types first. Defaults are filled in either way.
 * All findings are reported, not the first one. A schema is compiled with the first request that it judges: a control plane starts
 * sooner than it could compile hundreds.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  let compiled: ReturnType<typeof Compile> | null = null;
  return (value: unknown) => {
    compiled ??= Compile(schema);
    const validator = compiled;
    const filled = Value.Default(schema, value);
    const converted = httpPart === 'body' ? filled : readTexts(schema, filled);
    if (!validator.Check(converted)) {
      const long = longArrays(schema, converted);
      return { error: (long.length > 0 ? long : validator.Errors(converted)) as never };
    }
    const findings = unwritableText(converted);
    return findings.length === 0 ? { value: converted } : { error: findings as never };
  };
};

/** Levels of arrays and objects in a body; above it 400. Every schema of ours is far below. */
const BODY_DEPTH_MAX = 32;

/**
 * What is refused of a body before its schema is looked at: nesting that a few bytes of text can make deep enough to
 * exhaust the stack of whoever walks through it; and, on a route without a schema for its body, any body at all. Its
 * fields are unknown, as elsewhere; an empty object is none, since many clients send one with each POST. Call before
 * registering routes.
 */
export function refuseOddBodies(app: FastifyInstance): void {
  app.addHook('preValidation', async (request) => {
    const { body } = request;
    if (request.is404 || body === undefined || body === null) return;
    if (isDeeperThan(body, BODY_DEPTH_MAX))
      throw new Problem('validation_failed', undefined, {
        errors: [{ path: '/body', message: `must not be nested more than ${BODY_DEPTH_MAX} levels deep` }],
      });
    if (request.routeOptions.schema?.body !== undefined) return;
    const isObject = typeof body === 'object' && !Array.isArray(body);
    const names = isObject ? Object.keys(body) : [];
    if (isObject && names.length === 0) return;
    throw new Problem('validation_failed', 'This call takes no body.', {
      errors: isObject
        ? names.map((name) => ({ path: `/body/${name}`, message: 'is not known' }))
        : [{ path: '/body', message: 'must be left out' }],
    });
  });
}

/** Level by level and without recursion, for values of any depth. */
function isDeeperThan(value: unknown, levelsMax: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > levelsMax) return true;
    const next: unknown[] = [];
    for (const item of level)
      if (typeof item === 'object' && item !== null)
        for (const inner of Object.values(item))
          if (typeof inner === 'object' && inner !== null) next.push(inner);
    level = next;
  }
  return false;
}

interface SchemaParts {
  type?: string;
  anyOf?: SchemaParts[];
  maxItems?: number;
  items?: SchemaParts;
  properties?: Record<string, SchemaParts>;
}

/**
 * Arrays with more items than their schema allows. Looked for before everything else that may be wrong: telling which
 * of many items repeat takes typebox a time that grows with their square, and a body has room for a hundred thousand.
 */
function longArrays(
  schema: SchemaParts,
  value: unknown,
  instancePath = '',
): { instancePath: string; message: string }[] {
  if (typeof value !== 'object' || value === null) return [];
  const kind = Array.isArray(value) ? 'array' : 'object';
  const forms = (schema.anyOf ?? [schema]).filter(({ type }) => type === kind);
  if (Array.isArray(value)) {
    const countMax = Math.max(...forms.map(({ maxItems = Number.POSITIVE_INFINITY }) => maxItems));
    if (forms.length > 0 && value.length > countMax)
      return [{ instancePath, message: `must not have more than ${countMax} items` }];
    const anyOf = forms.flatMap(({ items }) => items ?? []);
    return value.flatMap((item, i) => longArrays({ anyOf }, item, `${instancePath}/${i}`));
  }
  return Object.entries(value).flatMap(([name, item]) => {
    const anyOf = forms.flatMap(({ properties = {} }) =>
      Object.hasOwn(properties, name) ? (properties[name] as SchemaParts) : [],
    );
    return longArrays({ anyOf }, item, `${instancePath}/${name}`);
  });
}

const INTEGER = /^-?\d{1,16}$/;
const NUMBER = /^-?\d{1,16}(\.\d{1,16})?$/;

/** Parameters as the types their schemas say, where the text is exactly that; else as they came, to be refused. */
function readTexts(schema: TSchema, values: unknown): unknown {
  const { properties } = schema as { properties?: Record<string, { type?: string }> };
  if (properties === undefined || typeof values !== 'object' || values === null) return values;
  const read = (name: string, value: unknown) => {
    if (typeof value !== 'string' || !Object.hasOwn(properties, name)) return value;
    switch (properties[name]?.type) {
      case 'integer':
        return INTEGER.test(value) ? Number(value) : value;
      case 'number':
        return NUMBER.test(value) ? Number(value) : value;
      case 'boolean':
        return value === 'true' ? true : value === 'false' ? false : value;
      default:
        return value;
    }
  };
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, read(name, value)]));
}

/** Half of a surrogate pair; whole pairs are one character to a pattern with `u`. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Texts that Postgres cannot keep: with NUL, or not Unicode (RFC 8259, section 8.2 lets JSON carry both). */
function unwritableText(value: unknown, instancePath = ''): { instancePath: string; message: string }[] {
  if (typeof value === 'string')
    return value.includes('\0') || LONE_SURROGATE.test(value)
      ? [{ instancePath, message: 'must be Unicode text without NUL' }]
      : [];
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([name, item]) => [
    ...unwritableText(name, instancePath),
    ...unwritableText(item, `${instancePath}/${name}`),
  ]);
}
