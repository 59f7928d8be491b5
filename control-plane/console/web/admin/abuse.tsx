import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { Time } from '../parts/figures.js';
import { Card, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { FilterField, SearchField, Status, useFilters } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/abuse/findings';
type Finding = ItemOf<typeof PATH>;

/** Rules of findings, in words. */
export const RULES: Readonly<Record<Finding['rule'], string>> = {
  fan_out: 'Very many hosts',
  failed_dials: 'Connections that fail: a scan',
  blocked_targets: 'Tries what is denied',
  target_by_devices: 'One host through many devices',
  target_by_buyers: 'One host by many buyers',
  reported: 'Reported by somebody',
};

const COLUMNS: readonly Column<Finding>[] = [
  {
    key: 'rule',
    title: 'Finding',
    cell: (row) => <a href={`/admin/abuse/${row.id}`}>{RULES[row.rule]}</a>,
    csv: (row) => row.rule,
  },
  {
    key: 'buyer',
    title: 'Buyer',
    cell: (row) =>
      row.buyer_id === null ? '–' : <a href={`/admin/buyers/${row.buyer_id}`}>{row.buyer_account}</a>,
    csv: (row) => row.buyer_account,
  },
  { key: 'host', title: 'Host', cell: (row) => row.host ?? '–', csv: (row) => row.host },
  {
    key: 'measured',
    title: 'Measured',
    number: true,
    cell: (row) => row.measured.toLocaleString('en'),
    csv: (row) => row.measured,
  },
  { key: 'state', title: 'State', cell: (row) => <Status of={row.state} />, csv: (row) => row.state },
  {
    key: 'automatic',
    title: 'Done by itself',
    cell: (row) => (row.automatic === null ? '–' : <Status of={row.automatic} />),
    csv: (row) => row.automatic,
  },
  { key: 'opened', title: 'Opened', cell: (row) => <Time at={row.opened_at} />, csv: (row) => row.opened_at },
  { key: 'seen', title: 'Last seen', cell: (row) => <Time at={row.seen_at} />, csv: (row) => row.seen_at },
];

/** What detection found, and what was reported of buyers. */
export default function Abuse() {
  const { route } = useLocation();
  const [filters, setFilter] = useFilters('state', 'rule', 'buyer_id');
  return (
    <>
      <PageHead
        title="Abuse"
        lead={
          <>
            What looks like harm done through the network. <a href="/admin/reports">Reports of others</a>,{' '}
            <a href="/admin/holds">legal holds</a>.
          </>
        }
      />
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>({ ...query, ...filters }) }, signal }))
          }
          caption="Findings"
          columns={COLUMNS}
          rowKey={(row) => row.id}
          filters={JSON.stringify(filters)}
          empty="Nothing found"
          exportName="findings"
          onRow={(row) => route(`/admin/abuse/${row.id}`)}
        >
          <FilterField
            label="State"
            value={filters.state}
            onValue={setFilter('state')}
            values={['open', 'dismissed', 'warned', 'suspended']}
          />
          <FilterField
            label="Rule"
            value={filters.rule}
            onValue={setFilter('rule')}
            values={Object.keys(RULES)}
          />
          <SearchField label="Buyer id" value={filters.buyer_id} onValue={setFilter('buyer_id')} />
        </Table>
      </Card>
      <Figures />
    </>
  );
}

/** Where the figures for the public are. */
function Figures() {
  return (
    <p class="quiet small">
      Figures for the public, by quarter: <code>GET /api/admin/transparency</code> or{' '}
      <code>traffic-share transparency</code>.
    </p>
  );
}
