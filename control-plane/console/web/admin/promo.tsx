import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Money, Time } from '../parts/figures.js';
import { CheckField, Form, TextField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Table } from '../parts/table.js';
import { Status } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';
import { Removal, useEdits } from './edits.js';
import { fromLocalInput, localInput } from './times.js';

const PATH = '/api/admin/promo_codes';
type Promo = ItemOf<typeof PATH>;

/** Codes that users redeem for a bonus. */
export default function PromoCodes() {
  const edits = useEdits<Promo>();
  const id = edits.removing?.id;
  return (
    <>
      <PageHead title="Promo codes">
        <Button kind="main" onClick={edits.make}>
          Create a code
        </Button>
      </PageHead>
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>(query) }, signal }))
          }
          caption="Promo codes"
          columns={[
            { key: 'code', title: 'Code', cell: (row) => <code>{row.code}</code>, csv: (row) => row.code },
            {
              key: 'bonus',
              title: 'Bonus',
              number: true,
              cell: (row) => <Money amount={row.bonus} />,
              csv: (row) => row.bonus,
            },
            {
              key: 'uses',
              title: 'Used',
              number: true,
              cell: (row) => `${countText(row.uses)} of ${countText(row.uses_max)}`,
              csv: (row) => row.uses,
            },
            {
              key: 'status',
              title: 'Status',
              cell: (row) => <Status of={row.status} />,
              csv: (row) => row.status,
            },
            {
              key: 'until',
              title: 'Until',
              cell: (row) => <Time at={row.expires_at} />,
              csv: (row) => row.expires_at,
            },
            {
              key: 'for',
              title: 'For',
              cell: (row) => row.description ?? '–',
              csv: (row) => row.description,
            },
            {
              key: 'acts',
              title: '',
              cell: (row) => (
                <span class="row">
                  <Button label={`Change ${row.code}`} onClick={() => edits.edit(row)}>
                    Change
                  </Button>
                  <Button kind="danger" label={`Delete ${row.code}`} onClick={() => edits.remove(row)}>
                    Delete
                  </Button>
                </span>
              ),
            },
          ]}
          rowKey={(row) => row.id}
          revision={edits.revision}
          empty="No codes yet"
          exportName="promo-codes"
        />
      </Card>
      {edits.editing !== undefined && (
        <Editor promo={edits.editing.row} onDone={edits.done} onClose={edits.close} />
      )}
      {id !== undefined && (
        <Removal
          title={`Delete ${edits.removing?.code}?`}
          action="Delete"
          done="Deleted."
          remove={(api) => ask(api.DELETE('/api/admin/promo_codes/{id}', { params: { path: { id } } }))}
          onDone={edits.done}
          onClose={edits.close}
        >
          <p>Who redeemed it keeps the bonus. A code that was used is best disabled instead.</p>
        </Removal>
      )}
    </>
  );
}

function Editor(props: { promo: Promo | null; onDone: () => void; onClose: () => void }) {
  const { promo } = props;
  const [code, setCode] = useState(promo?.code ?? '');
  const [bonus, setBonus] = useState(promo?.bonus ?? '');
  const [uses, setUses] = useState(String(promo?.uses_max ?? 100));
  const [perUser, setPerUser] = useState(String(promo?.per_user_max ?? 1));
  const [description, setDescription] = useState(promo?.description ?? '');
  const [until, setUntil] = useState(localInput(promo?.expires_at ?? null));
  const [active, setActive] = useState(promo?.status !== 'disabled');
  const act = useAct(
    (api) => {
      const both = {
        uses_max: Number(uses),
        per_user_max: Number(perUser),
        expires_at: fromLocalInput(until),
      };
      return promo === null
        ? ask(
            api.POST(PATH, {
              body: {
                ...both,
                code: code.trim(),
                bonus: bonus.trim(),
                ...(description.trim() && { description: description.trim() }),
              },
            }),
          )
        : ask(
            api.PATCH('/api/admin/promo_codes/{id}', {
              params: { path: { id: promo.id } },
              body: {
                ...both,
                description: description.trim() || null,
                status: active ? 'active' : 'disabled',
              },
            }),
          );
    },
    { quiet: true, done: 'Saved.' },
  );
  const { error } = act;
  return (
    <Dialog title={promo === null ? 'Create a code' : `Change ${promo.code}`} onClose={props.onClose}>
      <Form
        submit="Save"
        busy={act.busy}
        error={error}
        onSubmit={() => void act.run().then((done) => done && props.onDone())}
      >
        {promo === null && (
          <div class="fields">
            <TextField label="Code" name="code" error={error} value={code} onValue={setCode} focused />
            <TextField
              label="Bonus in dollars"
              name="bonus"
              error={error}
              inputMode="decimal"
              value={bonus}
              onValue={setBonus}
            />
          </div>
        )}
        <div class="fields">
          <TextField
            label="Uses in all"
            name="uses_max"
            error={error}
            inputMode="numeric"
            value={uses}
            onValue={setUses}
          />
          <TextField
            label="Uses of one user"
            name="per_user_max"
            error={error}
            inputMode="numeric"
            value={perUser}
            onValue={setPerUser}
          />
        </div>
        <TextField
          label="What for"
          name="description"
          error={error}
          value={description}
          onValue={setDescription}
        />
        <TextField
          label="Good until"
          type="datetime-local"
          name="expires_at"
          error={error}
          hint="In your time zone. Empty: for good."
          value={until}
          onValue={setUntil}
        />
        {promo !== null && <CheckField label="Can be redeemed" checked={active} onValue={setActive} />}
      </Form>
    </Dialog>
  );
}
