import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button, Copyable } from '../parts/buttons.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { CheckField, Form, SelectField, TextArea, TextField } from '../parts/form.js';
import { Badge } from '../parts/layout.js';
import { Table } from '../parts/table.js';
import { linesOf } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/buyers/{id}/tokens';
type Token = ItemOf<typeof PATH>;
type Asked = { what: 'create' } | { what: 'rotate' | 'revoke'; token: Token };

/** The buyer's tokens and proxy passwords: making, replacing, revoking. A secret is shown once. */
export function BuyerTokens({ id }: { id: string }) {
  const [revision, setRevision] = useState(0);
  const [asked, setAsked] = useState<Asked>();
  const [secret, setSecret] = useState<string>();
  const done = (token: string | null | undefined) => {
    setAsked(undefined);
    setRevision((n) => n + 1);
    setSecret(token ?? undefined);
  };
  const close = () => setAsked(undefined);
  return (
    <>
      <Table
        load={(api, query, signal) =>
          ask(api.GET(PATH, { params: { path: { id }, query: queryOf<typeof PATH>(query) }, signal }))
        }
        caption="Tokens and proxy passwords"
        columns={[
          { key: 'prefix', title: 'Begins with', cell: (row) => <code>{row.prefix}…</code> },
          { key: 'kind', title: 'Kind', cell: (row) => row.kind.replace('_', ' ') },
          { key: 'for', title: 'For', cell: (row) => row.description ?? '–' },
          { key: 'scopes', title: 'May', cell: (row) => row.scopes.join(', ') },
          { key: 'used', title: 'Last used', cell: (row) => <Time at={row.last_used_at} /> },
          {
            key: 'state',
            title: 'State',
            cell: (row) =>
              row.revoked_at !== null ? (
                <Badge tone="bad">revoked</Badge>
              ) : row.expires_at === null ? (
                <Badge tone="good">good</Badge>
              ) : (
                <>
                  until <Time at={row.expires_at} />
                </>
              ),
          },
          {
            key: 'acts',
            title: '',
            cell: (row) =>
              row.revoked_at === null && (
                <span class="row">
                  <Button
                    label={`Replace ${row.prefix}`}
                    onClick={() => setAsked({ what: 'rotate', token: row })}
                  >
                    Replace
                  </Button>
                  <Button
                    kind="danger"
                    label={`Revoke ${row.prefix}`}
                    onClick={() => setAsked({ what: 'revoke', token: row })}
                  >
                    Revoke
                  </Button>
                </span>
              ),
          },
        ]}
        rowKey={(row) => row.id}
        filters={id}
        revision={revision}
        empty="No tokens yet"
      >
        <Button kind="main" onClick={() => setAsked({ what: 'create' })}>
          Create a token
        </Button>
      </Table>
      {asked?.what === 'create' && <Create id={id} onDone={done} onClose={close} />}
      {asked?.what === 'rotate' && <Rotate token={asked.token} onDone={done} onClose={close} />}
      {asked?.what === 'revoke' && <Revoke token={asked.token} onDone={() => done(null)} onClose={close} />}
      {secret !== undefined && (
        <Dialog title="The secret, this once" onClose={() => setSecret(undefined)}>
          <div class="dialog-body">
            <p>Copy it now and hand it over safely: it is stored as a hash and can not be shown again.</p>
            <Copyable text={secret} label="Copy" />
          </div>
          <footer class="dialog-foot">
            <Button kind="main" onClick={() => setSecret(undefined)}>
              I have it
            </Button>
          </footer>
        </Dialog>
      )}
    </>
  );
}

function Create(props: { id: string; onDone: (token: string | null) => void; onClose: () => void }) {
  const [description, setDescription] = useState('');
  const [until, setUntil] = useState('');
  const [proxy, setProxy] = useState(true);
  const [api, setApi] = useState(true);
  const [ips, setIps] = useState('');
  const act = useAct(
    (client) =>
      ask(
        client.POST(PATH, {
          params: { path: { id: props.id } },
          body: {
            scopes: [...(proxy ? (['proxy'] as const) : []), ...(api ? (['api'] as const) : [])],
            ...(description.trim() && { description: description.trim() }),
            ...(until && { expires_at: new Date(until).toISOString() }),
            ...(ips.trim() && { allowed_ips: linesOf(ips) }),
          },
        }),
      ),
    { quiet: true },
  );
  return (
    <Dialog title="Create a token" onClose={props.onClose}>
      <Form
        submit="Create"
        busy={act.busy}
        error={act.error}
        disabled={!proxy && !api}
        onSubmit={() => void act.run().then((made) => made && props.onDone(made.token))}
      >
        <TextField
          label="What for"
          name="description"
          error={act.error}
          value={description}
          onValue={setDescription}
          focused
        />
        <TextField
          label="Good until"
          type="datetime-local"
          name="expires_at"
          error={act.error}
          hint="In your time zone. Empty: until it is revoked."
          value={until}
          onValue={setUntil}
        />
        <CheckField label="Use the proxy" checked={proxy} onValue={setProxy} />
        <CheckField label="Use the API" checked={api} onValue={setApi} />
        <TextArea
          label="Only from these addresses"
          name="allowed_ips"
          error={act.error}
          hint="One a line. Empty: from anywhere."
          rows={2}
          value={ips}
          onValue={setIps}
        />
      </Form>
    </Dialog>
  );
}

function Rotate(props: { token: Token; onDone: (token: string | null) => void; onClose: () => void }) {
  const [grace, setGrace] = useState('3600');
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/rotate_buyer_token', {
          body: { token_id: props.token.id, grace_seconds: Number(grace) },
        }),
      ),
    { quiet: true },
  );
  return (
    <Confirm
      title={`Replace ${props.token.prefix}…?`}
      action="Replace"
      busy={act.busy}
      error={act.error}
      onConfirm={() => void act.run().then((made) => made && props.onDone(made.token))}
      onClose={props.onClose}
    >
      <SelectField
        label="The old one works on for"
        value={grace}
        onValue={setGrace}
        options={[
          ['0', 'no time'],
          ['3600', 'an hour'],
          ['86400', 'a day'],
        ]}
      />
    </Confirm>
  );
}

function Revoke(props: { token: Token; onDone: () => void; onClose: () => void }) {
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/tokens/{token_id}/revoke', { params: { path: { token_id: props.token.id } } }),
      ),
    { quiet: true, done: 'Revoked.' },
  );
  return (
    <Confirm
      title={`Revoke ${props.token.prefix}…?`}
      action="Revoke"
      danger
      busy={act.busy}
      error={act.error}
      onConfirm={() => void act.run().then((done) => done && props.onDone())}
      onClose={props.onClose}
    >
      <p>No gateway takes it any more within a second.</p>
    </Confirm>
  );
}
