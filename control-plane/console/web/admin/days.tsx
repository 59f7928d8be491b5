import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { bytesSum, bytesText, countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Chart } from '../parts/chart.js';
import { saveFile } from '../parts/csv.js';
import { Bytes, Time } from '../parts/figures.js';
import { SelectField, TextField } from '../parts/form.js';
import { Card } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Tabs } from '../parts/tabs.js';
import { BarList, countryText } from './admin-parts.js';
import type { AnswerOf } from './api-types.js';

/** A count for an axis, whose marks between two are left blank. */
export function wholeText(value: number): string {
  return Number.isInteger(value) ? countText(value) : '';
}

const dollars = (value: number) => `$${value.toFixed(2)}`;

/** The network day by day, where traffic left, and a day's report as a file. */
export function Days() {
  const [days, setDays] = useState('30');
  const stats = useLoad(
    (api, signal) => ask(api.GET('/api/admin/stats', { params: { query: { days: Number(days) } }, signal })),
    [days],
  );
  return (
    <Card
      title="Days"
      lead={
        <>
          By UTC day. Worked out <Time at={stats.data?.as_of} />.
        </>
      }
      actions={
        <SelectField
          label="Period"
          value={days}
          onValue={setDays}
          options={[
            ['7', '7 days'],
            ['30', '30 days'],
            ['90', '90 days'],
            ['365', 'A year'],
          ]}
        />
      }
    >
      <Show of={stats}>{(data) => <DayCharts days={data.days} period={Number(days)} />}</Show>
      <Report />
    </Card>
  );
}

type Day = AnswerOf<'/api/admin/stats'>['days'][number];

function DayCharts({ days, period }: { days: readonly Day[]; period: number }) {
  const rows = [...days].sort((a, b) => a.day.localeCompare(b.day));
  const atMs = rows.map(({ day }) => Date.parse(day));
  const chart = (
    key: string,
    label: string,
    text: (value: number) => string,
    series: Record<string, (day: Day) => number>,
  ) => ({
    key,
    label,
    content: () => (
      <Chart
        title={`${label} by day`}
        days
        kind={Object.keys(series).length === 1 ? 'bars' : 'line'}
        atMs={atMs}
        series={Object.entries(series).map(([name, value]) => ({
          label: name,
          values: rows.map(value),
          text,
        }))}
      />
    ),
  });
  return (
    <Tabs
      label="Figures by day"
      tabs={[
        chart('traffic', 'Traffic', bytesText, { Traffic: (d) => Number(d.bytes_up) + Number(d.bytes_down) }),
        chart('money', 'Money', dollars, {
          Charged: (d) => Number(d.charged),
          Earned: (d) => Number(d.earned),
          Revenue: (d) => Number(d.revenue),
        }),
        chart('payouts', 'Payouts', dollars, { 'Paid out': (d) => Number(d.paid_out) }),
        chart('topups', 'Top-ups', dollars, { 'Topped up': (d) => Number(d.top_ups) }),
        chart('people', 'People', wholeText, {
          'New users': (d) => d.new_users,
          'Active providers': (d) => d.active_providers,
          'Active buyers': (d) => d.active_buyers,
        }),
        chart('sessions', 'Sessions', wholeText, { Completed: (d) => d.sessions_completed }),
        { key: 'countries', label: 'Countries', content: () => <Countries days={period} /> },
      ]}
    />
  );
}

function Countries({ days }: { days: number }) {
  const chart = useLoad(
    (api, signal) =>
      ask(api.GET('/api/admin/charts/countries-daily', { params: { query: { days } }, signal })),
    [days],
  );
  return (
    <Show of={chart}>
      {({ series }) => {
        const sums = new Map<string, bigint>();
        for (const { country, bytes_up, bytes_down } of series)
          sums.set(country, (sums.get(country) ?? 0n) + bytesSum(bytes_up, bytes_down));
        return (
          <BarList
            empty="No traffic in this time"
            rows={[...sums].map(([country, bytes]) => ({
              label: countryText(country),
              value: Number(bytes),
              text: <Bytes bytes={bytes} />,
            }))}
          />
        );
      }}
    </Show>
  );
}

function Report() {
  const [day, setDay] = useState(() => new Date().toISOString().slice(0, 10));
  const act = useAct((api) =>
    ask(
      api.GET('/api/admin/reports/daily', {
        params: { query: { day, format: 'csv' } },
        parseAs: 'blob',
      }),
    ),
  );
  const save = async () => {
    const file = await act.run();
    if (file !== undefined) saveFile(`report-${day}.csv`, 'text/csv', [file]);
  };
  return (
    <div class="table-filters">
      <TextField label="Report on a UTC day" type="date" value={day} onValue={setDay} />
      <Button busy={act.busy} disabled={day === ''} onClick={() => void save()}>
        Save as CSV
      </Button>
    </div>
  );
}
