import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Time } from '../parts/figures.js';
import { Form, SelectField, TextArea, TextField } from '../parts/form.js';
import { Card, Facts, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import type { PageProps } from '../shell/room.js';
import { RULES } from './abuse.js';
import { Crumb, FullId, Status, UserId } from './admin-parts.js';
import type { AnswerOf } from './api-types.js';
import { Json } from './json.js';

type Finding = AnswerOf<'/api/admin/abuse/findings/{id}'>;
type Decision = 'dismiss' | 'warn' | 'suspend' | 'keep_open';

const DECISIONS: readonly (readonly [Decision, string])[] = [
  ['keep_open', 'Keep open, with a note'],
  ['dismiss', 'Dismiss: it is no abuse'],
  ['warn', 'Warn the buyer'],
  ['suspend', 'Suspend the buyer'],
];

/** One finding: what was seen, and what becomes of it. */
export default function AbuseFinding({ params }: PageProps) {
  const id = params.id ?? '';
  const finding = useLoad(
    (api, signal) => ask(api.GET('/api/admin/abuse/findings/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  return (
    <>
      <Crumb href="/admin/abuse">Abuse</Crumb>
      <PageHead
        title={finding.data ? RULES[finding.data.rule] : 'Finding'}
        lead={finding.data && <Status of={finding.data.state} />}
      />
      <Show of={finding} lines={8}>
        {(data) => (
          <>
            <Card title="What was seen">
              <Facts
                rows={[
                  ['Id', <FullId id={data.id} />],
                  [
                    'Buyer',
                    data.buyer_id === null ? (
                      'of many buyers'
                    ) : (
                      <a href={`/admin/buyers/${data.buyer_id}`}>{data.buyer_account}</a>
                    ),
                  ],
                  ['Host', data.host ?? '–'],
                  [
                    'Measured',
                    `${data.measured.toLocaleString('en')}, at most ${data.measured_max.toLocaleString('en')}; the rule begins at ` +
                      data.threshold.toLocaleString('en'),
                  ],
                  ['Opened', <Time at={data.opened_at} full />],
                  ['Last seen', <Time at={data.seen_at} full />],
                  ['Done by itself', data.automatic ?? 'nothing'],
                ]}
              />
              <Json label="Evidence" value={data.evidence} />
              <p class="row">
                {data.buyer_id !== null && (
                  <a href={`/admin/destinations?buyer_id=${data.buyer_id}`}>Destinations of the buyer</a>
                )}
                {data.host !== null && (
                  <a href={`/admin/destinations?host=${encodeURIComponent(data.host)}`}>
                    Who reached the host
                  </a>
                )}
                <a href={`/admin/reports?finding_id=${data.id}`}>Reports about it</a>
              </p>
            </Card>
            {data.state === 'open' ? (
              <Decide finding={data} onDone={finding.set} />
            ) : (
              <Card title="Decided">
                <Facts
                  rows={[
                    ['By', <UserId id={data.decided_by} />],
                    ['When', <Time at={data.decided_at} full />],
                    ['Reason', data.reason ?? '–'],
                    ['The buyer was told', data.message ?? 'nothing'],
                  ]}
                />
              </Card>
            )}
          </>
        )}
      </Show>
    </>
  );
}

function Decide({ finding, onDone }: { finding: Finding; onDone: (finding: Finding) => void }) {
  const [decision, setDecision] = useState<Decision>('keep_open');
  const [reason, setReason] = useState('');
  const [message, setMessage] = useState('');
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/abuse/findings/{id}/decide', {
          params: { path: { id: finding.id } },
          body: {
            decision,
            reason: reason.trim(),
            ...(decision === 'warn' && { message: message.trim() }),
          },
        }),
      ),
    { quiet: true, done: ({ state }) => (state === 'open' ? 'Noted.' : 'Decided.') },
  );
  const options = finding.buyer_id === null ? DECISIONS.slice(0, 2) : DECISIONS;
  return (
    <Card title="Decide">
      <Form
        submit={decision === 'suspend' ? 'Suspend now' : 'Write it down'}
        busy={act.busy}
        error={act.error}
        disabled={reason.trim() === '' || (decision === 'warn' && message.trim() === '')}
        onSubmit={() => void act.run().then((after) => after && onDone(after))}
      >
        <SelectField
          label="What becomes of it"
          name="decision"
          error={act.error}
          value={decision}
          onValue={(value) => setDecision(value as Decision)}
          options={options}
        />
        <TextField
          label="Reason"
          name="reason"
          error={act.error}
          maxLength={1_000}
          hint="Goes to the audit log."
          value={reason}
          onValue={setReason}
        />
        {decision === 'warn' && (
          <TextArea
            label="To the buyer"
            name="message"
            error={act.error}
            value={message}
            onValue={setMessage}
          />
        )}
      </Form>
    </Card>
  );
}
