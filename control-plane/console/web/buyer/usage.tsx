import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { bytesSum, bytesText } from '../parts/amounts.js';
import { Chart } from '../parts/chart.js';
import { Bytes, Money, Rate } from '../parts/figures.js';
import { SelectField, TextField } from '../parts/form.js';
import { Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { LiveSpeed } from './live-speed.js';
import { UsageGroups } from './usage-groups.js';
import { useFresh } from './use-fresh.js';

const DAY_MS = 86_400_000;
const dayText = (atMs: number) => new Date(atMs).toISOString().slice(0, 10);

const RANGES = [
  ['1', 'Today'],
  ['7', 'Last 7 days'],
  ['30', 'Last 30 days'],
  ['90', 'Last 90 days'],
  ['own', 'From … to …'],
] as const;

/** What went through the proxy, for how much, by what; it follows the traffic. */
export default function Usage() {
  const [range, setRange] = useState('30');
  const today = dayText(Date.now());
  const [own, setOwn] = useState({ from: dayText(Date.now() - 29 * DAY_MS), to: today });
  const days =
    range === 'own' ? own : { from: dayText(Date.parse(today) - (Number(range) - 1) * DAY_MS), to: today };
  const live = useLive('buyer').state.value;
  const revision = useFresh(
    live === null ? undefined : bytesSum(live.today.bytes_up, live.today.bytes_down).toString(),
  );
  const usage = useLoad(
    (api, signal) =>
      ask(api.GET('/api/buyer/me/usage', { params: { query: { ...days, limit: 1 } }, signal })),
    [days.from, days.to, revision],
  );
  return (
    <>
      <PageHead title="Usage" lead="Days are UTC. Bytes up and down are counted and charged together." />
      <div class="fields filters">
        <SelectField label="Days" value={range} onValue={setRange} options={RANGES} />
        {range === 'own' && (
          <>
            <TextField
              label="First day"
              type="date"
              value={own.from}
              max={own.to}
              onValue={(from) => from !== '' && setOwn({ ...own, from })}
            />
            <TextField
              label="Last day"
              type="date"
              value={own.to}
              min={own.from}
              max={today}
              onValue={(to) => to !== '' && setOwn({ ...own, to })}
            />
          </>
        )}
      </div>
      <Show of={usage} lines={6}>
        {(data) => (
          <>
            <Stats>
              <Stat label="Traffic">
                <Bytes bytes={data.total.bytes} />
              </Stat>
              <Stat label="Charged">
                <Money amount={data.total.charged} />
              </Stat>
              <Stat label="Up / down">
                <Bytes bytes={data.total.bytes_up} /> / <Bytes bytes={data.total.bytes_down} />
              </Stat>
              <Stat label="Speed now" note={<>in all: {bytesText(data.lifetime.bytes)}</>}>
                <Rate bytesPerSecond={live?.bytes_per_second ?? 0} />
              </Stat>
            </Stats>
            <Card title="By day">
              <DayChart from={data.from} to={data.to} byDay={data.by_day} />
            </Card>
          </>
        )}
      </Show>
      <Card title="Speed" lead="As booked each second, since this page was opened.">
        <LiveSpeed />
      </Card>
      <Card title="By what" lead="By session, tag, sub-user and destination some seconds behind.">
        <UsageGroups days={days} revision={revision} usage={usage.data} />
      </Card>
    </>
  );
}

interface Day {
  day: string;
  bytes_up: number | string;
  bytes_down: number | string;
  charged: string;
}

/** More bars than a screen has room for say nothing. */
const DAYS_MAX = 400;

function DayChart({ from, to, byDay }: { from: string; to: string; byDay: readonly Day[] }) {
  const known = new Map(byDay.map((one) => [one.day, one]));
  const end = Date.parse(to);
  const begin = Math.max(Date.parse(from), end - (DAYS_MAX - 1) * DAY_MS);
  const atMs: number[] = [];
  for (let at = begin; at <= end; at += DAY_MS) atMs.push(at);
  const of = (at: number) => known.get(dayText(at));
  return (
    <Chart
      title="Traffic by day"
      kind="bars"
      days
      atMs={atMs}
      series={[
        {
          label: 'Traffic',
          values: atMs.map((at) => Number(bytesSum(of(at)?.bytes_up ?? 0, of(at)?.bytes_down ?? 0))),
          text: bytesText,
        },
      ]}
    />
  );
}
