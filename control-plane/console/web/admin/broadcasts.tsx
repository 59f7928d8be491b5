import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Form, SelectField, TextArea, TextField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { Status } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/broadcasts';
type Broadcast = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<Broadcast>[] = [
  {
    key: 'message',
    title: 'Message',
    cell: (row) => (
      <a href={`/admin/broadcasts/${row.id}`}>
        {row.message.length > 60 ? `${row.message.slice(0, 60)}…` : row.message}
      </a>
    ),
  },
  { key: 'target', title: 'To', cell: (row) => row.target },
  { key: 'status', title: 'Status', cell: (row) => <Status of={row.status} /> },
  { key: 'recipients', title: 'Recipients', number: true, cell: (row) => countText(row.recipients) },
  { key: 'sent', title: 'Sent', number: true, cell: (row) => countText(row.counters.sent) },
  { key: 'at', title: 'Drafted', cell: (row) => <Time at={row.created_at} /> },
];

/** Messages to many by the bot: a draft first, then sent. */
export default function Broadcasts() {
  const { route } = useLocation();
  const [drafting, setDrafting] = useState(false);
  return (
    <>
      <PageHead title="Broadcasts" lead="Messages by the bot, to each person once.">
        <Button kind="main" onClick={() => setDrafting(true)}>
          Write one
        </Button>
      </PageHead>
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>(query) }, signal }))
          }
          caption="Broadcasts"
          columns={COLUMNS}
          rowKey={(row) => row.id}
          empty="None yet"
          onRow={(row) => route(`/admin/broadcasts/${row.id}`)}
        />
      </Card>
      {drafting && <Draft onClose={() => setDrafting(false)} />}
    </>
  );
}

const MESSAGE_MAX = 4_096;

function Draft({ onClose }: { onClose: () => void }) {
  const { route } = useLocation();
  const [kind, setKind] = useState('all');
  const [region, setRegion] = useState('');
  const [user, setUser] = useState('');
  const [message, setMessage] = useState('');
  const target =
    kind === 'region' ? `region:${region.trim()}` : kind === 'user' ? `user:${user.trim()}` : kind;
  const act = useAct((api) => ask(api.POST(PATH, { body: { target, message } })), { quiet: true });
  return (
    <Dialog title="Write a broadcast" onClose={onClose}>
      <Form
        submit="Save the draft"
        busy={act.busy}
        error={act.error}
        disabled={message.trim() === ''}
        onSubmit={() => void act.run().then((made) => made && route(`/admin/broadcasts/${made.id}`))}
      >
        <SelectField
          label="To"
          name="target"
          error={act.error}
          value={kind}
          onValue={setKind}
          options={[
            ['all', 'everybody'],
            ['active', 'who shared in the last 30 days'],
            ['region', 'a country'],
            ['language:uz', 'who reads Uzbek'],
            ['language:ru', 'who reads Russian'],
            ['language:en', 'who reads English'],
            ['admins', 'admins'],
            ['user', 'one user'],
          ]}
        />
        {kind === 'region' && (
          <TextField
            label="Country"
            placeholder="US"
            hint="Two letters; EU for the European Union."
            value={region}
            onValue={setRegion}
          />
        )}
        {kind === 'user' && <TextField label="Id of the user" value={user} onValue={setUser} />}
        <TextArea
          label="Message"
          name="message"
          error={act.error}
          hint={`Plain text, ${countText(message.length)} of ${countText(MESSAGE_MAX)} characters. Nothing is sent yet.`}
          rows={7}
          maxLength={MESSAGE_MAX}
          value={message}
          onValue={setMessage}
        />
      </Form>
    </Dialog>
  );
}
