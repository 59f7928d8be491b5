import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { durationText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Table } from '../parts/table.js';
import { Status } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

type Job = ItemOf<'/api/admin/jobs'>;

/** How often the list is read while a job runs or was just asked for, ms. */
const LOOK_MS = 1_000;
/** How long it is looked at after one was asked for, ms. */
const LOOK_FOR_MS = 15_000;

/** Work in the background: when it ran, when it will, running it now. */
export default function Jobs() {
  const jobs = useLoad((api, signal) =>
    ask(api.GET('/api/admin/jobs', { params: { query: { limit: 200 } }, signal })),
  );
  const [opened, setOpened] = useState<Job>();
  const [watchUntilMs, setWatchUntilMs] = useState(0);
  const act = useAct(
    (api, name: string) =>
      ask(
        api.POST('/api/admin/jobs/{name}/run', {
          params: { path: { name } },
        }),
      ),
    { done: 'It is asked to run.' },
  );
  const running = jobs.data?.items.some((job) => job.running) ?? false;
  useEffect(() => {
    if (!running && watchUntilMs === 0) return;
    const timer = setInterval(() => {
      if (Date.now() > watchUntilMs) setWatchUntilMs(0);
      jobs.reload();
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, [running, watchUntilMs]);
  const run = async (name: string) => {
    if ((await act.run(name)) === undefined) return;
    setWatchUntilMs(Date.now() + LOOK_FOR_MS);
  };
  return (
    <>
      <PageHead title="Jobs" lead="Work in the background, on any control plane." />
      <Card>
        <Show of={jobs} lines={8}>
          {({ items }) => (
            <ul class="rows">
              {items.map((job) => (
                <li key={job.name}>
                  <div>
                    <p>
                      <strong>{job.name.replaceAll('_', ' ')}</strong>{' '}
                      {job.running ? (
                        <Badge tone="info">running</Badge>
                      ) : (
                        job.last_run !== null && <Status of={job.last_run.result} />
                      )}
                    </p>
                    <p class="quiet small">{job.description}</p>
                    <p class="quiet small">
                      {job.last_run === null ? (
                        'never ran'
                      ) : (
                        <>
                          ran <Time at={job.last_run.started_at} />
                          {job.last_run.duration_ms !== null && ` in ${msText(job.last_run.duration_ms)}`}
                        </>
                      )}
                      {job.next_run_at !== null && (
                        <>
                          , next <Time at={job.next_run_at} />
                        </>
                      )}
                    </p>
                    {job.last_run?.error != null && <p class="bad small">{job.last_run.error}</p>}
                  </div>
                  <div class="row">
                    <Button label={`Runs of ${job.name}`} onClick={() => setOpened(job)}>
                      Runs
                    </Button>
                    <Button
                      label={`Run now: ${job.name}`}
                      disabled={job.running || act.busy}
                      onClick={() => void run(job.name)}
                    >
                      Run now
                    </Button>
                  </div>
                </li>
              ))}
            </ul>
          )}
        </Show>
      </Card>
      {opened !== undefined && (
        <Dialog title={`Runs of ${opened.name}`} onClose={() => setOpened(undefined)}>
          <Runs name={opened.name} />
        </Dialog>
      )}
    </>
  );
}

function msText(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : durationText(ms);
}

function Runs({ name }: { name: string }) {
  return (
    <Table
      load={(api, query, signal) =>
        ask(
          api.GET('/api/admin/jobs/{name}/runs', {
            params: { path: { name }, query: queryOf<'/api/admin/jobs/{name}/runs'>(query) },
            signal,
          }),
        )
      }
      caption={`Runs of ${name}`}
      columns={[
        { key: 'at', title: 'Started', cell: (row) => <Time at={row.started_at} /> },
        {
          key: 'took',
          title: 'Took',
          number: true,
          cell: (row) => (row.duration_ms === null ? '–' : msText(row.duration_ms)),
        },
        {
          key: 'result',
          title: 'Result',
          cell: (row) => (
            <>
              <Status of={row.result} /> {row.error}
            </>
          ),
        },
      ]}
      rowKey={(row) => `${row.started_at}${row.attempt}`}
      pageSize={10}
      empty="It never ran"
    />
  );
}
