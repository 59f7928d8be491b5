import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Bytes, Time } from '../parts/figures.js';
import { Form, TextArea, TextField } from '../parts/form.js';
import { Badge, PageHead } from '../parts/layout.js';
import { Empty } from '../parts/states.js';
import { type Column, Table } from '../parts/table.js';
import { bytesOfGb, listOf } from './limit-values.js';
import { ShownOnce } from './parts.js';
import { rememberPassword } from './passwords.js';

interface SubUser {
  id: string;
  account: string;
  name: string;
  status: 'active' | 'suspended' | 'closed';
  bytes_max: number | string | null;
  bytes_used: number | string;
  created_at: string;
}

const COLUMNS: Column<SubUser>[] = [
  {
    key: 'name',
    title: 'Name',
    cell: ({ id, name }) => <a href={`/buyer/sub-users/${id}`}>{name}</a>,
    csv: ({ name }) => name,
  },
  {
    key: 'account',
    title: 'Username',
    cell: ({ account }) => <code>{account}</code>,
    csv: ({ account }) => account,
  },
  {
    key: 'status',
    title: 'Status',
    cell: ({ status }) => <Badge tone={status === 'active' ? 'good' : 'warn'}>{status}</Badge>,
    csv: ({ status }) => status,
  },
  {
    key: 'used',
    title: 'Used',
    number: true,
    cell: ({ bytes_used }) => <Bytes bytes={bytes_used} />,
    csv: ({ bytes_used }) => bytes_used,
  },
  {
    key: 'max',
    title: 'Of',
    number: true,
    cell: ({ bytes_max }) => (bytes_max === null ? 'no limit' : <Bytes bytes={bytes_max} />),
    csv: ({ bytes_max }) => bytes_max ?? '',
  },
  {
    key: 'created',
    title: 'Created',
    cell: ({ created_at }) => <Time at={created_at} />,
    csv: ({ created_at }) => created_at,
  },
];

/** A buyer's own proxy users. */
export default function SubUsers() {
  const [making, setMaking] = useState(false);
  const [turn, setTurn] = useState(0);
  return (
    <>
      <PageHead
        title="Sub-users"
        lead="Logins of their own for your teams and customers, for your money, within limits that you set."
      >
        <Button kind="main" onClick={() => setMaking(true)}>
          New sub-user
        </Button>
      </PageHead>
      <section class="card" aria-label="Sub-users">
        <Table
          caption="Sub-users"
          columns={COLUMNS}
          rowKey={({ id }) => id}
          load={(api, { limit, cursor }, signal) =>
            ask(
              api.GET('/api/buyer/sub_users', {
                params: { query: { limit, ...(cursor && { cursor }) } },
                signal,
              }),
            )
          }
          revision={turn}
          exportName="sub-users"
          empty={
            <Empty title="No sub-users yet">
              Make one for each team or customer: usage is then told apart, and one can be switched off alone.
            </Empty>
          }
        />
      </section>
      {making && <NewSubUser onMade={() => setTurn((n) => n + 1)} onClose={() => setMaking(false)} />}
    </>
  );
}

function NewSubUser({ onMade, onClose }: { onMade: () => void; onClose: () => void }) {
  const { route } = useLocation();
  const [name, setName] = useState('');
  const [gb, setGb] = useState('');
  const [ips, setIps] = useState('');
  const [made, setMade] = useState<{ account: string; password: string; id: string }>();
  const create = useAct(
    (api) =>
      ask(
        api.POST('/api/buyer/sub_users', {
          body: {
            name,
            bytes_max: bytesOfGb(gb),
            ...(ips.trim() !== '' && { allowed_ips: listOf(ips) }),
          },
        }),
      ),
    { quiet: true },
  );
  const submit = async () => {
    const answer = await create.run();
    if (answer === undefined) return;
    onMade();
    // Without it the same request was answered before, to a page that is gone.
    const password = answer.proxy?.password;
    if (password === undefined) return route(`/buyer/sub-users/${answer.id}`);
    rememberPassword(answer.account, password);
    setMade({ account: answer.account, password, id: answer.id });
  };
  if (made !== undefined)
    return (
      <Dialog title={`${name} can connect`} onClose={onClose}>
        <ShownOnce account={made.account} password={made.password} />
        <footer class="dialog-foot">
          <a class="button" href={`/buyer/sub-users/${made.id}`}>
            Set limits
          </a>
          <a class="button button-main" href={`/buyer/connect?account=${made.account}`}>
            Connect with it
          </a>
        </footer>
      </Dialog>
    );
  return (
    <Dialog title="New sub-user" onClose={onClose}>
      <Form submit="Create" busy={create.busy} error={create.error} onSubmit={() => void submit()}>
        <TextField
          label="Name"
          name="name"
          error={create.error}
          value={name}
          onValue={setName}
          maxLength={200}
          required
          focused
          hint="For you; the username is drawn."
        />
        <TextField
          label="Traffic it may use in all, GB"
          name="bytes_max"
          error={create.error}
          inputMode="decimal"
          pattern="[0-9]*([.][0-9]+)?"
          value={gb}
          onValue={setGb}
          placeholder="no limit"
          hint="Empty: your balance alone bounds it."
        />
        <TextArea
          label="Client addresses"
          name="allowed_ips"
          error={create.error}
          rows={2}
          value={ips}
          onValue={setIps}
          hint="One a line, such as 192.0.2.0/24. Empty: it works from anywhere."
        />
      </Form>
    </Dialog>
  );
}
