import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Money, Time } from '../parts/figures.js';
import { CheckField, Form, TextField } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import type { Column } from '../parts/table.js';
import { countryText, FilterField, SearchField, Status, useFilters } from './admin-parts.js';
import type { ItemOf } from './api-types.js';
import { FilteredTable } from './filtered-table.js';

const PATH = '/api/admin/users';
type User = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<User>[] = [
  {
    key: 'name',
    title: 'User',
    sort: 'username',
    cell: (row) => (
      <span>
        <a href={`/admin/users/${row.id}`}>{row.username ?? row.telegram_id ?? row.id.slice(0, 8)}</a>{' '}
        {row.is_admin && <Badge tone="info">admin</Badge>}
      </span>
    ),
  },
  { key: 'telegram', title: 'Telegram', cell: (row) => row.telegram_id ?? '–' },
  { key: 'status', title: 'Status', cell: (row) => <Status of={row.status} /> },
  { key: 'country', title: 'Country', cell: (row) => countryText(row.country) },
  { key: 'devices', title: 'Devices', number: true, cell: (row) => row.devices },
  { key: 'available', title: 'Available', number: true, cell: (row) => <Money amount={row.available} /> },
  { key: 'pending', title: 'Pending', number: true, cell: (row) => <Money amount={row.pending} /> },
  { key: 'since', title: 'Since', sort: 'created_at', cell: (row) => <Time at={row.created_at} /> },
];

/** Everybody who shares or could. */
export default function Users() {
  const { route } = useLocation();
  const [filters, setFilter] = useFilters('query', 'status', 'country');
  const [creating, setCreating] = useState(false);
  return (
    <>
      <PageHead title="Users">
        <Button kind="main" onClick={() => setCreating(true)}>
          Add a user
        </Button>
      </PageHead>
      <Card>
        <FilteredTable
          list="users"
          caption="Users"
          columns={COLUMNS}
          rowKey={(row) => row.id}
          filters={filters}
          empty="No users like that"
          onRow={(row) => route(`/admin/users/${row.id}`)}
        >
          <SearchField
            label="Search"
            placeholder="Name, Telegram id, phone, email"
            value={filters.query}
            onValue={setFilter('query')}
          />
          <FilterField
            label="Status"
            value={filters.status}
            onValue={setFilter('status')}
            values={['active', 'banned', 'deleted']}
          />
          <SearchField
            label="Country"
            placeholder="UZ"
            value={filters.country}
            onValue={(value) => setFilter('country')(value.toUpperCase())}
          />
        </FilteredTable>
      </Card>
      {creating && <Create onClose={() => setCreating(false)} />}
    </>
  );
}

function Create({ onClose }: { onClose: () => void }) {
  const { route } = useLocation();
  const [telegramId, setTelegramId] = useState('');
  const [username, setUsername] = useState('');
  const [verified, setVerified] = useState(true);
  const create = useAct(
    (api) =>
      ask(
        api.POST(PATH, {
          body: {
            telegram_id: Number(telegramId),
            is_verified: verified,
            ...(username.trim() && { username: username.trim() }),
          },
        }),
      ),
    { quiet: true, done: 'The user is there.' },
  );
  return (
    <Dialog title="Add a user" onClose={onClose}>
      <Form
        submit="Add"
        busy={create.busy}
        error={create.error}
        disabled={!/^[0-9]{1,15}$/.test(telegramId)}
        onSubmit={() => void create.run().then((user) => user && route(`/admin/users/${user.id}`))}
      >
        <TextField
          label="Telegram id"
          name="telegram_id"
          error={create.error}
          inputMode="numeric"
          value={telegramId}
          onValue={setTelegramId}
          hint="They sign in with this Telegram account."
          focused
        />
        <TextField
          label="Name, if known"
          name="username"
          error={create.error}
          value={username}
          onValue={setUsername}
        />
        <CheckField label="Verified" checked={verified} onValue={setVerified} />
      </Form>
    </Dialog>
  );
}
