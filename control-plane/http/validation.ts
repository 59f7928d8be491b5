import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Value } from 'typebox/value';

/**
 * Bodies are taken as they are: a number is not a string, and an unknown field is an error. Everything else comes
 * as text (query, path, headers) and is converted to the schema's types first. Defaults are filled in either way.
 * All findings are reported, not the first one.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const validator = Compile(schema);
  return (value: unknown) => {
    const filled = Value.Default(schema, value);
    const converted = httpPart === 'body' ? filled : Value.Convert(schema, filled);
    if (!validator.Check(converted)) return { error: validator.Errors(converted) as never };
    const findings = unwritableText(converted);
    return findings.length === 0 ? { value: converted } : { error: findings as never };
  };
};

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
