import { ask } from '../api/client.js';
import { Bytes, Time } from '../parts/figures.js';
import { Card, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { countryText, SearchField, SessionId, UserId, useFilters } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/destinations';
type Row = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<Row>[] = [
  { key: 'day', title: 'Day', cell: (row) => row.day, csv: (row) => row.day },
  {
    key: 'host',
    title: 'Destination',
    cell: (row) => `${row.host}:${row.port}`,
    csv: (row) => `${row.host}:${row.port}`,
  },
  {
    key: 'buyer',
    title: 'Buyer',
    cell: (row) => <a href={`/admin/buyers/${row.buyer_id}`}>{row.buyer_account}</a>,
    csv: (row) => row.buyer_account,
  },
  { key: 'tag', title: 'Tag', cell: (row) => row.tag ?? '–', csv: (row) => row.tag },
  { key: 'user', title: 'User', cell: (row) => <UserId id={row.user_id} />, csv: (row) => row.user_id },
  {
    key: 'session',
    title: 'Session',
    cell: (row) => <SessionId id={row.session_id} />,
    csv: (row) => row.session_id,
  },
  {
    key: 'exit',
    title: 'Exit',
    cell: (row) => `${row.exit_ip}, ${countryText(row.country)}`,
    csv: (row) => row.exit_ip,
  },
  {
    key: 'bytes',
    title: 'Traffic',
    number: true,
    cell: (row) => <Bytes bytes={row.bytes} />,
    csv: (row) => row.bytes,
  },
  { key: 'last', title: 'Last', cell: (row) => <Time at={row.last_at} />, csv: (row) => row.last_at },
];

/** Who reached which destination through whom: for answering complaints. */
export default function Destinations() {
  const [filters, setFilter] = useFilters('host', 'exit_ip', 'buyer_id', 'user_id', 'session_id');
  return (
    <>
      <PageHead
        title="Destinations"
        lead="Who reached what, through whom. Looking at it is in the audit log."
      />
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>({ ...query, ...filters }) }, signal }))
          }
          caption="Destinations"
          columns={COLUMNS}
          rowKey={(row) =>
            `${row.day}${row.host}${row.port}${row.allocation_id}${row.tag}${row.session_name}${row.sub_user_id}`
          }
          filters={JSON.stringify(filters)}
          empty="Nothing like that"
          exportName="destinations"
        >
          <SearchField
            label="Host"
            placeholder="example.com"
            value={filters.host}
            onValue={setFilter('host')}
          />
          <SearchField label="Exit address" value={filters.exit_ip} onValue={setFilter('exit_ip')} />
          <SearchField label="Buyer id" value={filters.buyer_id} onValue={setFilter('buyer_id')} />
          <SearchField label="User id" value={filters.user_id} onValue={setFilter('user_id')} />
          <SearchField label="Session id" value={filters.session_id} onValue={setFilter('session_id')} />
        </Table>
      </Card>
    </>
  );
}
