import { Type } from 'typebox';
import { cursorPart, cutPage, decodeCursor } from './pagination.js';

/** What a list can be sorted by. An index must lead with the expression and then the id, both ascending. */
export interface SortColumn {
  /** SQL that is never null, as in the index. */
  expression: string;
  kind: 'timestamptz' | 'bigint' | 'text';
}

/** Characters of a text by which lists are sorted; texts that differ behind them are in the order of their ids. */
export const SORTED_TEXT_MAX = 40;

const KINDS = {
  timestamptz: {
    pattern: cursorPart.timestamp,
    text: (sql: string) => `to_char(${sql}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
  },
  bigint: { pattern: /^-?\d{1,18}$/, text: (sql: string) => `${sql}::text` },
  text: { pattern: new RegExp(`^[^\\0]{0,${SORTED_TEXT_MAX}}$`, 'u'), text: (sql: string) => sql },
} as const;

/**
 * The parameter `sort` of a list: a name of `columns`, with a minus in front for the largest first. `preset` is the
 * order without it.
 */
export function sortParameter<Name extends string>(
  columns: Readonly<Record<Name, SortColumn>>,
  preset: SortOf<Name>,
) {
  const names = Object.keys(columns) as Name[];
  return Type.Enum(
    names.flatMap((name): SortOf<Name>[] => [name, `-${name}`]),
    {
      default: preset,
      description: 'a minus: the largest (latest) first',
    },
  );
}

export type SortOf<Name extends string> = Name | `-${Name}`;

/** A row as the list's statement selects it, with `${order.selected}`. */
export interface SortedRow {
  id: string;
  sort_text: string;
}

export interface ListOrder {
  /** For the SELECT: what the row is sorted by, as the cursor carries it. */
  selected: string;
  /** The rows behind the cursor; null on the first page. */
  condition: string | null;
  /** Without `ORDER BY`. */
  orderBy: string;
  /** Cuts the page out of rows fetched with `LIMIT limit + 1`. */
  cut<Row extends SortedRow>(rows: readonly Row[], limit: number): { rows: Row[]; nextCursor: string | null };
}

/**
 * The SQL of one page of a sorted list. `id`: the column that makes the order total, a uuid unless `idPattern` says what
 * else its values look like. `value`: adds a value to the statement and gives its placeholder. A cursor is good for the order it came with only:
 * Problem('validation_failed') otherwise.
 */
export function listOrder<Name extends string>(
  columns: Readonly<Record<Name, SortColumn>>,
  {
    sort,
    cursor,
    id,
    idPattern = cursorPart.uuid,
    value,
  }: {
    sort: SortOf<Name>;
    cursor: string | undefined;
    id: string;
    idPattern?: RegExp;
    value: (given: unknown) => string;
  },
): ListOrder {
  const descends = sort.startsWith('-');
  const { expression, kind } = columns[(descends ? sort.slice(1) : sort) as Name];
  const direction = descends ? 'DESC' : 'ASC';
  let condition: string | null = null;
  if (cursor !== undefined) {
    const [, last, lastId] = decodeCursor(cursor, [new RegExp(`^${sort}$`), KINDS[kind].pattern, idPattern]);
    condition = `(${expression}, ${id}) ${descends ? '<' : '>'} (${value(last)}::${kind}, ${value(lastId)})`;
  }
  return {
    selected: `${KINDS[kind].text(expression)} AS sort_text`,
    condition,
    orderBy: `${expression} ${direction}, ${id} ${direction}`,
    cut: (rows, limit) => cutPage(rows, limit, (row) => [sort, row.sort_text, row.id]),
  };
}
