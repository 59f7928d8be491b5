import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button, Copyable } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { Form, SelectField, TextField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import type { Column } from '../parts/table.js';
import { FilterField, SearchField, Status, useFilters } from './admin-parts.js';
import type { ItemOf } from './api-types.js';
import { FilteredTable } from './filtered-table.js';

const PATH = '/api/admin/buyers';
type Buyer = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<Buyer>[] = [
  {
    key: 'name',
    title: 'Buyer',
    sort: 'name',
    cell: (row) => <a href={`/admin/buyers/${row.id}`}>{row.name}</a>,
  },
  { key: 'account', title: 'Account', cell: (row) => <code>{row.account}</code> },
  { key: 'status', title: 'Status', cell: (row) => <Status of={row.status} /> },
  { key: 'kyc', title: 'Verification', cell: (row) => <Status of={row.kyc_status} /> },
  { key: 'available', title: 'Available', number: true, cell: (row) => <Money amount={row.available} /> },
  { key: 'today', title: 'Today', number: true, cell: (row) => <Bytes bytes={row.stats.bytes_today} /> },
  { key: 'month', title: 'Month', number: true, cell: (row) => <Bytes bytes={row.stats.bytes_this_month} /> },
  { key: 'since', title: 'Since', sort: 'created_at', cell: (row) => <Time at={row.created_at} /> },
];

/** Customers. */
export default function Buyers() {
  const { route } = useLocation();
  const [filters, setFilter] = useFilters('query', 'status', 'kyc_status', 'region');
  const [creating, setCreating] = useState(false);
  return (
    <>
      <PageHead title="Buyers">
        <Button kind="main" onClick={() => setCreating(true)}>
          Add a buyer
        </Button>
      </PageHead>
      <Card>
        <FilteredTable
          list="buyers"
          caption="Buyers"
          columns={COLUMNS}
          rowKey={(row) => row.id}
          filters={filters}
          empty="No buyers like that"
          onRow={(row) => route(`/admin/buyers/${row.id}`)}
        >
          <SearchField label="Search" value={filters.query} onValue={setFilter('query')} />
          <FilterField
            label="Status"
            value={filters.status}
            onValue={setFilter('status')}
            values={['active', 'suspended', 'closed']}
          />
          <FilterField
            label="Verification"
            value={filters.kyc_status}
            onValue={setFilter('kyc_status')}
            values={['pending', 'approved', 'rejected']}
          />
          <SearchField label="Region" value={filters.region} onValue={setFilter('region')} />
        </FilteredTable>
      </Card>
      {creating && <Create onClose={() => setCreating(false)} />}
    </>
  );
}

function Create({ onClose }: { onClose: () => void }) {
  const { route } = useLocation();
  const [name, setName] = useState('');
  const [contact, setContact] = useState('');
  const [region, setRegion] = useState('');
  const [price, setPrice] = useState('');
  const [kyc, setKyc] = useState<string>('pending');
  const [made, setMade] = useState<{ id: string; username: string; password: string }>();
  const create = useAct(
    (api) =>
      ask(
        api.POST(PATH, {
          body: {
            name: name.trim(),
            kyc_status: kyc as Buyer['kyc_status'],
            ...(contact.trim() && { contact: contact.trim() }),
            ...(region.trim() && { region: region.trim() }),
            ...(price.trim() && { price_per_gb: price.trim() }),
          },
        }),
      ),
    { quiet: true },
  );
  const submit = async () => {
    const buyer = await create.run();
    if (buyer === undefined) return;
    if (buyer.proxy === null) route(`/admin/buyers/${buyer.id}`);
    else setMade({ id: buyer.id, username: buyer.proxy.username, password: buyer.proxy.password });
  };
  if (made !== undefined)
    return (
      <Dialog title="The buyer is there" onClose={() => route(`/admin/buyers/${made.id}`)}>
        <div class="dialog-body">
          <p>Its proxy user and password. The password is shown this once.</p>
          <Copyable text={made.username} label="Copy" />
          <Copyable text={made.password} label="Copy" />
        </div>
        <footer class="dialog-foot">
          <Button kind="main" onClick={() => route(`/admin/buyers/${made.id}`)}>
            To the buyer
          </Button>
        </footer>
      </Dialog>
    );
  return (
    <Dialog title="Add a buyer" onClose={onClose}>
      <Form
        submit="Add"
        busy={create.busy}
        error={create.error}
        disabled={name.trim() === ''}
        onSubmit={() => void submit()}
      >
        <TextField label="Name" name="name" error={create.error} value={name} onValue={setName} focused />
        <TextField label="Contact" name="contact" error={create.error} value={contact} onValue={setContact} />
        <TextField label="Region" name="region" error={create.error} value={region} onValue={setRegion} />
        <TextField
          label="Price per GB in dollars"
          name="price_per_gb"
          error={create.error}
          hint="Empty: the price of the settings."
          inputMode="decimal"
          value={price}
          onValue={setPrice}
        />
        <SelectField
          label="Verification"
          value={kyc}
          onValue={setKyc}
          options={[
            ['pending', 'pending'],
            ['approved', 'approved'],
            ['rejected', 'rejected'],
          ]}
        />
      </Form>
    </Dialog>
  );
}
