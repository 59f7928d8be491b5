import { Value } from 'typebox/value';

/** A JSON Schema as it stands in OpenAPI 3.1. */
// biome-ignore lint/suspicious/noExplicitAny: JSON Schema is looked at with its own words
export type Schema = any;

/** One operation of OpenAPI. */
export interface Operation {
  /** `METHOD /path/{parameter}` */
  call: string;
  method: string;
  path: string;
  parameters: ReadonlyArray<{
    name: string;
    in: 'path' | 'query' | 'header';
    required: boolean;
    schema: Schema;
  }>;
  /** Of a JSON body; null: it takes none. */
  body: Schema | null;
  bodyRequired: boolean;
  /** Schemes that it can be called with; null: none is asked for. */
  schemes: readonly string[] | null;
  idempotent: boolean;
  /** What it may answer: status to JSON schema (null: no body). */
  answers: ReadonlyMap<number, { type: string; schema: Schema } | null>;
}

/** What a reference within the document stands for; anything else is itself. */
export function resolve(document: Schema, node: Schema): Schema {
  const { $ref } = node ?? {};
  if (typeof $ref !== 'string') return node;
  return $ref
    .slice(2)
    .split('/')
    .reduce((inner: Schema, key: string) => inner?.[key], document);
}

/** The operations of an OpenAPI document, in its order. */
export function operationsOf(document: Schema): Operation[] {
  return Object.entries<Schema>(document.paths).flatMap(([path, item]) =>
    Object.entries<Schema>(item).map(([method, operation]) => {
      const all = operation.parameters ?? [];
      const security: Record<string, unknown>[] = operation.security ?? [];
      return {
        call: `${method.toUpperCase()} ${path}`,
        method: method.toUpperCase(),
        path,
        parameters: all.filter((p: Schema) => p.name !== 'Idempotency-Key'),
        body: operation.requestBody?.content?.['application/json']?.schema ?? null,
        bodyRequired: operation.requestBody?.required === true,
        schemes: security.length === 0 ? null : security.flatMap((scheme) => Object.keys(scheme)),
        idempotent: all.some((p: Schema) => p.name === 'Idempotency-Key'),
        answers: new Map(
          Object.entries<Schema>(operation.responses).map(([status, response]) => {
            const { content } = resolve(document, response);
            const [first] = Object.entries<Schema>(content ?? {});
            const schema = first && resolve(document, first[1].schema);
            return [Number(status), first ? { type: first[0], schema } : null] as const;
          }),
        ),
      };
    }),
  );
}

/**
 * What is wrong with an answer, by the document: a status that is not in it, another content type, a body that does
 * not fit. Null: nothing.
 */
export function answerProblem(
  operation: Operation,
  answer: { status: number; type: string | null; body: unknown },
): string | null {
  const { status, type, body } = answer;
  if (status >= 500) return `${status} ${JSON.stringify(body)}`;
  if (!operation.answers.has(status)) return `${status} is not documented: ${JSON.stringify(body)}`;
  const documented = operation.answers.get(status) ?? null;
  if (documented === null || status === 204) return null;
  if (type?.split(';')[0] !== documented.type && !(status < 300 && type?.startsWith('text/csv')))
    return `${status} as ${type}`;
  if (documented.type.endsWith('json') && type?.includes('json') && !Value.Check(documented.schema, body))
    return `${status} does not fit its schema: ${JSON.stringify(Value.Errors(documented.schema, body).slice(0, 3))}`;
  if (status >= 400 && (body as { status?: unknown }).status !== status) return `${status} says otherwise`;
  return null;
}
