import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { Time } from '../parts/figures.js';
import { Card, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { FilterField, Id, SearchField, Status, useFilters } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/abuse/reports';
type Report = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<Report>[] = [
  {
    key: 'reference',
    title: 'Report',
    cell: (row) => <a href={`/admin/reports/${row.id}`}>{row.reference}</a>,
    csv: (row) => row.reference,
  },
  { key: 'state', title: 'State', cell: (row) => <Status of={row.state} />, csv: (row) => row.state },
  { key: 'exit', title: 'Exit address', cell: (row) => row.exit_ip ?? '–', csv: (row) => row.exit_ip },
  {
    key: 'at',
    title: 'Happened',
    cell: (row) => <Time at={row.happened_at} full />,
    csv: (row) => row.happened_at,
  },
  {
    key: 'about',
    title: 'About',
    cell: (row) => (row.description === null ? '–' : short(row.description)),
    csv: (row) => row.description,
  },
  {
    key: 'finding',
    title: 'Finding',
    cell: (row) => (
      <Id id={row.finding_id} {...(row.finding_id !== null && { href: `/admin/abuse/${row.finding_id}` })} />
    ),
    csv: (row) => row.finding_id,
  },
  {
    key: 'received',
    title: 'Received',
    cell: (row) => <Time at={row.received_at} />,
    csv: (row) => row.received_at,
  },
];

const short = (text: string) => (text.length > 70 ? `${text.slice(0, 70)}…` : text);

/** What others report of the network. */
export default function AbuseReports() {
  const { route } = useLocation();
  const [filters, setFilter] = useFilters('state', 'exit_ip', 'finding_id');
  return (
    <>
      <PageHead
        title="Abuse reports"
        lead={
          <>
            From anybody, by the form at <a href="/abuse">/abuse</a>. Answer within a working day.
          </>
        }
      />
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>({ ...query, ...filters }) }, signal }))
          }
          caption="Abuse reports"
          columns={COLUMNS}
          rowKey={(row) => row.id}
          filters={JSON.stringify(filters)}
          empty="Nobody reports anything"
          exportName="abuse-reports"
          onRow={(row) => route(`/admin/reports/${row.id}`)}
        >
          <FilterField
            label="State"
            value={filters.state}
            onValue={setFilter('state')}
            values={['open', 'answered', 'closed']}
          />
          <SearchField label="Exit address" value={filters.exit_ip} onValue={setFilter('exit_ip')} />
          <SearchField label="Finding id" value={filters.finding_id} onValue={setFilter('finding_id')} />
        </Table>
      </Card>
    </>
  );
}
