import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { TextField } from '../parts/form.js';
import { Card, Facts, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { FilterField, Id, SearchField, useFilters } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';
import { Json } from './json.js';
import { fromLocalInput } from './times.js';

const PATH = '/api/admin/audit/search';
type Entry = ItemOf<typeof PATH>;

const ROLES = ['none', 'user', 'device', 'buyer', 'admin', 'bot', 'internal', 'system'];

const COLUMNS: readonly Column<Entry>[] = [
  { key: 'at', title: 'When', cell: (row) => <Time at={row.at} />, csv: (row) => row.at },
  { key: 'role', title: 'Role', cell: (row) => row.actor_role, csv: (row) => row.actor_role },
  { key: 'actor', title: 'Who', cell: (row) => <Id id={row.actor_id} />, csv: (row) => row.actor_id },
  {
    key: 'action',
    title: 'Did',
    cell: (row) => row.action.replaceAll('_', ' '),
    csv: (row) => row.action,
  },
  { key: 'type', title: 'To a', cell: (row) => row.object_type, csv: (row) => row.object_type },
  { key: 'object', title: 'Which', cell: (row) => <Id id={row.object_id} />, csv: (row) => row.object_id },
  { key: 'ip', title: 'From', cell: (row) => row.ip ?? '–', csv: (row) => row.ip },
];

/** Who did what, with before and after. */
export default function Audit() {
  const [filters, setFilter] = useFilters(
    'action',
    'actor_role',
    'actor_id',
    'object_type',
    'object_id',
    'from',
    'to',
  );
  const [opened, setOpened] = useState<Entry>();
  const asked = {
    ...filters,
    from: fromLocalInput(filters.from) ?? '',
    to: fromLocalInput(filters.to) ?? '',
  };
  return (
    <>
      <PageHead title="Audit log" />
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>({ ...query, ...asked }) }, signal }))
          }
          caption="Audit log"
          columns={[
            ...COLUMNS,
            {
              key: 'open',
              title: '',
              cell: (row) => (
                <button type="button" class="link" onClick={() => setOpened(row)}>
                  Details<span class="hidden"> of entry {row.id}</span>
                </button>
              ),
            },
          ]}
          rowKey={(row) => row.id}
          filters={JSON.stringify(filters)}
          empty="Nothing like that"
          exportName="audit"
        >
          <SearchField label="Action" value={filters.action} onValue={setFilter('action')} />
          <FilterField
            label="Role"
            value={filters.actor_role}
            onValue={setFilter('actor_role')}
            values={ROLES}
          />
          <SearchField label="Who (id)" value={filters.actor_id} onValue={setFilter('actor_id')} />
          <SearchField
            label="Kind of object"
            value={filters.object_type}
            onValue={setFilter('object_type')}
          />
          <SearchField label="Object (id)" value={filters.object_id} onValue={setFilter('object_id')} />
          <TextField label="From" type="datetime-local" value={filters.from} onValue={setFilter('from')} />
          <TextField label="To" type="datetime-local" value={filters.to} onValue={setFilter('to')} />
        </Table>
      </Card>
      {opened !== undefined && (
        <Dialog title={opened.action.replaceAll('_', ' ')} onClose={() => setOpened(undefined)}>
          <div class="dialog-body">
            <Facts
              rows={[
                ['When', <Time at={opened.at} full />],
                ['Who', `${opened.actor_role} ${opened.actor_id ?? ''}`],
                ['Object', `${opened.object_type} ${opened.object_id ?? ''}`],
                ['From', opened.ip ?? '–'],
                ['Request', opened.request_id ?? '–'],
              ]}
            />
            <Part title="Before" value={opened.before} />
            <Part title="After" value={opened.after} />
          </div>
        </Dialog>
      )}
    </>
  );
}

function Part({ title, value }: { title: string; value: unknown }) {
  if (value === null || value === undefined) return null;
  return (
    <>
      <h3>{title}</h3>
      <Json label={title} value={value} />
    </>
  );
}
