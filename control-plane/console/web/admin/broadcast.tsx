import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Card, Facts, PageHead, Progress, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Table } from '../parts/table.js';
import type { PageProps } from '../shell/room.js';
import { Crumb, FilterField, Status, UserId } from './admin-parts.js';
import { type AnswerOf, queryOf } from './api-types.js';

type Broadcast = AnswerOf<'/api/admin/broadcasts/{id}'>;

/** How often counters are read while it is being sent, ms. */
const LOOK_MS = 1_000;
const STATES = [
  'pending',
  'sending',
  'sent',
  'blocked',
  'failed',
  'unknown',
  'given_up',
  'skipped',
  'cancelled',
] as const;

/** One broadcast: starting, watching, cancelling; what became of each recipient. */
export default function OneBroadcast({ params }: PageProps) {
  const id = params.id ?? '';
  const [asked, setAsked] = useState<Act>();
  const one = useLoad(
    (api, signal) => ask(api.GET('/api/admin/broadcasts/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  const { data } = one;
  const sending = data?.status === 'sending';
  useEffect(() => {
    if (!sending) return;
    const timer = setInterval(one.reload, LOOK_MS);
    return () => clearInterval(timer);
  }, [sending]);
  return (
    <>
      <Crumb href="/admin/broadcasts">Broadcasts</Crumb>
      <PageHead title="Broadcast" lead={data && <Status of={data.status} />}>
        {(data?.status === 'draft' || sending) && (
          <Button kind="danger" onClick={() => setAsked('cancel')}>
            Cancel it
          </Button>
        )}
        {data?.status === 'draft' && (
          <Button kind="main" onClick={() => setAsked('start')}>
            Start
          </Button>
        )}
      </PageHead>
      <Show of={one} lines={8}>
        {(data) => (
          <>
            {data.counters.unknown > 0 && <Unknown data={data} onAsk={setAsked} />}
            <Details data={data} />
          </>
        )}
      </Show>
      {data !== undefined && asked !== undefined && (
        <Decide
          data={data}
          what={asked}
          onDone={(after) => {
            setAsked(undefined);
            one.set(after);
          }}
          onClose={() => setAsked(undefined)}
        />
      )}
    </>
  );
}

/** What can be done with one. */
type Act = 'start' | 'cancel' | 'send_again' | 'leave';

/** Recipients of whom nobody knows whether Telegram sent it to them: somebody has to decide. */
function Unknown({ data, onAsk }: { data: Broadcast; onAsk: (what: Act) => void }) {
  const count = data.counters.unknown;
  return (
    <Card
      title={`Outcome unknown: ${countText(count)} ${count === 1 ? 'recipient' : 'recipients'}`}
      actions={
        <>
          <Button onClick={() => onAsk('leave')}>Leave it</Button>
          {data.status !== 'cancelled' && (
            <Button kind="main" onClick={() => onAsk('send_again')}>
              Send to these again
            </Button>
          )}
        </>
      }
    >
      <p>
        Their call to Telegram was cut off before an answer came, so they may have the message or not.
        Telegram can not be asked. It is in their inbox in the app either way.
      </p>
    </Card>
  );
}

function Details({ data }: { data: Broadcast }) {
  const [state, setState] = useState('');
  const { counters } = data;
  const through = data.recipients - counters.pending - counters.sending;
  return (
    <>
      <Card>
        <p class="said">{data.message}</p>
        <Facts
          rows={[
            ['To', data.target],
            ['Drafted', <Time at={data.created_at} full />],
            ['Started', <Time at={data.started_at} full />],
            ['Ended', <Time at={data.ended_at} full />],
          ]}
        />
        {data.status === 'sending' && (
          <Progress
            label={`${countText(through)} of ${countText(data.recipients)}`}
            value={through}
            max={Math.max(1, data.recipients)}
          />
        )}
      </Card>
      {data.status !== 'draft' && (
        <>
          <Stats>
            <Stat label="Sent" tone="good" note={`of ${countText(data.recipients)}`}>
              {countText(counters.sent)}
            </Stat>
            <Stat label="Waiting">{countText(counters.pending + counters.sending)}</Stat>
            <Stat label="Blocked the bot">{countText(counters.blocked)}</Stat>
            <Stat
              label="Failed"
              note={[
                `${countText(counters.unknown)} unknown`,
                ...(counters.given_up > 0 ? [`${countText(counters.given_up)} left`] : []),
                `${countText(counters.skipped)} skipped`,
              ].join(', ')}
            >
              {countText(counters.failed)}
            </Stat>
          </Stats>
          <Card title="Recipients">
            <Table
              load={(api, query, signal) =>
                ask(
                  api.GET('/api/admin/broadcasts/{id}/recipients', {
                    params: {
                      path: { id: data.id },
                      query: queryOf<'/api/admin/broadcasts/{id}/recipients'>({ ...query, state }),
                    },
                    signal,
                  }),
                )
              }
              caption="Recipients"
              columns={[
                {
                  key: 'user',
                  title: 'User',
                  cell: (row) => <UserId id={row.user_id} />,
                  csv: (row) => row.user_id,
                },
                {
                  key: 'state',
                  title: 'State',
                  cell: (row) => <Status of={row.state} />,
                  csv: (row) => row.state,
                },
                {
                  key: 'at',
                  title: 'Ended',
                  cell: (row) => <Time at={row.ended_at} />,
                  csv: (row) => row.ended_at,
                },
              ]}
              rowKey={(row) => row.user_id}
              filters={state}
              revision={through * 2 + Number(counters.unknown > 0)}
              empty="Nobody"
              exportName="recipients"
            >
              <FilterField label="State" value={state} onValue={setState} values={STATES} />
            </Table>
          </Card>
        </>
      )}
    </>
  );
}

const ACTS: Readonly<
  Record<
    Act,
    { title: string; action: string; done: string; danger?: true; why: (data: Broadcast) => string }
  >
> = {
  start: {
    title: 'Send it?',
    action: 'Send',
    done: 'It is being sent.',
    why: ({ target }) => `To ${target}. It can not be called back.`,
  },
  cancel: {
    title: 'Cancel it?',
    action: 'Cancel it',
    done: 'Cancelled.',
    danger: true,
    why: () => 'What went out, went out.',
  },
  send_again: {
    title: 'Send to these again?',
    action: 'Send again',
    done: 'It is being sent to them again.',
    why: () => 'Afterwards each of them has it. Who had it already has it twice.',
  },
  leave: {
    title: 'Leave it?',
    action: 'Leave it',
    done: 'Left as it is.',
    why: () => 'They are not sent it again. Who does not have it finds it in the inbox of the app.',
  },
};

function Decide(props: {
  data: Broadcast;
  what: Act;
  onDone: (after: Broadcast) => void;
  onClose: () => void;
}) {
  const { data, what } = props;
  const { title, action, done, danger, why } = ACTS[what];
  const act = useAct(
    (api) => {
      const params = { path: { id: data.id } };
      if (what === 'start') return ask(api.POST('/api/admin/broadcasts/{id}/start', { params }));
      if (what === 'cancel') return ask(api.POST('/api/admin/broadcasts/{id}/cancel', { params }));
      return ask(api.POST('/api/admin/broadcasts/{id}/unknown', { params, body: { decision: what } }));
    },
    { quiet: true, done },
  );
  return (
    <Confirm
      title={title}
      action={action}
      danger={danger === true}
      busy={act.busy}
      error={act.error}
      onConfirm={() => void act.run().then((after) => after && props.onDone(after))}
      onClose={props.onClose}
    >
      <p>{why(data)}</p>
    </Confirm>
  );
}
