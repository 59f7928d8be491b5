import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { Time } from '../parts/figures.js';
import { Card, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { FilterField, SearchField, Status, UserId, useFilters } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/support';
type Thread = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<Thread>[] = [
  {
    key: 'subject',
    title: 'Subject',
    cell: (row) => <a href={`/admin/support/${row.id}`}>{row.subject}</a>,
    csv: (row) => row.subject,
  },
  { key: 'user', title: 'User', cell: (row) => <UserId id={row.user_id} />, csv: (row) => row.user_id },
  { key: 'status', title: 'Status', cell: (row) => <Status of={row.status} />, csv: (row) => row.status },
  {
    key: 'last',
    title: 'Last message',
    cell: (row) => (row.last_message.length > 70 ? `${row.last_message.slice(0, 70)}…` : row.last_message),
    csv: (row) => row.last_message,
  },
  { key: 'at', title: 'Changed', cell: (row) => <Time at={row.updated_at} />, csv: (row) => row.updated_at },
];

/** What users ask. */
export default function Support() {
  const { route } = useLocation();
  const [filters, setFilter] = useFilters('status', 'user_id');
  return (
    <>
      <PageHead title="Support" />
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>({ ...query, ...filters }) }, signal }))
          }
          caption="Support threads"
          columns={COLUMNS}
          rowKey={(row) => row.id}
          filters={JSON.stringify(filters)}
          empty="Nobody asks anything"
          exportName="support"
          onRow={(row) => route(`/admin/support/${row.id}`)}
        >
          <FilterField
            label="Status"
            value={filters.status}
            onValue={setFilter('status')}
            values={['open', 'answered', 'closed']}
          />
          <SearchField label="User id" value={filters.user_id} onValue={setFilter('user_id')} />
        </Table>
      </Card>
    </>
  );
}
