import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Time } from '../parts/figures.js';
import { Form, TextArea, TextField } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Table } from '../parts/table.js';

export const THREAD_TONE = { open: 'warn', answered: 'good', closed: 'plain' } as const;

/** Requests to support, and writing a new one. */
export default function Support() {
  return (
    <>
      <PageHead title="Support" lead="People answer here; you are told in your inbox and by the bot." />
      <div class="columns">
        <NewThread />
        <Card title="Your requests">
          <Table
            caption="My support requests"
            load={(api, { limit, cursor }, signal) =>
              ask(
                api.GET('/api/support', { params: { query: { limit, ...(cursor && { cursor }) } }, signal }),
              )
            }
            columns={[
              {
                key: 'subject',
                title: 'Subject',
                cell: (row) => (
                  <div class="device-row">
                    <a href={`/provider/support/${row.id}`}>{row.subject}</a>
                    <span class="quiet small">{row.last_message}</span>
                  </div>
                ),
              },
              {
                key: 'status',
                title: 'Status',
                cell: (row) => <Badge tone={THREAD_TONE[row.status]}>{row.status}</Badge>,
              },
              { key: 'at', title: 'Last', cell: (row) => <Time at={row.updated_at} /> },
            ]}
            rowKey={({ id }) => id}
            empty="You have not written yet"
          />
        </Card>
      </div>
    </>
  );
}

function NewThread() {
  const { route } = useLocation();
  const [subject, setSubject] = useState('');
  const [message, setMessage] = useState('');
  const send = useAct(
    (api) =>
      ask(
        api.POST('/api/support', {
          body: { message: message.trim(), ...(subject.trim() !== '' && { subject: subject.trim() }) },
        }),
      ),
    { done: 'Sent.', quiet: true },
  );
  const submit = async () => {
    const thread = await send.run();
    if (thread !== undefined) route(`/provider/support/${thread.id}`);
  };
  return (
    <Card title="New request">
      <Form
        onSubmit={() => void submit()}
        submit="Send"
        busy={send.busy}
        error={send.error}
        disabled={message.trim() === ''}
      >
        <TextField
          label="Subject"
          name="subject"
          error={send.error}
          maxLength={120}
          value={subject}
          onValue={setSubject}
        />
        <TextArea
          label="What is it about?"
          name="message"
          error={send.error}
          maxLength={4_000}
          value={message}
          onValue={setMessage}
        />
      </Form>
    </Card>
  );
}
