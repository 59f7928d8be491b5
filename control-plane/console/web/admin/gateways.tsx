import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLive } from '../live/live.js';
import { countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Form, TextField } from '../parts/form.js';
import { Badge, Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Table } from '../parts/table.js';
import { type ItemOf, queryOf } from './api-types.js';

type Gateway = ItemOf<'/api/admin/gateways'>;

/** How often the list is read anew while a gateway drains, ms. */
const DRAIN_LOOK_MS = 2_000;

/** The fleet: what is there, draining one, giving up what a lost one owes. */
export default function Gateways() {
  const fleet = useLive('admin').state.value?.fleet;
  const [asked, setAsked] = useState<Gateway>();
  const [writingOff, setWritingOff] = useState(false);
  const [turn, setTurn] = useState(0);
  useEffect(() => setTurn((n) => n + 1), [fleet?.gateways, fleet?.gateways_draining]);
  const draining = (fleet?.gateways_draining ?? 0) > 0;
  useEffect(() => {
    if (!draining) return;
    const timer = setInterval(() => setTurn((n) => n + 1), DRAIN_LOOK_MS);
    return () => clearInterval(timer);
  }, [draining]);
  return (
    <>
      <PageHead title="Gateways">
        <Button onClick={() => setWritingOff(true)}>Write off a lost one</Button>
      </PageHead>
      <Stats>
        <Stat label="Gateways" note={`${countText(fleet?.gateways_draining ?? 0)} draining`}>
          {fleet == null ? '–' : countText(fleet.gateways)}
        </Stat>
        <Stat label="Tunnels">{fleet == null ? '–' : countText(fleet.tunnels)}</Stat>
        <Stat label="Streams">{fleet == null ? '–' : countText(fleet.streams)}</Stat>
      </Stats>
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(
              api.GET('/api/admin/gateways', {
                params: { query: queryOf<'/api/admin/gateways'>(query) },
                signal,
              }),
            )
          }
          caption="Gateways"
          columns={[
            { key: 'id', title: 'Gateway', cell: (row) => <strong>{row.id}</strong> },
            {
              key: 'state',
              title: 'State',
              cell: (row) =>
                row.draining ? <Badge tone="warn">draining</Badge> : <Badge tone="good">serving</Badge>,
            },
            { key: 'tunnels', title: 'Tunnels', number: true, cell: (row) => countText(row.tunnels) },
            { key: 'streams', title: 'Streams', number: true, cell: (row) => countText(row.streams) },
            { key: 'started', title: 'Started', cell: (row) => <Time at={row.started_at} /> },
            { key: 'run', title: 'Run', cell: (row) => <code class="small">{row.run}</code> },
            {
              key: 'act',
              title: '',
              cell: (row) => (
                <Button
                  kind="danger"
                  disabled={row.draining}
                  label={`Drain ${row.id}`}
                  onClick={() => setAsked(row)}
                >
                  Drain
                </Button>
              ),
            },
          ]}
          rowKey={(row) => row.id}
          revision={turn}
          empty="No gateway is there"
        />
      </Card>
      {asked !== undefined && (
        <Drain
          gateway={asked}
          onDone={() => {
            setAsked(undefined);
            setTurn((n) => n + 1);
          }}
          onClose={() => setAsked(undefined)}
        />
      )}
      {writingOff && <WriteOff onClose={() => setWritingOff(false)} />}
    </>
  );
}

function Drain(props: { gateway: Gateway; onDone: () => void; onClose: () => void }) {
  const { gateway } = props;
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/gateways/{id}/drain', {
          params: { path: { id: gateway.id } },
        }),
      ),
    { quiet: true, done: `${gateway.id} drains.` },
  );
  return (
    <Confirm
      title={`Drain ${gateway.id}?`}
      action="Drain"
      danger
      busy={act.busy}
      error={act.error}
      onConfirm={() => void act.run().then((done) => done && props.onDone())}
      onClose={props.onClose}
    >
      <p>
        It takes no more connections, asks its {countText(gateway.tunnels)} devices to move, lets live streams
        finish, settles, and ends; the supervisor then starts it again.
      </p>
    </Confirm>
  );
}

function WriteOff({ onClose }: { onClose: () => void }) {
  const [gateway, setGateway] = useState('');
  const [run, setRun] = useState('');
  const [reason, setReason] = useState('');
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/gateways/{gateway_id}/write_off', {
          params: { path: { gateway_id: gateway.trim() } },
          body: { run: run.trim(), reason: reason.trim() },
        }),
      ),
    {
      quiet: true,
      done: ({ meters, sessions }) =>
        `${countText(meters)} meters of ${countText(sessions)} sessions given up.`,
    },
  );
  return (
    <Dialog title="Write off a lost gateway" onClose={onClose}>
      <Form
        submit="Write off"
        busy={act.busy}
        error={act.error}
        disabled={[gateway, run, reason].some((text) => text.trim() === '')}
        onSubmit={() => void act.run().then((done) => done && onClose())}
      >
        <p class="quiet">
          For a run that will never come back: its sessions complete with what is booked, and what was set
          aside is given back.
        </p>
        <TextField
          label="Gateway"
          name="gateway_id"
          error={act.error}
          value={gateway}
          onValue={setGateway}
          focused
        />
        <TextField label="Run" name="run" error={act.error} value={run} onValue={setRun} />
        <TextField
          label="Reason"
          name="reason"
          error={act.error}
          maxLength={500}
          value={reason}
          onValue={setReason}
        />
      </Form>
    </Dialog>
  );
}
