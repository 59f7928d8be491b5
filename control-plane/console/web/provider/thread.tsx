import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Time } from '../parts/figures.js';
import { Form, TextArea } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import type { PageProps } from '../shell/room.js';
import { THREAD_TONE } from './support.js';

/** One support request: what was said, and answering. */
export default function Thread({ params }: PageProps) {
  const id = params.id ?? '';
  const thread = useLoad(
    (api, signal) => ask(api.GET('/api/support/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  const [message, setMessage] = useState('');
  const send = useAct(
    (api) => ask(api.POST('/api/support', { body: { thread_id: id, message: message.trim() } })),
    { quiet: true },
  );
  const submit = async () => {
    const answered = await send.run();
    if (answered === undefined) return;
    setMessage('');
    thread.set(answered);
  };
  return (
    <>
      <PageHead
        title={thread.data?.subject ?? 'Support request'}
        lead={<a href="/provider/support">All requests</a>}
      >
        {thread.data !== undefined && (
          <Badge tone={THREAD_TONE[thread.data.status]}>{thread.data.status}</Badge>
        )}
      </PageHead>
      <Card>
        <Show of={thread}>
          {({ items, status }) => (
            <>
              <ul class="thread" aria-live="polite">
                {items.map((item) => (
                  <li key={item.id} class={`message ${item.author === 'user' ? 'message-mine' : ''}`}>
                    <p class="quiet small">
                      {item.author === 'user' ? 'You' : 'Support'} · <Time at={item.created_at} />
                    </p>
                    {item.body}
                  </li>
                ))}
              </ul>
              {status === 'closed' ? (
                <p class="quiet">This request is closed. Write a new one if there is more.</p>
              ) : (
                <Form
                  onSubmit={() => void submit()}
                  submit="Send"
                  busy={send.busy}
                  error={send.error}
                  disabled={message.trim() === ''}
                >
                  <TextArea
                    label="Your answer"
                    name="message"
                    error={send.error}
                    maxLength={4_000}
                    rows={3}
                    value={message}
                    onValue={setMessage}
                  />
                </Form>
              )}
            </>
          )}
        </Show>
      </Card>
    </>
  );
}
