import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Loading } from '../parts/states.js';
import { type Column, Table } from '../parts/table.js';
import { forgetSession } from '../session/session.js';
import { Notice } from './parts.js';
import { PasswordField } from './password-field.js';

interface Token {
  id: string;
  kind: 'token' | 'proxy_password';
  prefix: string;
  scopes: string[];
  allowed_ips: string[];
  description: string | null;
  expires_at: string | null;
  last_used_at: string | null;
  created_at: string;
  revoked_at: string | null;
  current: boolean;
}

const kindName = ({ kind, scopes }: Token) =>
  kind === 'proxy_password' ? 'Proxy password' : `Token (${scopes.join(', ')})`;

function State({ token }: { token: Token }) {
  if (token.revoked_at !== null)
    return (
      <>
        <Badge tone="bad">revoked</Badge> <Time at={token.revoked_at} />
      </>
    );
  if (token.expires_at === null) return <Badge tone="good">works</Badge>;
  const over = Date.parse(token.expires_at) <= Date.now();
  return (
    <>
      <Badge tone={over ? 'bad' : 'warn'}>{over ? 'expired' : 'expires'}</Badge>{' '}
      <Time at={token.expires_at} />
    </>
  );
}

/** What opens the account: passwords for the proxy, tokens for the API and this console. */
export default function Access() {
  const me = useLoad((api, signal) => ask(api.GET('/api/buyer/me', { signal })));
  const [turn, setTurn] = useState(0);
  const [leaving, setLeaving] = useState<Token>();
  const revoke = useAct(
    (api, id: string) =>
      ask(api.POST('/api/buyer/tokens/{token_id}/revoke', { params: { path: { token_id: id } } })),
    { done: 'Revoked, on every gateway within a second.', quiet: true },
  );
  const columns: Column<Token>[] = [
    {
      key: 'prefix',
      title: 'Begins with',
      cell: ({ prefix, current }) => (
        <>
          <code>{prefix}…</code> {current && <Badge tone="info">this sign-in</Badge>}
        </>
      ),
      csv: ({ prefix }) => prefix,
    },
    { key: 'kind', title: 'Kind', cell: kindName, csv: kindName },
    {
      key: 'description',
      title: 'For',
      cell: ({ description }) => description ?? '–',
      csv: ({ description }) => description,
    },
    {
      key: 'ips',
      title: 'From',
      cell: ({ allowed_ips }) => (allowed_ips.length === 0 ? 'anywhere' : allowed_ips.join(', ')),
      csv: ({ allowed_ips }) => allowed_ips.join(' '),
    },
    {
      key: 'used',
      title: 'Used at the API',
      cell: ({ kind, last_used_at }) => (kind === 'token' ? <Time at={last_used_at} /> : '–'),
      csv: ({ last_used_at }) => last_used_at,
    },
    { key: 'state', title: 'State', cell: (token) => <State token={token} /> },
    {
      key: 'act',
      title: 'Revoke',
      cell: (token) =>
        token.revoked_at === null ? (
          <Button kind="quiet" label={`Revoke ${token.prefix}`} onClick={() => setLeaving(token)}>
            Revoke
          </Button>
        ) : (
          '–'
        ),
    },
  ];
  return (
    <>
      <PageHead
        title="Passwords and tokens"
        lead="Proxy passwords open the proxy alone. Tokens open the API and this console, and the proxy where they say so."
      />
      <Card title="Proxy password of the main account">
        {me.data === undefined ? (
          <Loading lines={2} />
        ) : (
          <PasswordField
            account={me.data.account}
            subUserId={null}
            main
            onMade={() => setTurn((n) => n + 1)}
          />
        )}
      </Card>
      <Card
        title="What works"
        lead="Sub-users have passwords of their own, on their pages. New tokens come from an admin: write to support."
      >
        <Table
          caption="Passwords and tokens"
          columns={columns}
          rowKey={({ id }) => id}
          load={(api, _query, signal) => ask(api.GET('/api/buyer/tokens', { signal }))}
          revision={turn}
          exportName="tokens"
          empty="None"
        />
      </Card>
      {leaving !== undefined && (
        <Confirm
          title={`Revoke ${leaving.prefix}…?`}
          action="Revoke"
          danger
          busy={revoke.busy}
          error={revoke.error}
          onConfirm={() => {
            void revoke.run(leaving.id).then((done) => {
              if (done === undefined) return;
              if (done.current) forgetSession('buyer');
              setLeaving(undefined);
              setTurn((n) => n + 1);
            });
          }}
          onClose={() => setLeaving(undefined)}
        >
          <p>
            Whatever uses it is refused from then on, and its connections are cut. It can not be taken back.
          </p>
          {leaving.current && (
            <Notice tone="bad">
              You are signed in with this one: you are signed out, and need another token to come back.
            </Notice>
          )}
        </Confirm>
      )}
    </>
  );
}
