import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Form, SelectField, TextField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { BuyerId, FilterField, SearchField, Status, UserId, useFilters } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/legal_holds';
type Hold = ItemOf<typeof PATH>;

/** Whose connection records are kept although their days are over. */
export default function LegalHolds() {
  const [filters, setFilter] = useFilters('open', 'buyer_id', 'user_id');
  const [adding, setAdding] = useState(false);
  const [lifting, setLifting] = useState<Hold>();
  const [version, setVersion] = useState(0);
  const changed = () => {
    setAdding(false);
    setLifting(undefined);
    setVersion(version + 1);
  };
  const confirm = useAct(
    (api, id: string) => ask(api.POST('/api/admin/legal_holds/{id}/confirm', { params: { path: { id } } })),
    { done: 'Confirmed.' },
  );
  const columns: readonly Column<Hold>[] = [
    {
      key: 'whose',
      title: 'Whose records',
      cell: (row) =>
        row.buyer_id === null ? (
          <>
            Provider <UserId id={row.user_id} />
          </>
        ) : (
          <>
            Buyer <BuyerId id={row.buyer_id} />
          </>
        ),
      csv: (row) => row.buyer_id ?? row.user_id,
    },
    { key: 'state', title: 'State', cell: (row) => <Status of={row.state} />, csv: (row) => row.state },
    { key: 'reason', title: 'Reason', cell: (row) => row.reason, csv: (row) => row.reason },
    {
      key: 'asked',
      title: 'Asked',
      cell: (row) => (
        <>
          <Time at={row.asked_at} /> by <UserId id={row.asked_by} />
        </>
      ),
      csv: (row) => row.asked_at,
    },
    {
      key: 'waits',
      title: 'Waits for',
      cell: (row) =>
        row.state === 'asked' ? (
          <>
            a second admin until <Time at={row.lapses_at} full />
          </>
        ) : row.state === 'lift_asked' ? (
          'a second admin to lift it'
        ) : (
          '–'
        ),
      csv: (row) => (row.state === 'asked' ? row.lapses_at : null),
    },
    {
      key: 'acts',
      title: 'Do',
      cell: (row) => (
        <span class="row">
          {row.state === 'asked' && (
            <Button
              busy={confirm.busy}
              onClick={() => void confirm.run(row.id).then((done) => done && changed())}
            >
              Confirm
            </Button>
          )}
          {['asked', 'in_force', 'lift_asked'].includes(row.state) && (
            <Button onClick={() => setLifting(row)}>Lift</Button>
          )}
        </span>
      ),
    },
  ];
  return (
    <>
      <PageHead
        title="Legal holds"
        lead="Keep the connection records of one buyer or provider although their days are over. Setting and lifting take two admins."
      >
        <Button kind="main" onClick={() => setAdding(true)}>
          New hold
        </Button>
      </PageHead>
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>({ ...query, ...filters }) }, signal }))
          }
          caption="Legal holds"
          columns={columns}
          rowKey={(row) => row.id}
          filters={JSON.stringify([filters, version])}
          empty="No holds"
          exportName="legal-holds"
        >
          <FilterField
            label="Which"
            value={filters.open}
            onValue={setFilter('open')}
            values={['true', 'false']}
            all="All"
          />
          <SearchField label="Buyer id" value={filters.buyer_id} onValue={setFilter('buyer_id')} />
          <SearchField label="User id" value={filters.user_id} onValue={setFilter('user_id')} />
        </Table>
      </Card>
      {adding && <NewHold onDone={changed} onClose={() => setAdding(false)} />}
      {lifting && <Lift hold={lifting} onDone={changed} onClose={() => setLifting(undefined)} />}
    </>
  );
}

function NewHold({ onDone, onClose }: { onDone: () => void; onClose: () => void }) {
  const [kind, setKind] = useState('buyer_id');
  const [id, setId] = useState('');
  const [reason, setReason] = useState('');
  const whose = kind === 'buyer_id' ? { buyer_id: id.trim() } : { user_id: id.trim() };
  const act = useAct(
    (api) => ask(api.POST('/api/admin/legal_holds', { body: { ...whose, reason: reason.trim() } })),
    { quiet: true, done: 'In force. A second admin has to confirm it.' },
  );
  return (
    <Dialog title="New legal hold" onClose={onClose}>
      <Form
        submit="Keep their records"
        busy={act.busy}
        error={act.error}
        disabled={id.trim() === '' || reason.trim() === ''}
        onSubmit={() => void act.run().then((done) => done && onDone())}
      >
        <SelectField
          label="Whose"
          value={kind}
          onValue={setKind}
          options={[
            ['buyer_id', 'A buyer'],
            ['user_id', 'A provider'],
          ]}
        />
        <TextField label="Id" name={kind} error={act.error} value={id} onValue={setId} focused />
        <TextField
          label="Reason"
          name="reason"
          error={act.error}
          maxLength={1_000}
          hint="The authority and its case number, say."
          value={reason}
          onValue={setReason}
        />
      </Form>
    </Dialog>
  );
}

function Lift({ hold, onDone, onClose }: { hold: Hold; onDone: () => void; onClose: () => void }) {
  const [reason, setReason] = useState('');
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/legal_holds/{id}/lift', {
          params: { path: { id: hold.id } },
          body: { reason: reason.trim() },
        }),
      ),
    { quiet: true, done: ({ state }) => (state === 'lifted' ? 'Lifted.' : 'A second admin has to agree.') },
  );
  return (
    <Dialog title="Lift this hold" onClose={onClose}>
      <Form
        submit={hold.state === 'lift_asked' ? 'Agree, and lift it' : 'Ask to lift it'}
        busy={act.busy}
        error={act.error}
        disabled={reason.trim() === ''}
        onSubmit={() => void act.run().then((done) => done && onDone())}
      >
        <p>Records whose days are over are deleted soon after, for good.</p>
        <TextField
          label="Reason"
          name="reason"
          error={act.error}
          maxLength={1_000}
          value={reason}
          onValue={setReason}
          focused
        />
      </Form>
    </Dialog>
  );
}
