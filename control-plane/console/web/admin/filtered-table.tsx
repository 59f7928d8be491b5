import type { ComponentProps } from 'preact';
import { ask } from '../api/client.js';
import { type ListPage, Table } from '../parts/table.js';
import { type ItemOf, queryOf } from './api-types.js';

/** Lists with filters; the server makes a file of each at `/api/admin/export/<name>`. */
const LISTS = {
  users: '/api/admin/users',
  buyers: '/api/admin/buyers',
  devices: '/api/admin/devices',
  payments: '/api/admin/payments',
  sessions: '/api/sessions',
  packages: '/api/admin/packages',
} as const;
type Name = keyof typeof LISTS;
type Row<Of extends Name> = ItemOf<(typeof LISTS)[Of]>;
type Filters<Of extends Name> = Omit<
  Parameters<typeof queryOf<(typeof LISTS)[Of]>>[0],
  'limit' | 'cursor' | 'sort'
>;

/** Such a list, by its name, as its filters have it. */
export function FilteredTable<Of extends Name>(
  props: Omit<ComponentProps<typeof Table<Row<Of>>>, 'load' | 'filters' | 'exportName' | 'exportFile'> & {
    list: Of;
    filters: Filters<Of>;
  },
) {
  const { list, filters, ...others } = props;
  // They are called alike; what they give is told apart by the type of the rows.
  const path = LISTS[list] as '/api/admin/users';
  const file = `/api/admin/export/${list}` as '/api/admin/export/users';
  return (
    <Table<Row<Of>>
      {...others}
      load={(api, query, signal) =>
        ask(
          api.GET(path, { params: { query: queryOf<typeof path>({ ...query, ...filters }) }, signal }),
        ) as Promise<unknown> as Promise<ListPage<Row<Of>>>
      }
      filters={JSON.stringify(filters)}
      exportName={list}
      exportFile={(api, sort, signal) =>
        ask(
          api.GET(file, {
            params: { query: queryOf<typeof file>({ ...filters, sort }) },
            parseAs: 'blob',
            signal,
          }),
        )
      }
    />
  );
}
