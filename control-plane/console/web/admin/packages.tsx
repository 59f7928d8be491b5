import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Bytes, Time } from '../parts/figures.js';
import { Card, PageHead } from '../parts/layout.js';
import type { Column } from '../parts/table.js';
import {
  BuyerId,
  countryText,
  FilterField,
  Id,
  SearchField,
  Status,
  UserId,
  useFilters,
} from './admin-parts.js';
import type { ItemOf } from './api-types.js';
import { FilteredTable } from './filtered-table.js';
import { PackageUpload } from './package-upload.js';

const PATH = '/api/admin/packages';
type Package = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<Package>[] = [
  {
    key: 'uuid',
    title: 'Package',
    cell: (row) => <Id id={row.uuid} href={`/admin/packages/${row.uuid}`} />,
  },
  { key: 'status', title: 'Status', cell: (row) => <Status of={row.status} /> },
  { key: 'ip', title: 'Address', cell: (row) => row.ip },
  { key: 'country', title: 'Country', cell: (row) => countryText(row.country) },
  { key: 'size', title: 'Size', number: true, cell: (row) => <Bytes bytes={row.size_bytes} /> },
  { key: 'origin', title: 'From', cell: (row) => row.origin },
  { key: 'user', title: 'User', cell: (row) => <UserId id={row.user_id} /> },
  { key: 'buyer', title: 'Buyer', cell: (row) => <BuyerId id={row.buyer_id} /> },
  { key: 'since', title: 'Created', cell: (row) => <Time at={row.created_at} /> },
];

/** What buyers pull: offered by devices, or ingested here. */
export default function Packages() {
  const { route } = useLocation();
  const [filters, setFilter] = useFilters('status', 'ip', 'buyer_id', 'user_id');
  const [asked, setAsked] = useState<'upload' | 'cleanup'>();
  const [revision, setRevision] = useState(0);
  const changed = () => setRevision((n) => n + 1);
  const cleanup = useAct(
    (api) => ask(api.POST('/api/admin/packages/cleanup_stale_allocations', { body: {} })),
    { quiet: true, done: ({ cleaned }) => `${countText(cleaned)} taken back.` },
  );
  return (
    <>
      <PageHead title="Packages">
        <Button onClick={() => setAsked('cleanup')}>Take back stale ones</Button>
        <Button kind="main" onClick={() => setAsked('upload')}>
          Create from CSV
        </Button>
      </PageHead>
      <Card>
        <FilteredTable
          list="packages"
          caption="Packages"
          columns={COLUMNS}
          rowKey={(row) => row.uuid}
          filters={filters}
          revision={revision}
          empty="No packages like that"
          onRow={(row) => route(`/admin/packages/${row.uuid}`)}
        >
          <FilterField
            label="Status"
            value={filters.status}
            onValue={setFilter('status')}
            values={['available', 'allocated', 'in_progress', 'completed', 'failed', 'revoked']}
          />
          <SearchField
            label="Address"
            placeholder="203.0.113.7"
            value={filters.ip}
            onValue={setFilter('ip')}
          />
          <SearchField label="Buyer id" value={filters.buyer_id} onValue={setFilter('buyer_id')} />
          <SearchField label="User id" value={filters.user_id} onValue={setFilter('user_id')} />
        </FilteredTable>
      </Card>
      {asked === 'upload' && <PackageUpload onCreated={changed} onClose={() => setAsked(undefined)} />}
      {asked === 'cleanup' && (
        <Confirm
          title="Take back stale packages?"
          action="Take back"
          busy={cleanup.busy}
          error={cleanup.error}
          onConfirm={() =>
            void cleanup.run().then((done) => {
              if (done === undefined) return;
              setAsked(undefined);
              changed();
            })
          }
          onClose={() => setAsked(undefined)}
        >
          <p>Those that were pulled and not used in time become what the settings say.</p>
        </Confirm>
      )}
    </>
  );
}
