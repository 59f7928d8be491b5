import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useLive } from '../live/live.js';
import { countText } from '../parts/amounts.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { Tabs } from '../parts/tabs.js';
import {
  countryText,
  FilterField,
  SearchField,
  SessionId,
  Status,
  UserId,
  useFilters,
} from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';
import { FilteredTable } from './filtered-table.js';

const PATH = '/api/sessions';
type Session = ItemOf<typeof PATH>;
type Line = ItemOf<'/api/admin/reconciliation'>;

const COLUMNS: readonly Column<Session>[] = [
  { key: 'id', title: 'Session', cell: (row) => <SessionId id={row.id} /> },
  { key: 'user', title: 'User', cell: (row) => <UserId id={row.user_id} /> },
  { key: 'status', title: 'Status', cell: (row) => <Status of={row.status} /> },
  { key: 'exit', title: 'Exit', cell: (row) => `${row.exit_ip}, ${countryText(row.country)}` },
  { key: 'bytes', title: 'Traffic', number: true, cell: (row) => <Bytes bytes={row.bytes} /> },
  { key: 'earned', title: 'Earned', number: true, cell: (row) => <Money amount={row.earned} /> },
  {
    key: 'report',
    title: 'Report',
    cell: (row) => (row.report_differs ? <Badge tone="warn">differs</Badge> : <Badge>agrees</Badge>),
  },
  { key: 'started', title: 'Started', cell: (row) => <Time at={row.started_at} /> },
];

const LINES: readonly Column<Line>[] = [
  { key: 'id', title: 'Session', cell: (row) => <SessionId id={row.session_id} /> },
  { key: 'user', title: 'User', cell: (row) => <UserId id={row.user_id} /> },
  { key: 'metered', title: 'Metered', number: true, cell: (row) => <Bytes bytes={row.meters.bytes} /> },
  { key: 'device', title: 'Device says', number: true, cell: (row) => <Bytes bytes={row.device.bytes} /> },
  { key: 'charged', title: 'Charged', number: true, cell: (row) => <Money amount={row.meters.charged} /> },
  {
    key: 'ledger',
    title: 'In the ledger',
    number: true,
    cell: (row) => <Money amount={row.ledger.charged} />,
  },
  {
    key: 'flags',
    title: 'Findings',
    cell: (row) => {
      const open = row.flags.filter(({ resolved_at }) => resolved_at === null);
      if (open.length === 0) return <Badge tone="good">none</Badge>;
      return open.map(({ kind }) => (
        <Badge key={kind} tone={kind === 'books' ? 'bad' : 'warn'}>
          {kind.replace('_', ' ')}
        </Badge>
      ));
    },
  },
  { key: 'started', title: 'Started', cell: (row) => <Time at={row.started_at} /> },
];

/** What devices relayed, and whether reports, meters and books agree. */
export default function Sessions() {
  const { query } = useLocation();
  const active = useLive('admin').state.value?.sessions_active;
  const list = { key: 'list', label: 'Sessions', content: () => <List active={active ?? 0} /> };
  const check = { key: 'reconciliation', label: 'Reconciliation', content: () => <Reconciliation /> };
  return (
    <>
      <PageHead title="Sessions" lead={active === undefined ? undefined : `${countText(active)} under way`} />
      <Card>
        <Tabs label="Sessions" tabs={query.flagged === undefined ? [list, check] : [check, list]} />
      </Card>
    </>
  );
}

function List({ active }: { active: number }) {
  const { route } = useLocation();
  const [filters, setFilter] = useFilters('status', 'user_id');
  return (
    <FilteredTable
      list="sessions"
      caption="Sessions"
      columns={COLUMNS}
      rowKey={(row) => row.id}
      filters={filters}
      revision={active}
      empty="No sessions like that"
      onRow={(row) => route(`/admin/sessions/${row.id}`)}
    >
      <FilterField
        label="Status"
        value={filters.status}
        onValue={setFilter('status')}
        values={['active', 'stopping', 'completed', 'failed']}
      />
      <SearchField label="User id" value={filters.user_id} onValue={setFilter('user_id')} />
    </FilteredTable>
  );
}

function Reconciliation() {
  const { query, route } = useLocation();
  const [flagged, setFlagged] = useState(query.flagged ?? 'true');
  return (
    <Table
      load={(api, page, signal) =>
        ask(
          api.GET('/api/admin/reconciliation', {
            params: { query: queryOf<'/api/admin/reconciliation'>({ ...page, flagged }) },
            signal,
          }),
        )
      }
      caption="Reported, metered and booked"
      columns={LINES}
      rowKey={(row) => row.session_id}
      filters={flagged}
      empty={flagged === 'true' ? 'Nothing differs' : 'No sessions yet'}
      onRow={(row) => route(`/admin/sessions/${row.session_id}`)}
    >
      <FilterField
        label="Findings"
        value={flagged}
        onValue={setFlagged}
        values={['true', 'false']}
        all="With and without"
      />
    </Table>
  );
}
