import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { bytesSum, bytesText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Form, TextArea, TextField } from '../parts/form.js';
import { Badge, Card, Facts, PageHead, Progress } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import type { PageProps } from '../shell/room.js';
import { LimitFields } from './limit-fields.js';
import { bytesOfGb, type Limits, limitsOf, listOf, textsOf } from './limit-values.js';
import { PasswordField } from './password-field.js';
import { useFresh } from './use-fresh.js';

interface SubUser {
  id: string;
  account: string;
  name: string;
  status: 'active' | 'suspended' | 'closed';
  bytes_max: number | string | null;
  bytes_used: number | string;
  allowed_ips: string[];
  limits: Limits;
  created_at: string;
  updated_at: string;
}

/** One sub-user: how much it used, its password and limits, off and on. */
export default function SubUserPage({ params }: PageProps) {
  const id = params.id ?? '';
  const live = useLive('buyer').state.value;
  const revision = useFresh(
    live === null ? undefined : bytesSum(live.today.bytes_up, live.today.bytes_down).toString(),
  );
  const found = useLoad(
    (api, signal) => ask(api.GET('/api/buyer/sub_users/{id}', { params: { path: { id } }, signal })),
    [id, revision],
  );
  return (
    <>
      <PageHead title={found.data?.name ?? 'Sub-user'} lead={<a href="/buyer/sub-users">All sub-users</a>}>
        {found.data !== undefined && (
          <a class="button button-main" href={`/buyer/connect?account=${found.data.account}`}>
            Connect with it
          </a>
        )}
      </PageHead>
      <Show of={found}>
        {(subUser) => (
          <>
            <About subUser={subUser} onChange={found.set} />
            <Card title="Password">
              <PasswordField account={subUser.account} subUserId={subUser.id} main={false} />
            </Card>
            <Settings key={subUser.updated_at} subUser={subUser} onChange={found.set} />
          </>
        )}
      </Show>
    </>
  );
}

interface PartProps {
  subUser: SubUser;
  onChange: (subUser: SubUser) => void;
}

function About({ subUser, onChange }: PartProps) {
  const { route } = useLocation();
  const { id, name, status, bytes_max: max, bytes_used: used } = subUser;
  const [removing, setRemoving] = useState(false);
  const active = status === 'active';
  const turn = useAct(
    (api) =>
      ask(
        api.PATCH('/api/buyer/sub_users/{id}', {
          params: { path: { id } },
          body: { status: active ? 'suspended' : 'active' },
        }),
      ),
    { done: active ? 'Switched off; its connections are cut.' : 'Switched on.' },
  );
  const remove = useAct((api) => ask(api.DELETE('/api/buyer/sub_users/{id}', { params: { path: { id } } })), {
    done: 'Removed.',
    quiet: true,
  });
  return (
    <Card
      title="Account"
      actions={
        status !== 'closed' && (
          <>
            <Button
              busy={turn.busy}
              onClick={() => void turn.run().then((answer) => answer !== undefined && onChange(answer))}
            >
              {active ? 'Switch off' : 'Switch on'}
            </Button>
            <Button kind="danger" onClick={() => setRemoving(true)}>
              Remove
            </Button>
          </>
        )
      }
    >
      <Facts
        rows={[
          ['Username', <code>{subUser.account}</code>],
          ['Status', <Badge tone={active ? 'good' : 'warn'}>{status}</Badge>],
          [
            'Used',
            max === null ? (
              `${bytesText(used)}, no limit of its own`
            ) : (
              <Progress
                label={`${bytesText(used)} of ${bytesText(max)}`}
                value={Math.min(Number(used), Number(max))}
                max={Math.max(1, Number(max))}
              />
            ),
          ],
          ['Created', <Time at={subUser.created_at} full />],
          ['Changed', <Time at={subUser.updated_at} full />],
        ]}
      />
      {removing && (
        <Confirm
          title={`Remove ${name}?`}
          action="Remove"
          danger
          busy={remove.busy}
          error={remove.error}
          onConfirm={() => void remove.run().then((done) => done !== undefined && route('/buyer/sub-users'))}
          onClose={() => setRemoving(false)}
        >
          <p>
            Its connections are cut within a second and its username is gone for good. What it used stays in
            your usage. To stop it for a while, switch it off instead.
          </p>
        </Confirm>
      )}
    </Card>
  );
}

const GB = 1e9;

function Settings({ subUser, onChange }: PartProps) {
  const [name, setName] = useState(subUser.name);
  const [gb, setGb] = useState(subUser.bytes_max === null ? '' : String(Number(subUser.bytes_max) / GB));
  const [ips, setIps] = useState(subUser.allowed_ips.join('\n'));
  const [texts, setTexts] = useState(textsOf(subUser.limits));
  const save = useAct(
    (api) =>
      ask(
        api.PATCH('/api/buyer/sub_users/{id}', {
          params: { path: { id: subUser.id } },
          body: { name, bytes_max: bytesOfGb(gb), allowed_ips: listOf(ips), limits: limitsOf(texts) },
        }),
      ),
    { done: 'Saved. It is in force on every gateway within a second.', quiet: true },
  );
  return (
    <Card title="Limits" lead="Yours hold as well, for you and all sub-users together.">
      <Form
        submit="Save"
        busy={save.busy}
        error={save.error}
        onSubmit={() => void save.run().then((answer) => answer !== undefined && onChange(answer))}
      >
        <div class="fields">
          <TextField
            label="Name"
            name="name"
            error={save.error}
            value={name}
            onValue={setName}
            maxLength={200}
            required
          />
          <TextField
            label="GB in all"
            name="bytes_max"
            error={save.error}
            inputMode="decimal"
            pattern="[0-9]*([.][0-9]+)?"
            value={gb}
            onValue={setGb}
            placeholder="no limit"
            hint="May be less than is used: then no more is given."
          />
        </div>
        <TextArea
          label="Client addresses"
          name="allowed_ips"
          error={save.error}
          rows={2}
          value={ips}
          onValue={setIps}
          hint="One a line, such as 192.0.2.0/24. Empty: it works from anywhere; others get AUTH_FAILED."
        />
        <LimitFields texts={texts} error={save.error} onTexts={setTexts} />
      </Form>
    </Card>
  );
}
