import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { TextField } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Table } from '../parts/table.js';
import { Tabs } from '../parts/tabs.js';

/** What went through the provider: by destination, by session. */
export default function Traffic() {
  return (
    <>
      <PageHead
        title="What went through me"
        lead="Hosts, bytes and pay. Never content: nobody here sees that."
      />
      <Card>
        <Tabs
          label="Traffic"
          tabs={[
            { key: 'hosts', label: 'By destination', content: () => <Destinations /> },
            { key: 'sessions', label: 'By session', content: () => <Sessions /> },
          ]}
        />
      </Card>
    </>
  );
}

/** Since a day of the person's own calendar, as the API wants it. */
const since = (day: string) => (day === '' ? {} : { from: new Date(`${day}T00:00:00`).toISOString() });

function Destinations() {
  const [host, setHost] = useState('');
  const [from, setFrom] = useState('');
  return (
    <Table
      caption="Destinations reached through my devices"
      load={(api, { limit, cursor }, signal) =>
        ask(
          api.GET('/api/traffic/destinations', {
            params: {
              query: {
                limit,
                ...(cursor && { cursor }),
                ...(host.trim() && { host: host.trim() }),
                ...since(from),
              },
            },
            signal,
          }),
        )
      }
      columns={[
        { key: 'day', title: 'Day (UTC)', cell: ({ day }) => day, csv: ({ day }) => day },
        {
          key: 'host',
          title: 'Destination',
          cell: ({ host, port }) => (
            <span>
              {host}
              <span class="quiet">:{port}</span>
            </span>
          ),
          csv: ({ host, port }) => `${host}:${port}`,
        },
        {
          key: 'up',
          title: 'Sent',
          number: true,
          cell: (row) => <Bytes bytes={row.bytes_up} />,
          csv: (row) => row.bytes_up,
        },
        {
          key: 'down',
          title: 'Received',
          number: true,
          cell: (row) => <Bytes bytes={row.bytes_down} />,
          csv: (row) => row.bytes_down,
        },
        {
          key: 'streams',
          title: 'Connections',
          number: true,
          cell: (row) => row.streams,
          csv: (row) => row.streams,
        },
        { key: 'last', title: 'Last', cell: (row) => <Time at={row.last_at} />, csv: (row) => row.last_at },
      ]}
      rowKey={({ day, host, port }) => `${day} ${host} ${port}`}
      filters={JSON.stringify([host.trim(), from])}
      empty="Nothing went through you here yet"
      exportName="destinations"
    >
      <TextField label="Host" type="search" value={host} onValue={setHost} placeholder="example.com" />
      <TextField label="Since" type="date" value={from} onValue={setFrom} />
    </Table>
  );
}

const TONE = { active: 'good', stopping: 'warn', completed: 'plain', failed: 'bad' } as const;

function Sessions() {
  const [from, setFrom] = useState('');
  return (
    <Table
      caption="My sessions"
      load={(api, { limit, cursor }, signal) =>
        ask(
          api.GET('/api/traffic/history', {
            params: { query: { limit, ...(cursor && { cursor }), ...since(from) } },
            signal,
          }),
        )
      }
      columns={[
        {
          key: 'started',
          title: 'Started',
          cell: (row) => (
            <a href={`/provider/traffic/${row.id}`}>
              <Time at={row.started_at} full />
            </a>
          ),
          csv: (row) => row.started_at,
        },
        {
          key: 'status',
          title: 'Status',
          cell: (row) => <Badge tone={TONE[row.status]}>{row.status}</Badge>,
          csv: (row) => row.status,
        },
        {
          key: 'where',
          title: 'Address',
          cell: (row) => `${row.exit_ip} · ${row.country}`,
          csv: (row) => row.exit_ip,
        },
        {
          key: 'bytes',
          title: 'Traffic',
          number: true,
          cell: (row) => <Bytes bytes={row.bytes} />,
          csv: (row) => row.bytes,
        },
        {
          key: 'earned',
          title: 'Pay',
          number: true,
          cell: (row) => <Money amount={row.earned} />,
          csv: (row) => row.earned,
        },
      ]}
      rowKey={({ id }) => id}
      filters={from}
      empty="No session yet"
      exportName="sessions"
    >
      <TextField label="Since" type="date" value={from} onValue={setFrom} />
    </Table>
  );
}
