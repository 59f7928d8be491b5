import { Value } from 'typebox/value';
import type { Schema } from '../../helpers/openapi.js';

/** The objects a body may be: alternatives of a union each, null left out. */
export function objectsOf(schema: Schema): Schema[] {
  if (schema?.anyOf !== undefined) return schema.anyOf.flatMap(objectsOf);
  return schema?.type === 'object' ? [schema] : [];
}

/** Values at the edges of what a schema says, and far from them; some fit it, some do not. */
function edges(schema: Schema): unknown[] {
  if (schema.anyOf !== undefined) return [...schema.anyOf.flatMap(edges), null, true, {}];
  const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER, minLength = 1, maxLength } = schema;
  const wrong = [null, true, 7, 'ä'.repeat(300), [], {}, [1], { a: 1 }, -1, 1.5, '', '\0', '\ud800'];
  switch (schema.type) {
    case 'integer':
    case 'number':
      return [...wrong, minimum, minimum - 1, maximum, maximum + 1, String(minimum), 1e300, -1e300];
    case 'string':
      return [
        ...wrong,
        'x'.repeat(minLength),
        'x'.repeat(Math.max(0, minLength - 1)),
        ...(maxLength === undefined ? [] : ['x'.repeat(maxLength), 'x'.repeat(maxLength + 1)]),
      ];
    case 'array': {
      const { maxItems = 300, minItems = 0 } = schema;
      const many = (n: number) => Array.from({ length: n }, () => 'x');
      return [...wrong, many(maxItems + 1), many(Math.max(0, minItems - 1)), [null]];
    }
    default:
      return [...wrong, ...(schema.enum ?? []), `${schema.enum?.[0]} `];
  }
}

const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The alternative of a body's schema that this body is. */
const formOf = (schema: Schema, body: unknown): Schema | undefined =>
  objectsOf(schema).find((form) => Value.Check(form, body));

/** Bodies like a good one that the schema does not allow, with what was done to them. */
export function badBodies(schema: Schema, good: unknown): Array<[what: string, body: unknown]> {
  const spoilt: Array<[string, unknown]> = [
    ['an array', [good]],
    ['a text', 'text'],
    ['a number', 7],
  ];
  const form = formOf(schema, good);
  if (form !== undefined && isPlainObject(good)) {
    spoilt.push(['an unknown field', { ...good, surprise_field: 1 }]);
    spoilt.push([
      'a prototype',
      JSON.parse(JSON.stringify({ ...good, x: 1 }).replace('"x":1', '"__proto__":{"a":1}')),
    ]);
    for (const name of form.required ?? [])
      spoilt.push([`without ${name}`, Object.fromEntries(Object.entries(good).filter(([n]) => n !== name))]);
    for (const [name, field] of Object.entries<Schema>(form.properties ?? {})) {
      for (const value of edges(field)) spoilt.push([`${name}: ${say(value)}`, { ...good, [name]: value }]);
      if (isPlainObject(good[name]))
        for (const [what, inner] of badBodies(field, good[name]))
          spoilt.push([`${name}, ${what}`, { ...good, [name]: inner }]);
    }
  }
  return spoilt.filter(([, body]) => !Value.Check(schema, body));
}

/** Bodies like a good one, one field at an edge of what is allowed. */
export function edgeBodies(schema: Schema, good: unknown): Array<[what: string, body: unknown]> {
  const form = formOf(schema, good);
  if (form === undefined || !isPlainObject(good)) return [];
  return Object.entries<Schema>(form.properties ?? {})
    .flatMap(([name, field]) =>
      edges(field).map((value): [string, unknown] => [`${name}: ${say(value)}`, { ...good, [name]: value }]),
    )
    .filter(([, body]) => Value.Check(schema, body));
}

/** Texts for a parameter that its schema does not allow. */
export function badTexts(schema: Schema): string[] {
  return textsOf(schema).filter((text) => !Value.Check(schema, read(schema, text)));
}

/** Texts for a parameter at the edges of what its schema allows. */
export function edgeTexts(schema: Schema): string[] {
  return textsOf(schema).filter((text) => Value.Check(schema, read(schema, text)));
}

/** What a text says to a schema: numbers in digits and nothing else, `true` and `false`. */
function read({ type }: Schema, text: string): unknown {
  if (type === 'integer') return /^-?\d+$/.test(text) ? Number(text) : text;
  if (type === 'boolean') return text === 'true' || (text === 'false' ? false : text);
  return text;
}

function textsOf(schema: Schema): string[] {
  const plain = edges(schema).flatMap((value) =>
    ['string', 'number', 'boolean'].includes(typeof value) ? [String(value)] : [],
  );
  return [...new Set([...plain, 'nobody', '2026-13-45', '0000-01-01', '99999999999999999999'])].filter(
    (text) => text !== '' && !/[\ud800-\udfff]/.test(text),
  );
}

const say = (value: unknown) => JSON.stringify(value)?.slice(0, 40) ?? String(value);
