import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { ApiClient } from '../../../client/client.js';
import { useLoad } from '../api/use-load.js';
import { useRole } from '../shell/role.js';
import { Button } from './buttons.js';
import { exportCsv } from './csv.js';
import { Progress } from './layout.js';
import { saveAnswer } from './save-answer.js';
import { Scroll } from './scroll.js';
import { Empty, Failure, Loading } from './states.js';

export interface Column<Row> {
  key: string;
  title: string;
  cell: (row: Row) => ComponentChildren;
  /** The value in an exported file; without it the column is not exported. */
  csv?: (row: Row) => string | number | null;
  /** Figures stand to the right. */
  number?: boolean;
  /** What `load` gets as `sort` (with `-` before it: downwards): only where the server sorts by it. */
  sort?: string;
}

/** A page as the API's lists give it. */
export interface ListPage<Row> {
  items: Row[];
  next_cursor: string | null;
  total?: number;
}

export interface ListQuery {
  limit: number;
  cursor?: string;
  sort?: string;
}

const PAGE = 25;

/**
 * A list of the API, a page at a time: the server pages, sorts and filters. `filters`: what the list depends on beside
 * its query; another value begins at the first page. `revision`: another value loads the page anew.
 */
export function Table<Row>(props: {
  /** For screen readers. */
  caption: string;
  columns: readonly Column<Row>[];
  rowKey: (row: Row) => string;
  load: (api: ApiClient, query: ListQuery, signal: AbortSignal) => Promise<ListPage<Row>>;
  filters?: string;
  revision?: number;
  pageSize?: number;
  empty: ComponentChildren;
  /** Name of the exported file without `.csv`; without it nothing is exported. */
  exportName?: string;
  /** The file of the whole list in the order shown, where the server makes it; else the pages are read here. */
  exportFile?: (api: ApiClient, sort: string | undefined, signal: AbortSignal) => Promise<Blob>;
  /** Opens one. */
  onRow?: (row: Row) => void;
  /** Above the table: search and filters. */
  children?: ComponentChildren;
}) {
  const { columns, filters = '', revision = 0, pageSize = PAGE } = props;
  const [sort, setSort] = useState<string>();
  // The cursors of the pages before, for going back; they belong to one set of filters and one order.
  const [place, setPlace] = useState<{ of: string; cursors: (string | undefined)[] }>({
    of: '',
    cursors: [undefined],
  });
  const of = JSON.stringify([filters, sort]);
  const cursors = place.of === of ? place.cursors : [undefined];
  const cursor = cursors.at(-1);
  const query: ListQuery = { limit: pageSize, ...(cursor && { cursor }), ...(sort && { sort }) };
  const page = useLoad((api, signal) => props.load(api, query, signal), [of, cursor, revision, pageSize]);
  const exporting = useExport(props, sort);
  const items = page.data?.items;
  const next = page.data?.next_cursor ?? null;
  const go = (to: (string | undefined)[]) => setPlace({ of, cursors: to });

  return (
    <div class="table-part">
      {(props.children !== undefined || props.exportName !== undefined) && (
        <div class="table-tools">
          <div class="table-filters">{props.children}</div>
          {props.exportName !== undefined && (
            <Button busy={exporting.done !== null} onClick={() => void exporting.start()}>
              Export CSV
            </Button>
          )}
        </div>
      )}
      {exporting.done !== null && (
        <div class="table-progress">
          <Progress
            label={
              props.exportFile === undefined ? `${exporting.done} rows read` : 'The server writes the file'
            }
            value={exporting.total === null ? null : exporting.done}
            max={exporting.total ?? 1}
          />
          <Button kind="quiet" onClick={exporting.stop}>
            Stop
          </Button>
        </div>
      )}
      {page.error !== undefined && !page.loading && <Failure error={page.error} retry={page.reload} />}
      {items === undefined ? (
        page.error === undefined && <Loading lines={5} />
      ) : items.length === 0 && cursors.length === 1 ? (
        <div aria-live="polite">
          {typeof props.empty === 'string' ? <Empty title={props.empty} /> : props.empty}
        </div>
      ) : (
        <Scroll label={props.caption} busy={page.loading}>
          <table>
            <caption class="hidden">{props.caption}</caption>
            <thead>
              <tr>
                {columns.map((column) => (
                  <Head key={column.key} column={column} sort={sort} onSort={setSort} />
                ))}
              </tr>
            </thead>
            <tbody>
              {items.map((row) => (
                <tr
                  key={props.rowKey(row)}
                  class={props.onRow && 'row-link'}
                  onClick={() => props.onRow?.(row)}
                >
                  {columns.map((column) => (
                    <td
                      key={column.key}
                      class={column.number ? 'cell-number' : undefined}
                      data-title={column.title}
                    >
                      {column.cell(row)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      {(cursors.length > 1 || next !== null) && (
        <nav class="pager" aria-label={`Pages of ${props.caption}`}>
          <Button disabled={cursors.length === 1 || page.loading} onClick={() => go(cursors.slice(0, -1))}>
            Previous
          </Button>
          <span class="quiet small" aria-live="polite">
            Page {cursors.length}
            {page.data?.total !== undefined && ` of ${Math.max(1, Math.ceil(page.data.total / pageSize))}`}
          </span>
          <Button
            disabled={next === null || page.loading}
            onClick={() => go([...cursors, next ?? undefined])}
          >
            Next
          </Button>
        </nav>
      )}
    </div>
  );
}

function Head<Row>(props: {
  column: Column<Row>;
  sort: string | undefined;
  onSort: (sort: string | undefined) => void;
}) {
  const { column, sort, onSort } = props;
  const up = column.sort;
  const className = column.number ? 'cell-number' : undefined;
  if (up === undefined)
    return (
      <th scope="col" class={className}>
        {column.title}
      </th>
    );
  const state = sort === up ? 'ascending' : sort === `-${up}` ? 'descending' : 'none';
  const next = { none: `-${up}`, descending: up, ascending: undefined }[state];
  return (
    <th scope="col" class={className} aria-sort={state}>
      <button type="button" class="sort-button" onClick={() => onSort(next)}>
        {column.title}
        <span aria-hidden="true">{{ none: ' ↕', ascending: ' ↑', descending: ' ↓' }[state]}</span>
      </button>
    </th>
  );
}

function useExport<Row>(props: Parameters<typeof Table<Row>>[0], sort: string | undefined) {
  const role = useRole();
  const [state, setState] = useState<{ done: number | null; total: number | null }>({
    done: null,
    total: null,
  });
  const [abort, setAbort] = useState<AbortController>();
  const start = async () => {
    const stop = new AbortController();
    setAbort(stop);
    setState({ done: 0, total: null });
    const { exportFile, exportName: name = 'export' } = props;
    if (exportFile !== undefined)
      await saveAnswer(name, (api) => exportFile(api, sort, stop.signal), role, stop.signal);
    else
      await exportCsv({
        role,
        name,
        columns: props.columns,
        load: (api, query, signal) => props.load(api, { ...query, ...(sort && { sort }) }, signal),
        signal: stop.signal,
        onProgress: (done, total) => setState({ done, total }),
      });
    setState({ done: null, total: null });
  };
  return { ...state, start, stop: () => abort?.abort() };
}
