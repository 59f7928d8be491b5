import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { bytesText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Bytes, Time } from '../parts/figures.js';
import { Card, PageHead, Progress } from '../parts/layout.js';
import { type Column, Table } from '../parts/table.js';
import { Id, Status, UserId } from './admin-parts.js';
import { type ItemOf, queryOf } from './api-types.js';

const PATH = '/api/admin/backup/db';
type Backup = ItemOf<typeof PATH>;

/** How often the list is read while a backup is being made, ms. */
const LOOK_MS = 1_000;

const COLUMNS: readonly Column<Backup>[] = [
  { key: 'at', title: 'Asked', cell: (row) => <Time at={row.created_at} />, csv: (row) => row.created_at },
  {
    key: 'state',
    title: 'State',
    cell: (row) =>
      row.state === 'running' ? (
        <Progress label={`${bytesText(row.bytes_so_far ?? 0)} written`} value={null} max={1} />
      ) : (
        <>
          <Status of={row.state} />
          {row.error_code !== null && (
            <p class="bad small">
              {row.error_code.replaceAll('_', ' ')} {row.detail}
            </p>
          )}
        </>
      ),
    csv: (row) => row.state,
  },
  {
    key: 'by',
    title: 'By',
    cell: (row) => (row.requested_by === null ? 'schedule' : <UserId id={row.requested_by} />),
  },
  { key: 'storage', title: 'Kept in', cell: (row) => row.storage, csv: (row) => row.storage },
  { key: 'file', title: 'File', cell: (row) => row.file ?? '–', csv: (row) => row.file },
  {
    key: 'size',
    title: 'Size',
    number: true,
    cell: (row) => (row.size_bytes === null ? '–' : <Bytes bytes={row.size_bytes} />),
    csv: (row) => row.size_bytes,
  },
  { key: 'sum', title: 'SHA-256', cell: (row) => <Id id={row.sha256} />, csv: (row) => row.sha256 },
];

/** Backups of the database. Restoring is done at the command line (deploy/backups.md). */
export default function Backups() {
  const [turn, setTurn] = useState(0);
  const [busy, setBusy] = useState(false);
  const start = useAct((api) => ask(api.POST(PATH)), { done: 'A backup is asked for.' });
  useEffect(() => {
    if (!busy) return;
    const timer = setInterval(() => setTurn((n) => n + 1), LOOK_MS);
    return () => clearInterval(timer);
  }, [busy]);
  return (
    <>
      <PageHead title="Backups" lead="Of the database. Restoring is done at the command line.">
        <Button
          kind="main"
          busy={start.busy}
          onClick={() => void start.run().then((asked) => asked && setBusy(true))}
        >
          Back up now
        </Button>
      </PageHead>
      <Card>
        <Table
          load={async (api, query, signal) => {
            const page = await ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>(query) }, signal }));
            setBusy(page.items.some(({ state }) => state === 'queued' || state === 'running'));
            return page;
          }}
          caption="Backups"
          columns={COLUMNS}
          rowKey={(row) => row.id}
          revision={turn}
          empty="No backup yet"
          exportName="backups"
        />
      </Card>
    </>
  );
}
