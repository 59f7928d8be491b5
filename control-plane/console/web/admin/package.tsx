import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button, Copyable } from '../parts/buttons.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { Bytes, Time } from '../parts/figures.js';
import { CheckField, Form, TextField } from '../parts/form.js';
import { Card, Facts, PageHead } from '../parts/layout.js';
import { Empty, Show } from '../parts/states.js';
import type { PageProps } from '../shell/room.js';
import { BuyerId, Crumb, countryText, FullId, Id, SessionId, Status, UserId } from './admin-parts.js';

/** One package and its history; giving it to a buyer, taking it back. */
export default function OnePackage({ params }: PageProps) {
  const id = params.id ?? '';
  const [asked, setAsked] = useState<'assign' | 'revoke'>();
  const one = useLoad(
    (api, signal) => ask(api.GET('/api/admin/packages/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  const { data } = one;
  const live = data?.status === 'allocated' || data?.status === 'in_progress';
  const close = () => setAsked(undefined);
  return (
    <>
      <Crumb href="/admin/packages">Packages</Crumb>
      <PageHead title="Package" lead={data && <Status of={data.status} />}>
        {data?.status === 'available' && (
          <Button kind="main" onClick={() => setAsked('assign')}>
            Give to a buyer
          </Button>
        )}
        {(live || data?.status === 'available') && (
          <Button kind="danger" onClick={() => setAsked('revoke')}>
            Revoke
          </Button>
        )}
      </PageHead>
      <Show of={one} lines={8}>
        {(data) => (
          <>
            <Card title="About it">
              <Facts
                rows={[
                  ['Id', <FullId id={data.uuid} />],
                  ['User', <UserId id={data.user_id} />],
                  [
                    'Address',
                    [data.ip, data.country && countryText(data.country), data.city]
                      .filter(Boolean)
                      .join(', '),
                  ],
                  ['Size', <Bytes bytes={data.size_bytes} />],
                  ['From', data.origin],
                  ['Session', <SessionId id={data.session_id} />],
                  ['Buyer', <BuyerId id={data.buyer_id} />],
                  ['Created', <Time at={data.created_at} full />],
                ]}
              />
            </Card>
            <Card title="Given to">
              {data.allocations.length === 0 ? (
                <Empty title="Nobody yet" />
              ) : (
                <ul class="rows">
                  {data.allocations.map((one) => (
                    <li key={one.id}>
                      <div>
                        <BuyerId id={one.buyer_id} /> by {one.via}
                        <p class="quiet small">
                          <Time at={one.assigned_at} full /> until{' '}
                          <Time at={one.ended_at ?? one.expires_at} full />
                        </p>
                      </div>
                      <div class="row">
                        <Bytes bytes={BigInt(one.bytes_up) + BigInt(one.bytes_down)} />
                        <Status of={one.status} />
                      </div>
                    </li>
                  ))}
                </ul>
              )}
            </Card>
            <Card title="History">
              {data.audit.length === 0 ? (
                <Empty title="Nothing in the audit log" />
              ) : (
                <ul class="rows">
                  {data.audit.map(({ at, action, actor_id }) => (
                    <li key={`${at}${action}`}>
                      <span>
                        {action.replaceAll('_', ' ')} <Id id={actor_id} />
                      </span>
                      <Time at={at} full />
                    </li>
                  ))}
                </ul>
              )}
            </Card>
          </>
        )}
      </Show>
      {asked === 'assign' && <Assign id={id} onChange={one.reload} onClose={close} />}
      {asked === 'revoke' && <Revoke id={id} onChange={one.reload} onClose={close} />}
    </>
  );
}

interface ActProps {
  id: string;
  onChange: () => void;
  onClose: () => void;
}

function Assign({ id, onChange, onClose }: ActProps) {
  const [buyer, setBuyer] = useState('');
  const [proxy, setProxy] = useState<{ username: string; password: string }>();
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/packages/{id}/assign', {
          params: { path: { id } },
          body: { buyer_id: buyer.trim() },
        }),
      ),
    { quiet: true, done: 'It is theirs.' },
  );
  const submit = async () => {
    const given = await act.run();
    if (given === undefined) return;
    onChange();
    if (given.proxy === null) onClose();
    else setProxy(given.proxy);
  };
  if (proxy !== undefined)
    return (
      <Dialog title="How the buyer uses it" onClose={onClose}>
        <div class="dialog-body">
          <p>The password is shown this once.</p>
          <Copyable text={proxy.username} label="Copy" />
          <Copyable text={proxy.password} label="Copy" />
        </div>
      </Dialog>
    );
  return (
    <Dialog title="Give to a buyer" onClose={onClose}>
      <Form
        submit="Give"
        busy={act.busy}
        error={act.error}
        disabled={buyer.trim() === ''}
        onSubmit={() => void submit()}
      >
        <TextField
          label="Id of the buyer"
          name="buyer_id"
          error={act.error}
          value={buyer}
          onValue={setBuyer}
          focused
        />
      </Form>
    </Dialog>
  );
}

function Revoke({ id, onChange, onClose }: ActProps) {
  const [reset, setReset] = useState(false);
  const act = useAct(
    (api) => ask(api.POST('/api/admin/packages/{id}/revoke', { params: { path: { id } }, body: { reset } })),
    { quiet: true, done: 'Taken back.' },
  );
  return (
    <Confirm
      title="Take this package back?"
      action="Revoke"
      danger
      busy={act.busy}
      error={act.error}
      onConfirm={() =>
        void act.run().then((done) => {
          if (done === undefined) return;
          onChange();
          onClose();
        })
      }
      onClose={onClose}
    >
      <p>Its streams end within a second.</p>
      <CheckField label="It may be given to another buyer" checked={reset} onValue={setReset} />
    </Confirm>
  );
}
