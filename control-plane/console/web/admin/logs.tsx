import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { Button } from '../parts/buttons.js';
import { saveFile } from '../parts/csv.js';
import { Time } from '../parts/figures.js';
import { CheckField, SelectField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Empty, Show } from '../parts/states.js';
import { FilterField, SearchField, Status, useFilters } from './admin-parts.js';
import { queryOf } from './api-types.js';
import { Json } from './json.js';

const PATH = '/api/system/logs';
/** Fields of a line that are shown beside its name. */
const SHOWN_FIELDS = 4;
/** How often the log is read anew while it is followed, ms. */
const FOLLOW_MS = 3_000;

/** The control plane's recent log. */
export default function Logs() {
  const [filters, setFilter] = useFilters('level', 'q');
  const [following, setFollowing] = useState(false);
  const [lines, setLines] = useState('50');
  const logs = useLoad(
    (api, signal) =>
      ask(
        api.GET(PATH, {
          params: { query: queryOf<typeof PATH>({ ...filters, limit: Number(lines) }) },
          signal,
        }),
      ),
    [filters.level, filters.q, lines],
  );
  useEffect(() => {
    if (!following) return;
    const timer = setInterval(logs.reload, FOLLOW_MS);
    return () => clearInterval(timer);
  }, [following]);
  const save = () => {
    const parts = logs.data?.items.map((line) => `${JSON.stringify(line)}\n`) ?? [];
    saveFile('log.jsonl', 'application/x-ndjson', parts);
  };
  return (
    <>
      <PageHead title="Logs" lead="The last lines of this control plane that match.">
        <Button onClick={save} disabled={logs.data === undefined}>
          Save them
        </Button>
        <Button onClick={logs.reload} busy={logs.loading && !following}>
          Reload
        </Button>
      </PageHead>
      <Card>
        <div class="table-filters">
          <SearchField label="Contains" value={filters.q} onValue={setFilter('q')} />
          <FilterField
            label="Level at least"
            value={filters.level}
            onValue={setFilter('level')}
            values={['debug', 'warn', 'error']}
            all="info"
          />
          <SelectField
            label="Lines"
            value={lines}
            onValue={setLines}
            options={[
              ['50', '50'],
              ['200', '200'],
            ]}
          />
          <CheckField label="Follow" checked={following} onValue={setFollowing} />
        </div>
        <Show of={logs} lines={10}>
          {({ items }) =>
            items.length === 0 ? (
              <Empty title="No line matches" />
            ) : (
              <ul class="rows log">
                {items.map((line, n) => (
                  <li key={`${line.time}${n}`}>
                    <details>
                      <summary>
                        <Status of={line.level} /> <strong>{line.event}</strong>{' '}
                        <span class="quiet small">
                          <Time at={line.time} /> {inShort(line.fields)}
                        </span>
                      </summary>
                      <Json label={`Fields of ${line.event}`} value={line.fields} />
                    </details>
                  </li>
                ))}
              </ul>
            )
          }
        </Show>
      </Card>
    </>
  );
}

/** The first plain fields, for finding a line without opening each. */
function inShort(fields: Record<string, unknown>): string {
  return Object.entries(fields)
    .filter(([name, value]) => name !== 'request_id' && ['string', 'number'].includes(typeof value))
    .slice(0, SHOWN_FIELDS)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
}
