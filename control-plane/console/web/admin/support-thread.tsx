import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Time } from '../parts/figures.js';
import { CheckField, Form, TextArea } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import type { PageProps } from '../shell/room.js';
import { Crumb, Status, UserId } from './admin-parts.js';

/** One thread, and answering it. */
export default function SupportThread({ params }: PageProps) {
  const id = params.id ?? '';
  const thread = useLoad(
    (api, signal) => ask(api.GET('/api/admin/support/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  const [message, setMessage] = useState('');
  const [close, setClose] = useState(false);
  const reply = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/support/{id}/reply', {
          params: { path: { id } },
          body: { message: message.trim(), ...(close && { close }) },
        }),
      ),
    { quiet: true, done: 'Answered.' },
  );
  const submit = async () => {
    const after = await reply.run();
    if (after === undefined) return;
    thread.set(after);
    setMessage('');
  };
  return (
    <>
      <Crumb href="/admin/support">Support</Crumb>
      <PageHead
        title={thread.data?.subject ?? 'Support thread'}
        lead={
          thread.data && (
            <>
              <Status of={thread.data.status} /> by <UserId id={thread.data.user_id} />
            </>
          )
        }
      />
      <Card>
        <Show of={thread}>
          {(data) => (
            <>
              <ul class="stack">
                {data.items.map((one) => (
                  <li key={one.id} class={`said ${one.author === 'admin' ? 'said-admin' : ''}`}>
                    <p class="quiet small">
                      {one.author === 'admin' ? 'Support' : 'User'}, <Time at={one.created_at} />
                    </p>
                    {one.body}
                  </li>
                ))}
              </ul>
              <Form
                submit="Send"
                busy={reply.busy}
                error={reply.error}
                disabled={message.trim() === ''}
                onSubmit={() => void submit()}
              >
                <TextArea
                  label="Answer"
                  name="message"
                  error={reply.error}
                  value={message}
                  onValue={setMessage}
                />
                <CheckField label="And close the thread" checked={close} onValue={setClose} />
              </Form>
            </>
          )}
        </Show>
      </Card>
    </>
  );
}
