import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { CheckField, Form, SelectField, TextField } from '../parts/form.js';
import { Badge, Card, Facts, PageHead, Stat, Stats } from '../parts/layout.js';
import { Empty, Show } from '../parts/states.js';
import { Tabs } from '../parts/tabs.js';
import type { PageProps } from '../shell/room.js';
import { Crumb, countryText, FullId, SessionId, Status, UserId } from './admin-parts.js';
import type { AnswerOf } from './api-types.js';
import { Credit } from './credit.js';

type User = AnswerOf<'/api/admin/users/{id}'>;
type Asked = 'ban' | 'unban' | 'credit' | 'delete';

/** One user: money, devices, sessions, payments; banning and changing. */
export default function OneUser({ params }: PageProps) {
  const id = params.id ?? '';
  const user = useLoad(
    (api, signal) => ask(api.GET('/api/admin/users/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  const [asked, setAsked] = useState<Asked>();
  const { data } = user;
  const done = () => {
    setAsked(undefined);
    user.reload();
  };
  const name = nameOf(data);
  return (
    <>
      <Crumb href="/admin/users">Users</Crumb>
      <PageHead title={name} lead={data && <Status of={data.status} />}>
        {data !== undefined && data.status !== 'deleted' && (
          <>
            <Button onClick={() => setAsked('credit')}>Adjust balance</Button>
            {data.status === 'banned' ? (
              <Button kind="main" onClick={() => setAsked('unban')}>
                Lift the ban
              </Button>
            ) : (
              <Button kind="danger" disabled={data.is_admin} onClick={() => setAsked('ban')}>
                Ban
              </Button>
            )}
          </>
        )}
      </PageHead>
      <Show of={user} lines={8}>
        {(data) => (
          <Details
            user={data}
            onChange={user.set}
            onReload={user.reload}
            onDelete={() => setAsked('delete')}
          />
        )}
      </Show>
      {asked === 'credit' && (
        <Credit whose={{ user_id: id }} name={name} onDone={done} onClose={() => setAsked(undefined)} />
      )}
      {(asked === 'ban' || asked === 'unban' || asked === 'delete') && (
        <Decide id={id} name={name} what={asked} onDone={done} onClose={() => setAsked(undefined)} />
      )}
    </>
  );
}

function nameOf(user: User | undefined): string {
  if (user === undefined) return 'User';
  return user.username ?? (user.telegram_id === null ? 'User' : `User ${user.telegram_id}`);
}

const DECISIONS = {
  ban: { title: 'Ban this user?', action: 'Ban', done: 'Banned: the tunnels are being ended.' },
  unban: { title: 'Lift the ban?', action: 'Lift the ban', done: 'The user may share again.' },
  delete: { title: 'Delete this user?', action: 'Delete for good', done: 'The user is nobody now.' },
} as const;

function Decide(props: {
  id: string;
  name: string;
  what: keyof typeof DECISIONS;
  onDone: () => void;
  onClose: () => void;
}) {
  const { id, name, what } = props;
  const [reason, setReason] = useState('');
  const [typed, setTyped] = useState('');
  const act = useAct(
    (api) => {
      const params = { path: { id } };
      if (what === 'ban')
        return ask(
          api.POST('/api/admin/user/{id}/ban', {
            params,
            body: reason.trim() ? { reason: reason.trim() } : {},
          }),
        );
      if (what === 'unban') return ask(api.POST('/api/admin/user/{id}/unban', { params }));
      return ask(api.DELETE('/api/admin/users/{id}', { params }));
    },
    { quiet: true, done: DECISIONS[what].done },
  );
  return (
    <Confirm
      title={DECISIONS[what].title}
      action={DECISIONS[what].action}
      danger={what !== 'unban'}
      busy={act.busy}
      error={act.error}
      disabled={what === 'delete' && typed !== name}
      onConfirm={() => void act.run().then((done) => done && props.onDone())}
      onClose={props.onClose}
    >
      {what === 'ban' && (
        <>
          <p>All tunnels of {name} end within a second. Money and signing in stay.</p>
          <TextField
            label="Reason, for the user"
            value={reason}
            onValue={setReason}
            maxLength={500}
            focused
          />
        </>
      )}
      {what === 'unban' && <p>{name} can start sharing at once.</p>}
      {what === 'delete' && (
        <>
          <p>
            Name, Telegram accounts, devices and messages are removed for good. Money records stay, without a
            name.
          </p>
          <TextField label={`Type ${name} to confirm`} value={typed} onValue={setTyped} focused />
        </>
      )}
    </Confirm>
  );
}

function Details(props: {
  user: User;
  onChange: (user: User) => void;
  onReload: () => void;
  onDelete: () => void;
}) {
  const { user } = props;
  return (
    <>
      <Stats>
        <Stat label="Available" tone="good">
          <Money amount={user.balance.available} />
        </Stat>
        <Stat label="Pending">
          <Money amount={user.balance.pending} />
        </Stat>
        <Stat label="Earned in all">
          <Money amount={user.balance.lifetime} />
        </Stat>
        <Stat label="Withdrawn">
          <Money amount={user.balance.withdrawn} />
        </Stat>
      </Stats>
      <Card>
        <Tabs
          label="About this user"
          tabs={[
            { key: 'profile', label: 'Profile', content: () => <Profile {...props} /> },
            {
              key: 'devices',
              label: `Devices (${user.device_list.length})`,
              content: () => <Devices user={user} />,
            },
            { key: 'sessions', label: 'Sessions', content: () => <Sessions user={user} /> },
            { key: 'payments', label: 'Payments', content: () => <Payments user={user} /> },
            { key: 'edit', label: 'Change', content: () => <Edit {...props} /> },
          ]}
        />
      </Card>
    </>
  );
}

function Profile({ user, onReload }: { user: User; onReload: () => void }) {
  return (
    <Facts
      rows={[
        ['Id', <FullId id={user.id} />],
        ['Telegram', <Telegrams key="telegrams" user={user} onChange={onReload} />],
        ['Phone', user.phone ?? '–'],
        ['Email', user.email ?? '–'],
        ['Language', user.language],
        ['Country', countryText(user.country)],
        ['Verified', user.is_verified ? 'Yes' : 'No'],
        ['Admin', user.is_admin ? 'Yes' : 'No'],
        [
          'Consent',
          user.consent === null ? (
            <Badge tone="warn">none</Badge>
          ) : (
            <>
              terms {user.consent.terms_version}, <Time at={user.consent.accepted_at} full />
            </>
          ),
        ],
        ['Invited by', <UserId id={user.referred_by} />],
        ['Invitation code', <code>{user.referral_code}</code>],
        ['Since', <Time at={user.created_at} full />],
        ...(user.banned_at === null
          ? []
          : ([
              [
                'Banned',
                <>
                  <Time at={user.banned_at} full /> {user.ban_reason}
                </>,
              ],
            ] as const)),
      ]}
    />
  );
}

/** The Telegram accounts of a user; all but the last can be unlinked. */
function Telegrams({ user, onChange }: { user: User; onChange: () => void }) {
  const unlink = useAct(
    (api, index: number) =>
      ask(
        api.DELETE('/api/admin/users/{id}/telegrams/{index}', { params: { path: { id: user.id, index } } }),
      ),
    { done: 'Unlinked.' },
  );
  return (
    <ul>
      {user.telegrams.map(({ index, telegram_id, username, main }) => (
        <li key={telegram_id} class="row">
          {telegram_id} {username !== null && `@${username}`} {main && <Badge>main</Badge>}
          {user.telegrams.length > 1 && (
            <Button
              kind="quiet"
              disabled={unlink.busy}
              label={`Unlink ${telegram_id}`}
              onClick={() => void unlink.run(index).then((done) => done && onChange())}
            >
              Unlink
            </Button>
          )}
        </li>
      ))}
    </ul>
  );
}

function Devices({ user }: { user: User }) {
  if (user.device_list.length === 0) return <Empty title="No devices" />;
  return (
    <ul class="rows">
      {user.device_list.map((device) => (
        <li key={device.device_id}>
          <div>
            <p>
              <strong>{device.model ?? device.os}</strong> <code>{device.device_id}</code>
            </p>
            <p class="quiet small">
              {device.os}, {device.client_version}, {device.ip ?? 'no address'}, {countryText(device.country)}
              , seen <Time at={device.last_seen_at} />
            </p>
            <p class="small">{device.state.what}</p>
          </div>
          <Status of={device.status} />
        </li>
      ))}
    </ul>
  );
}

function Sessions({ user }: { user: User }) {
  if (user.sessions.length === 0) return <Empty title="No sessions yet" />;
  return (
    <>
      <ul class="rows">
        {user.sessions.map((session) => (
          <li key={session.id}>
            <div>
              <SessionId id={session.id} /> {session.exit_ip}, {countryText(session.country)}
              <p class="quiet small">
                <Time at={session.started_at} />
              </p>
            </div>
            <div class="row">
              <Bytes bytes={session.bytes} /> <Money amount={session.earned} /> <Status of={session.status} />
            </div>
          </li>
        ))}
      </ul>
      <p>
        <a href={`/admin/sessions?user_id=${user.id}`}>All sessions</a>
      </p>
    </>
  );
}

function Payments({ user }: { user: User }) {
  if (user.payments.length === 0) return <Empty title="No payouts yet" />;
  return (
    <>
      <ul class="rows">
        {user.payments.map((payment) => (
          <li key={payment.payment_id}>
            <div>
              <Money amount={payment.amount} /> by {payment.network}
              <p class="quiet small">
                <Time at={payment.created_at} /> to {payment.target}
              </p>
            </div>
            <Status of={payment.status} />
          </li>
        ))}
      </ul>
      <p>
        <a href={`/admin/payments?user_id=${user.id}`}>All payments</a>
      </p>
    </>
  );
}

function Edit(props: { user: User; onChange: (user: User) => void; onDelete: () => void }) {
  const { user } = props;
  const [phone, setPhone] = useState(user.phone ?? '');
  const [email, setEmail] = useState(user.email ?? '');
  const [language, setLanguage] = useState<string>(user.language);
  const [verified, setVerified] = useState(user.is_verified);
  const [admin, setAdmin] = useState(user.is_admin);
  const save = useAct(
    (api) =>
      ask(
        api.PATCH('/api/admin/users/{id}', {
          params: { path: { id: user.id } },
          body: {
            phone: phone.trim() || null,
            email: email.trim() || null,
            language: language as User['language'],
            is_verified: verified,
            ...(admin !== user.is_admin && { is_admin: admin }),
          },
        }),
      ),
    { quiet: true, done: 'Saved.' },
  );
  const submit = async () => {
    const changed = await save.run();
    if (changed === undefined) return;
    props.onChange(changed);
  };
  return (
    <div class="stack">
      <Form submit="Save" busy={save.busy} error={save.error} onSubmit={() => void submit()}>
        <div class="fields">
          <TextField label="Phone" name="phone" error={save.error} value={phone} onValue={setPhone} />
          <TextField label="Email" name="email" error={save.error} value={email} onValue={setEmail} />
          <SelectField
            label="Language"
            value={language}
            onValue={setLanguage}
            options={[
              ['uz', "O'zbekcha"],
              ['ru', 'Русский'],
              ['en', 'English'],
            ]}
          />
        </div>
        <CheckField label="Verified" checked={verified} onValue={setVerified} />
        <CheckField
          label="Admin"
          hint="May do everything on these pages."
          checked={admin}
          onValue={setAdmin}
        />
      </Form>
      <div>
        <Button kind="danger" onClick={props.onDelete}>
          Delete this user
        </Button>
      </div>
    </div>
  );
}
