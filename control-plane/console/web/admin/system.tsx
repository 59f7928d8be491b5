import { useEffect } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { countText, durationText } from '../parts/amounts.js';
import { Bytes } from '../parts/figures.js';
import { Badge, Card, Facts, PageHead, Progress, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { type Column, ListTable } from './list-table.js';

/** How often figures are read while the page is shown, ms. */
const LOOK_MS = 5_000;

interface Requests {
  name: string;
  requests: number;
  refused: number;
  failed: number;
  mean_ms: number;
}

const REQUESTS: readonly Column<Requests>[] = [
  { title: 'In the last', cell: (row) => row.name },
  { title: 'Requests', number: true, cell: (row) => countText(row.requests) },
  { title: 'Refused', number: true, cell: (row) => countText(row.refused) },
  { title: 'Failed', number: true, cell: (row) => countText(row.failed) },
  { title: 'Mean', number: true, cell: (row) => `${row.mean_ms.toFixed(1)} ms` },
];

/** The control plane that answers: its machine, requests, what it depends on. */
export default function System() {
  const loaded = useLoad(async (api, signal) => {
    const [metrics, ready, version] = await Promise.all([
      ask(api.GET('/api/admin/metrics', { signal })),
      ask(api.GET('/api/system/ready', { signal })),
      ask(api.GET('/api/system/version', { signal })),
    ]);
    return { metrics, ready, version };
  });
  useEffect(() => {
    const timer = setInterval(loaded.reload, LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      <PageHead title="System" lead="The control plane that answered. Read every five seconds." />
      <Show of={loaded} lines={10}>
        {({ metrics: { host, requests, counters }, ready, version }) => {
          const used = host.memory.total_bytes - host.memory.free_bytes;
          return (
            <>
              <Stats>
                <Stat
                  label="Load"
                  note={`${host.cpu.cores} cores, ${host.cpu.load_15.toFixed(2)} in 15 minutes`}
                >
                  {host.cpu.load_1.toFixed(2)}
                </Stat>
                <Stat label="CPU of this process">{host.cpu.process_percent.toFixed(0)} %</Stat>
                <Stat
                  label="Memory of this process"
                  note={
                    <>
                      <Bytes bytes={host.memory.heap_bytes} /> heap
                    </>
                  }
                >
                  <Bytes bytes={host.memory.process_bytes} />
                </Stat>
                <Stat label="Up for" note={`the machine ${durationText(host.uptime_seconds * 1_000)}`}>
                  {durationText(host.process_uptime_seconds * 1_000)}
                </Stat>
              </Stats>
              <div class="columns">
                <Card title="Depends on" actions={<Health of={ready.status} />}>
                  <Facts
                    rows={[
                      ...Object.entries(ready.dependencies).map(
                        ([name, state]) => [name, <Health key={name} of={state} />] as const,
                      ),
                      ['API', version.api_version],
                      ['Latest app', version.app_latest],
                      ['Oldest app', version.min_client_version],
                    ]}
                  />
                </Card>
                <Card title="Machine">
                  <Share name="Memory" used={used} total={host.memory.total_bytes} />
                  {host.disk !== null && (
                    <Share
                      name="Disk"
                      used={host.disk.total_bytes - host.disk.free_bytes}
                      total={host.disk.total_bytes}
                    />
                  )}
                  {host.network !== null && (
                    <Facts
                      rows={[
                        ['Received', <Bytes bytes={host.network.received_bytes} />],
                        ['Sent', <Bytes bytes={host.network.sent_bytes} />],
                      ]}
                    />
                  )}
                </Card>
              </div>
              <Card title="Requests">
                <ListTable
                  caption="Requests answered"
                  columns={REQUESTS}
                  rows={[
                    { name: 'minute', ...requests.last_1_minute },
                    { name: '5 minutes', ...requests.last_5_minutes },
                    { name: '15 minutes', ...requests.last_15_minutes },
                  ]}
                  rowKey={(row) => row.name}
                />
              </Card>
              <Card title="Counters" lead="Of this process, since it started.">
                <ListTable
                  caption="Counters"
                  columns={[
                    { title: 'Counter', cell: (row: [string, number]) => <code>{row[0]}</code> },
                    { title: 'Value', number: true, cell: (row) => countText(row[1]) },
                  ]}
                  rows={Object.entries(counters).sort(([a], [b]) => a.localeCompare(b))}
                  rowKey={([name]) => name}
                />
              </Card>
            </>
          );
        }}
      </Show>
    </>
  );
}

function Health({ of }: { of: string }) {
  const good = ['up', 'current', 'ready'].includes(of);
  return <Badge tone={good ? 'good' : of === 'degraded' ? 'warn' : 'bad'}>{of.replace('_', ' ')}</Badge>;
}

function Share({ name, used, total }: { name: string; used: number; total: number }) {
  return (
    <div>
      <p>
        {name}: <Bytes bytes={used} /> of <Bytes bytes={total} />
      </p>
      <Progress
        label={`${Math.round((used / Math.max(1, total)) * 100)} % of ${name.toLowerCase()}`}
        value={used}
        max={total}
      />
    </div>
  );
}
