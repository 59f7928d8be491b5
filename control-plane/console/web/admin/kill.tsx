import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Rate, Time } from '../parts/figures.js';
import { CheckField, Form, SelectField, TextField } from '../parts/form.js';
import { Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Empty, Show } from '../parts/states.js';
import { BuyerId, Id, Status, UserId } from './admin-parts.js';
import { hold, lift, type Scope } from './hold.js';

const SCOPES: readonly { key: Scope; label: string; id: string; keep: string }[] = [
  { key: 'all', label: 'Everything', id: '', keep: '' },
  { key: 'buyer', label: 'A buyer', id: 'Id of the buyer', keep: 'Also suspend the buyer' },
  { key: 'provider', label: 'A provider', id: 'Id of the user', keep: 'Also ban the user' },
  { key: 'device', label: 'A device', id: 'Id of the device', keep: '' },
  { key: 'destination', label: 'A destination', id: 'Domain or address', keep: 'Also deny it for everybody' },
];

/** The brake: cuts streams now and, where asked to, keeps them from coming back until that is lifted. */
export default function Kill() {
  const { query } = useLocation();
  const [scope, setScope] = useState<Scope>(
    () => SCOPES.find(({ key }) => key === query.scope)?.key ?? 'all',
  );
  const [id, setId] = useState(query.id ?? '');
  const [reason, setReason] = useState('');
  const [keep, setKeep] = useState(true);
  const [asking, setAsking] = useState(false);
  const [revision, setRevision] = useState(0);
  const live = useLive('admin').state.value;
  const chosen = SCOPES.find(({ key }) => key === scope) ?? SCOPES[0];
  if (chosen === undefined) return null;
  return (
    <>
      <PageHead title="Kill switch" lead="Cuts live streams on every gateway within a second." />
      <Stats>
        <Stat label="Streams now">{live?.fleet == null ? '–' : countText(live.fleet.streams)}</Stat>
        <Stat label="Tunnels">{live?.fleet == null ? '–' : countText(live.fleet.tunnels)}</Stat>
        <Stat label="Speed now">
          <Rate bytesPerSecond={live?.bytes_per_second ?? 0} />
        </Stat>
      </Stats>
      <Card title="Cut streams" class="danger-zone">
        <Form onSubmit={() => setAsking(true)}>
          <div class="fields">
            <SelectField
              label="Whose"
              value={scope}
              onValue={(value) => setScope(value as Scope)}
              options={SCOPES.map(({ key, label }) => [key, label] as const)}
            />
            {chosen.id !== '' && (
              <TextField label={chosen.id} value={id} onValue={setId} required maxLength={254} />
            )}
            <TextField
              label="Reason"
              hint="For the audit log."
              value={reason}
              onValue={setReason}
              required
              maxLength={500}
            />
          </div>
          {chosen.keep !== '' && (
            <CheckField
              label={chosen.keep}
              hint="Without it they can come back at once. It can be lifted below."
              checked={keep}
              onValue={setKeep}
            />
          )}
          <div class="form-foot">
            <Button type="submit" kind="danger">
              Cut the streams…
            </Button>
          </div>
        </Form>
      </Card>
      <Held revision={revision} />
      <Latest revision={revision} />
      {asking && (
        <Ask
          scope={scope}
          id={id.trim()}
          reason={reason.trim()}
          keep={keep && chosen.keep !== ''}
          onDone={() => {
            setAsking(false);
            setReason('');
            setRevision((n) => n + 1);
          }}
          onClose={() => setAsking(false)}
        />
      )}
    </>
  );
}

function Ask(props: {
  scope: Scope;
  id: string;
  reason: string;
  keep: boolean;
  onDone: () => void;
  onClose: () => void;
}) {
  const { scope, id, reason, keep } = props;
  const [typed, setTyped] = useState('');
  const word = scope === 'all' ? 'cut everything' : `cut ${scope}`;
  const act = useAct(
    async (api) => {
      // First what keeps them away: between the two nobody slips back.
      if (keep) await hold(api, scope, id, reason);
      return ask(
        api.POST('/api/admin/kill', { body: scope === 'all' ? { scope, reason } : { scope, id, reason } }),
      );
    },
    { quiet: true, done: keep ? 'Cut, and kept away until it is lifted.' : 'Cut.' },
  );
  return (
    <Confirm
      title={scope === 'all' ? 'Cut every stream?' : `Cut the streams of this ${scope}?`}
      action="Cut the streams"
      danger
      busy={act.busy}
      error={act.error}
      disabled={typed.trim().toLowerCase() !== word}
      onConfirm={() => void act.run().then((done) => done && props.onDone())}
      onClose={props.onClose}
    >
      {id !== '' && scope !== 'all' && (
        <p>
          <code>{id}</code>
        </p>
      )}
      <p>
        {scope === 'all'
          ? 'All buyers are cut off at once. New connections are taken right after.'
          : 'It can not be taken back; new connections depend on what you chose.'}
      </p>
      <TextField
        label={`Type “${word}” to confirm`}
        value={typed}
        onValue={setTyped}
        focused
        autocomplete="off"
      />
    </Confirm>
  );
}

/** What is kept away now, and lifting it. */
function Held({ revision }: { revision: number }) {
  const [turn, setTurn] = useState(0);
  const held = useLoad(
    async (api, signal) => {
      const [buyers, users, lists] = await Promise.all([
        ask(api.GET('/api/admin/buyers', { params: { query: { status: 'suspended', limit: 200 } }, signal })),
        ask(api.GET('/api/admin/users', { params: { query: { status: 'banned', limit: 200 } }, signal })),
        ask(api.GET('/api/admin/policy/destinations', { signal })),
      ]);
      return [
        ...buyers.items.map(({ id, name }) => ({ scope: 'buyer' as const, id, name })),
        ...users.items.map(({ id, username }) => ({
          scope: 'provider' as const,
          id,
          name: username ?? 'User',
        })),
        ...[...lists.denied_domains, ...lists.denied_ips].map((name) => ({
          scope: 'destination' as const,
          id: name,
          name,
        })),
      ];
    },
    [revision, turn],
  );
  const act = useAct((api, scope: Scope, id: string) => lift(api, scope, id), { done: 'Lifted.' });
  return (
    <Card title="Kept away now" lead="Suspended buyers, banned users, denied destinations.">
      <Show of={held}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="Nobody is kept away" />
          ) : (
            <ul class="rows">
              {rows.map((row) => (
                <li key={`${row.scope}${row.id}`}>
                  <div>
                    <Status of={row.scope} /> <strong>{row.name}</strong>{' '}
                    {row.scope === 'buyer' && <BuyerId id={row.id} />}
                    {row.scope === 'provider' && <UserId id={row.id} />}
                  </div>
                  <Button
                    label={`Lift ${row.name}`}
                    disabled={act.busy}
                    onClick={() =>
                      void act.run(row.scope, row.id).then((done) => done && setTurn((n) => n + 1))
                    }
                  >
                    Lift
                  </Button>
                </li>
              ))}
            </ul>
          )
        }
      </Show>
    </Card>
  );
}

function Latest({ revision }: { revision: number }) {
  const audit = useLoad(
    (api, signal) =>
      ask(api.GET('/api/admin/audit/search', { params: { query: { action: 'kill', limit: 10 } }, signal })),
    [revision],
  );
  return (
    <Card title="Pulled lately">
      <Show of={audit}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title="Never yet" />
          ) : (
            <ul class="rows">
              {items.map((row) => (
                <li key={row.id}>
                  <div>
                    <Status of={row.object_type} /> {row.object_id !== null && <code>{row.object_id}</code>}{' '}
                    {String((row.after as { reason?: string } | null)?.reason ?? '')}
                  </div>
                  <span class="quiet small">
                    <Id id={row.actor_id} /> <Time at={row.at} />
                  </span>
                </li>
              ))}
            </ul>
          )
        }
      </Show>
    </Card>
  );
}
