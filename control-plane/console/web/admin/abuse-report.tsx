import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button } from '../parts/buttons.js';
import { Bytes, Time } from '../parts/figures.js';
import { CheckField, Form, SelectField, TextArea } from '../parts/form.js';
import { Card, Facts, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { type Column, Table } from '../parts/table.js';
import type { PageProps } from '../shell/room.js';
import { Crumb, Id, Status, UserId } from './admin-parts.js';
import { type AnswerOf, type ItemOf, queryOf } from './api-types.js';

const STREAMS = '/api/admin/abuse/reports/{id}/streams';
type Report = AnswerOf<'/api/admin/abuse/reports/{id}'>;
type Stream = ItemOf<typeof STREAMS>;
type Outcome = NonNullable<Report['outcome']>;

const OUTCOMES: readonly (readonly [Outcome | '', string])[] = [
  ['', 'Leave it open for more'],
  ['acted', 'Close: something was done'],
  ['not_found', 'Close: no traffic of ours fits'],
  ['no_abuse', 'Close: no abuse'],
  ['duplicate', 'Close: reported before'],
  ['spam', 'Close: no report at all'],
];

/** One report: whose traffic it is about, the answer, the end of it. */
export default function AbuseReport({ params }: PageProps) {
  const id = params.id ?? '';
  const report = useLoad(
    (api, signal) => ask(api.GET('/api/admin/abuse/reports/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  const [looking, setLooking] = useState(false);
  return (
    <>
      <Crumb href="/admin/reports">Abuse reports</Crumb>
      <PageHead
        title={report.data === undefined ? 'Report' : `Report ${report.data.reference}`}
        lead={report.data && <Status of={report.data.state} />}
      />
      <Show of={report} lines={8}>
        {(data) => (
          <>
            <Card title="What is reported">
              <Facts
                rows={[
                  ['Exit address', data.exit_ip ?? '–'],
                  ['When', <Time at={data.happened_at} full />],
                  [
                    'Their server',
                    [data.destination, data.port].filter((part) => part !== null).join(', port ') || '–',
                  ],
                  ['Contact', data.contact ?? '–'],
                  ['Sent from', data.reporter_ip ?? '–'],
                  ['Received', <Time at={data.received_at} full />],
                  [
                    'Finding',
                    <Id
                      id={data.finding_id}
                      {...(data.finding_id !== null && { href: `/admin/abuse/${data.finding_id}` })}
                    />,
                  ],
                ]}
              />
              <p class="said">{data.description ?? 'The text was deleted.'}</p>
            </Card>
            {data.exit_ip !== null && (
              <Card title="Whose traffic">
                {looking ? (
                  <Streams report={data} onLinked={report.set} />
                ) : (
                  <p class="row">
                    <Button onClick={() => setLooking(true)}>Look</Button>
                    <span class="quiet small">It is written into the audit log that you did.</span>
                  </p>
                )}
              </Card>
            )}
            <Card title="Answer">
              {data.answer !== null && (
                <p class="said said-admin">
                  <span class="quiet small">
                    <UserId id={data.answered_by} />, <Time at={data.answered_at} />
                  </span>
                  <br />
                  {data.answer}
                </p>
              )}
              {data.state === 'closed' ? (
                <p>
                  Closed, <Status of={data.outcome ?? 'closed'} /> <Time at={data.closed_at} />
                </p>
              ) : (
                <Answer report={data} onDone={report.set} />
              )}
            </Card>
          </>
        )}
      </Show>
    </>
  );
}

/** Connection records around the report, each with a way to make its buyer the one it is about. */
function Streams({ report, onLinked }: { report: Report; onLinked: (report: Report) => void }) {
  const [only, setOnly] = useState(false);
  const link = useAct(
    (api, buyerId: string) =>
      ask(
        api.POST('/api/admin/abuse/reports/{id}/link', {
          params: { path: { id: report.id } },
          body: { buyer_id: buyerId },
        }),
      ),
    { done: 'Linked: a finding of this buyer is open.' },
  );
  const columns: readonly Column<Stream>[] = [
    {
      key: 'buyer',
      title: 'Buyer',
      cell: (row) => <a href={`/admin/buyers/${row.buyer_id}`}>{row.buyer_account}</a>,
      csv: (row) => row.buyer_account,
    },
    { key: 'host', title: 'Destination', cell: (row) => `${row.host}:${row.port}`, csv: (row) => row.host },
    {
      key: 'first',
      title: 'First',
      cell: (row) => <Time at={row.first_at} full />,
      csv: (row) => row.first_at,
    },
    { key: 'last', title: 'Last', cell: (row) => <Time at={row.last_at} full />, csv: (row) => row.last_at },
    {
      key: 'streams',
      title: 'Connections',
      number: true,
      cell: (row) => row.streams,
      csv: (row) => row.streams,
    },
    {
      key: 'bytes',
      title: 'Traffic',
      number: true,
      cell: (row) => <Bytes bytes={row.bytes} />,
      csv: (row) => row.bytes,
    },
    {
      key: 'link',
      title: 'It was them',
      cell: (row) => (
        <Button
          onClick={() => void link.run(row.buyer_id).then((after) => after && onLinked(after))}
          busy={link.busy}
        >
          Link
        </Button>
      ),
    },
  ];
  return (
    <Table
      load={(api, query, signal) =>
        ask(
          api.GET(STREAMS, {
            params: {
              path: { id: report.id },
              query: queryOf<typeof STREAMS>({ ...query, destination: only }),
            },
            signal,
          }),
        )
      }
      caption="Connection records within an hour of it"
      columns={columns}
      rowKey={(row) =>
        `${row.day}${row.host}${row.port}${row.allocation_id}${row.tag}${row.session_name}${row.sub_user_id}`
      }
      filters={String(only)}
      empty="No traffic of ours fits"
      exportName="report-streams"
    >
      {report.destination !== null && (
        <CheckField label={`Only to ${report.destination}`} checked={only} onValue={setOnly} />
      )}
    </Table>
  );
}

function Answer({ report, onDone }: { report: Report; onDone: (report: Report) => void }) {
  const [answer, setAnswer] = useState('');
  const [outcome, setOutcome] = useState<Outcome | ''>('');
  const text = answer.trim();
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/abuse/reports/{id}/answer', {
          params: { path: { id: report.id } },
          body: { ...(text !== '' && { answer: text }), ...(outcome !== '' && { outcome }) },
        }),
      ),
    { quiet: true, done: ({ state }) => (state === 'closed' ? 'Closed.' : 'Answered.') },
  );
  return (
    <Form
      submit="Send"
      busy={act.busy}
      error={act.error}
      disabled={text === '' && outcome === ''}
      onSubmit={() => void act.run().then((after) => after && onDone(after))}
    >
      <TextArea
        label="Answer"
        name="answer"
        error={act.error}
        hint="The sender reads it. Name no buyer, and never a provider."
        value={answer}
        onValue={setAnswer}
      />
      <SelectField
        label="And then"
        name="outcome"
        error={act.error}
        value={outcome}
        onValue={(value) => setOutcome(value as Outcome | '')}
        options={OUTCOMES}
      />
    </Form>
  );
}
