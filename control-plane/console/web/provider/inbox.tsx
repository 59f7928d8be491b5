import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button } from '../parts/buttons.js';
import { Time } from '../parts/figures.js';
import { CheckField } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Table } from '../parts/table.js';

/** Messages of the system to this person. */
export default function Inbox() {
  const [unreadOnly, setUnreadOnly] = useState(false);
  const [revision, setRevision] = useState(0);
  const mark = useAct((api, body: { all: true } | { ids: string[] }) =>
    ask(api.POST('/api/notifications/read', { body })),
  );
  const markRead = (body: { all: true } | { ids: string[] }) =>
    void mark.run(body).then(() => setRevision((n) => n + 1));
  return (
    <>
      <PageHead title="Inbox">
        <Button busy={mark.busy} onClick={() => markRead({ all: true })}>
          Mark all as read
        </Button>
      </PageHead>
      <Card>
        <Table
          caption="My messages"
          load={(api, { limit, cursor }, signal) =>
            ask(
              api.GET('/api/notifications', {
                params: { query: { limit, ...(cursor && { cursor }), ...(unreadOnly && { unread: true }) } },
                signal,
              }),
            )
          }
          columns={[
            {
              key: 'what',
              title: 'Message',
              cell: (row) => (
                <div class="device-row">
                  <span class={row.read_at === null ? 'unread' : undefined}>
                    {row.title} {row.read_at === null && <Badge tone="info">new</Badge>}
                  </span>
                  <span>{row.body}</span>
                </div>
              ),
            },
            { key: 'at', title: 'When', cell: (row) => <Time at={row.created_at} /> },
            {
              key: 'act',
              title: 'Read',
              cell: (row) =>
                row.read_at !== null ? (
                  <Time at={row.read_at} />
                ) : (
                  <Button label={`Mark read: ${row.title}`} onClick={() => markRead({ ids: [row.id] })}>
                    Mark read
                  </Button>
                ),
            },
          ]}
          rowKey={({ id }) => id}
          filters={String(unreadOnly)}
          revision={revision}
          empty="No message here"
        >
          <CheckField label="Unread only" checked={unreadOnly} onValue={setUnreadOnly} />
        </Table>
      </Card>
    </>
  );
}
