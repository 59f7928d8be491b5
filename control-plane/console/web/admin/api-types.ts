import type { paths } from '../../../client/schema.js';
import type { ListQuery } from '../parts/table.js';

type Answers<Call> = Call extends { responses: infer R }
  ? R extends { 200: { content: { 'application/json': infer Body } } }
    ? Body
    : never
  : never;

/** What GET of the path answers. */
export type AnswerOf<Path extends keyof paths> = paths[Path] extends { get: infer Call }
  ? Answers<Call>
  : never;

/** One line of the list at the path. */
export type ItemOf<Path extends keyof paths> =
  AnswerOf<Path> extends { items: (infer Item)[] } ? Item : never;

type QueryOf<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Query } } }
  ? NonNullable<Query>
  : never;

/**
 * The query of a list: its page and order, and the filters that have a value. Names are checked against the API;
 * values come from fields, and the API checks them.
 */
export function queryOf<Path extends keyof paths>(
  values: Partial<ListQuery> & { [Name in keyof QueryOf<Path>]?: string | number | boolean | undefined },
): QueryOf<Path> {
  const given = Object.entries(values).filter(([, value]) => value !== '' && value !== undefined);
  return Object.fromEntries(given) as QueryOf<Path>;
}
