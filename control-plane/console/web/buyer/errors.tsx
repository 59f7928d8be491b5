import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { countText } from '../parts/amounts.js';
import { Chart } from '../parts/chart.js';
import { Time } from '../parts/figures.js';
import { SelectField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Scroll } from '../parts/scroll.js';
import { Empty, Show } from '../parts/states.js';
import { type Column, Table } from '../parts/table.js';
import { adviceFor, PROXY_ADVICE } from './proxy-errors.js';

const HOUR_MS = 3_600_000;
/** How often it is looked again, ms. */
const LOOK_MS = 5_000;

interface Row {
  code: string;
  count: number;
  last_at: string;
  last_detail: string | null;
}

const COLUMNS: Column<Row>[] = [
  { key: 'code', title: 'Code', cell: ({ code }) => <code>{code}</code>, csv: ({ code }) => code },
  {
    key: 'count',
    title: 'Times',
    number: true,
    cell: ({ count }) => countText(count),
    csv: ({ count }) => count,
  },
  { key: 'last', title: 'Last', cell: ({ last_at }) => <Time at={last_at} />, csv: ({ last_at }) => last_at },
  {
    key: 'detail',
    title: 'Detail',
    cell: ({ last_detail }) => last_detail ?? '–',
    csv: ({ last_detail }) => last_detail,
  },
  { key: 'means', title: 'Meaning', cell: ({ code }) => adviceFor(code).means },
  { key: 'todo', title: 'What to do', cell: ({ code }) => adviceFor(code).todo },
];

/** What the proxy refused connections with, and what to do about it. */
export default function Errors() {
  const [hours, setHours] = useState('24');
  const refusals = useLoad(
    (api, signal) =>
      ask(api.GET('/api/buyer/me/errors', { params: { query: { hours: Number(hours) } }, signal })),
    [hours],
  );
  useEffect(() => {
    const timer = setInterval(refusals.reload, LOOK_MS);
    return () => clearInterval(timer);
  }, [refusals.reload]);
  return (
    <>
      <PageHead
        title="Errors"
        lead="Connections that the proxy refused, of you and all sub-users. None of them is billed."
      />
      <div class="fields filters">
        <SelectField
          label="Time"
          value={hours}
          onValue={setHours}
          options={[
            ['1', 'This hour'],
            ['24', 'Last 24 hours'],
            ['168', 'Last 7 days'],
          ]}
        />
      </div>
      <Show of={refusals} lines={5}>
        {(data) =>
          data.total === 0 ? (
            <Card>
              <Empty title="No connection was refused">
                When one is, its code is counted here within seconds, with what to do about it.
              </Empty>
            </Card>
          ) : (
            <>
              <Card title="What to do" lead={`${countText(data.total)} refused`}>
                <Table
                  caption="Errors by code"
                  columns={COLUMNS}
                  rowKey={({ code }) => code}
                  load={async () => ({ items: data.by_code, next_cursor: null })}
                  filters={JSON.stringify(data.by_code)}
                  exportName="errors"
                  empty="None"
                />
              </Card>
              <Card title="By hour">
                <HourChart from={data.from} byHour={data.by_hour} />
              </Card>
            </>
          )
        }
      </Show>
      <Reference />
    </>
  );
}

function HourChart({ from, byHour }: { from: string; byHour: readonly { hour: string; count: number }[] }) {
  const known = new Map(byHour.map(({ hour, count }) => [Date.parse(hour), count]));
  const atMs: number[] = [];
  for (let at = Date.parse(from); at <= Date.now(); at += HOUR_MS) atMs.push(at);
  return (
    <Chart
      title="Refused connections by hour"
      kind="bars"
      atMs={atMs}
      series={[{ label: 'Refused', values: atMs.map((at) => known.get(at) ?? 0), text: String }]}
    />
  );
}

function Reference() {
  return (
    <Card
      title="All codes"
      lead="A client finds the code in the status line, in X-TS-Error and in Proxy-Status; over SOCKS5 in the reply."
    >
      <Scroll label="All codes">
        <table>
          <thead>
            <tr>
              <th scope="col">Code</th>
              <th scope="col">Meaning</th>
              <th scope="col">What to do</th>
            </tr>
          </thead>
          <tbody>
            {Object.entries(PROXY_ADVICE).map(([code, { means, todo }]) => (
              <tr key={code}>
                <td data-title="Code">
                  <code>{code}</code>
                </td>
                <td data-title="Meaning">{means}</td>
                <td data-title="What to do">{todo}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </Card>
  );
}
