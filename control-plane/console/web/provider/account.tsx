import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { dateTimeText } from '../parts/amounts.js';
import { Button, Copyable } from '../parts/buttons.js';
import { saveFile } from '../parts/csv.js';
import { Confirm } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { CheckField, Form, SelectField, TextField } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { forgetSession } from '../session/session.js';

const LANGUAGES = [
  ['en', 'English'],
  ['ru', 'Русский'],
  ['uz', "O'zbekcha"],
] as const;

/** Who I am here: contact, Telegram accounts, logins, my data. */
export default function Account() {
  const me = useLoad((api, signal) => ask(api.GET('/api/user/me', { signal })));
  return (
    <>
      <PageHead
        title="Account"
        lead={me.data && (me.data.username ?? `Telegram id ${me.data.telegram_id}`)}
      />
      <Show of={me}>
        {(data) => (
          <div class="columns">
            <div class="stack">
              <Contact me={data} />
              <MyData />
            </div>
            <div class="stack">
              <Telegrams />
              <Logins />
            </div>
          </div>
        )}
      </Show>
    </>
  );
}

interface Me {
  email: string | null;
  phone: string | null;
  language: 'en' | 'ru' | 'uz';
  settings: { notifications?: boolean };
}

function Contact({ me }: { me: Me }) {
  const [email, setEmail] = useState(me.email ?? '');
  const [phone, setPhone] = useState(me.phone ?? '');
  const [language, setLanguage] = useState<string>(me.language);
  const [notices, setNotices] = useState(me.settings.notifications ?? true);
  const save = useAct(
    (api) =>
      ask(
        api.POST('/api/user/update', {
          body: {
            email: email.trim() || null,
            phone: phone.trim() || null,
            language: language as Me['language'],
            settings: { notifications: notices },
          },
        }),
      ),
    { done: 'Saved.', quiet: true },
  );
  return (
    <Card title="Contact">
      <Form onSubmit={() => void save.run()} submit="Save" busy={save.busy} error={save.error}>
        <TextField
          label="Email"
          name="email"
          error={save.error}
          type="email"
          autocomplete="email"
          value={email}
          onValue={setEmail}
        />
        <TextField
          label="Phone"
          name="phone"
          error={save.error}
          type="tel"
          autocomplete="tel"
          value={phone}
          onValue={setPhone}
        />
        <SelectField
          label="Language"
          name="language"
          error={save.error}
          value={language}
          onValue={setLanguage}
          options={LANGUAGES}
          hint="Of the bot, of news and of what is said about your devices."
        />
        <CheckField
          label="Tell me about news and sessions by the bot"
          checked={notices}
          onValue={setNotices}
        />
      </Form>
    </Card>
  );
}

function Telegrams() {
  const accounts = useLoad((api, signal) => ask(api.GET('/api/user/telegrams', { signal })));
  const [leaving, setLeaving] = useState<{ index: number; name: string }>();
  const link = useAct((api) => ask(api.POST('/api/user/telegrams/link')));
  const [invitation, setInvitation] = useState<{
    start: string | null;
    url: string | null;
    expiresAtMs: number;
  }>();
  const unlink = useAct(
    (api, index: number) => ask(api.DELETE('/api/user/telegrams/{index}', { params: { path: { index } } })),
    { done: 'Unlinked.', quiet: true },
  );
  const begin = async () => {
    const made = await link.run();
    if (made !== undefined)
      setInvitation({ start: made.start, url: made.url, expiresAtMs: Date.now() + made.expires_in * 1_000 });
  };
  return (
    <Card
      title="Telegram accounts"
      actions={
        <Button busy={link.busy} onClick={() => void begin()}>
          Link another
        </Button>
      }
    >
      <Show of={accounts}>
        {({ items }) => (
          <ul class="rows">
            {items.map((account) => {
              const name = account.username ?? String(account.telegram_id);
              return (
                <li key={account.index}>
                  <div class="device-row">
                    <span class="row">
                      <span class="device-name">{name}</span>
                      {account.main && <Badge tone="info">main</Badge>}
                    </span>
                    <span class="quiet small">
                      linked <Time at={account.linked_at} />
                    </span>
                  </div>
                  {items.length > 1 && (
                    <Button
                      label={`Unlink ${name}`}
                      onClick={() => setLeaving({ index: account.index, name })}
                    >
                      Unlink
                    </Button>
                  )}
                </li>
              );
            })}
          </ul>
        )}
      </Show>
      {invitation !== undefined && (
        <div class="stack">
          <p>
            From the other account, {invitation.url === null ? 'send this to the bot' : 'open this link'}{' '}
            before {dateTimeText(invitation.expiresAtMs)}, and confirm there:
          </p>
          <Copyable text={invitation.url ?? `/start ${invitation.start}`} label="Copy" />
        </div>
      )}
      {leaving !== undefined && (
        <Confirm
          title={`Unlink ${leaving.name}?`}
          action="Unlink"
          danger
          busy={unlink.busy}
          error={unlink.error}
          onClose={() => setLeaving(undefined)}
          onConfirm={() =>
            void unlink.run(leaving.index).then((left) => {
              if (left === undefined) return;
              setLeaving(undefined);
              accounts.reload();
            })
          }
        >
          <p>That Telegram account can no longer sign in here.</p>
        </Confirm>
      )}
    </Card>
  );
}

function Logins() {
  const logins = useLoad((api, signal) => ask(api.GET('/api/user/logins', { signal })));
  const revoke = useAct(
    (api, id: string) => ask(api.DELETE('/api/user/logins/{id}', { params: { path: { id } } })),
    { done: 'Signed out there.' },
  );
  const all = useAct((api) => ask(api.POST('/api/auth/logout', { body: { all: true } })), {
    done: 'Signed out everywhere.',
  });
  return (
    <Card
      title="Where I am signed in"
      actions={
        <Button
          kind="danger"
          busy={all.busy}
          onClick={() => void all.run().then((done) => done && forgetSession('provider'))}
        >
          Sign out everywhere
        </Button>
      }
    >
      <Show of={logins}>
        {({ items }) => (
          <ul class="rows">
            {items.map((login) => (
              <li key={login.id}>
                <div class="device-row">
                  <span class="row">
                    <span>{login.ip ?? 'unknown address'}</span>
                    {login.current && <Badge tone="good">this one</Badge>}
                  </span>
                  <span class="quiet small">{login.user_agent ?? 'unknown program'}</span>
                  <span class="quiet small">
                    used <Time at={login.last_used_at} />, since <Time at={login.created_at} />
                  </span>
                </div>
                {!login.current && (
                  <Button
                    label={`Sign out at ${login.ip ?? 'an unknown address'}`}
                    onClick={() => void revoke.run(login.id).then(logins.reload)}
                  >
                    Sign out
                  </Button>
                )}
              </li>
            ))}
          </ul>
        )}
      </Show>
    </Card>
  );
}

function MyData() {
  const read = useAct((api) => ask(api.GET('/api/user/export')), { done: 'Saved to your downloads.' });
  const save = async () => {
    const data = await read.run();
    if (data !== undefined)
      saveFile(`traffic-share-${data.exported_at.slice(0, 10)}.json`, 'application/json', [
        JSON.stringify(data, null, 2),
      ]);
  };
  return (
    <Card title="My data">
      <div class="spread">
        <p>Everything that is kept about you, as a JSON file.</p>
        <Button busy={read.busy} onClick={() => void save()}>
          Download my data
        </Button>
      </div>
      <p class="quiet small">
        To have your account deleted, <a href="/provider/support">write to support</a>: records of money stay
        without your name.
      </p>
    </Card>
  );
}
