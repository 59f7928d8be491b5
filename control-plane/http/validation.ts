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
    if (validator.Check(converted)) return { value: converted };
    return { error: validator.Errors(converted) as never };
  };
};
