import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { type LiveStates, useLive } from '../live/live.js';
import { bytesSum, countText, microsOf, moneyText, rateText } from '../parts/amounts.js';
import { Chart } from '../parts/chart.js';
import { Bytes, Money, Rate } from '../parts/figures.js';
import { Badge, Card, Facts, PageHead, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Tabs } from '../parts/tabs.js';
import type { AnswerOf } from './api-types.js';
import { Days, wholeText } from './days.js';

/** Points the live charts keep: one each time figures come, some ten minutes of them. */
const POINTS_MAX = 600;

/** How often the figures that do not come live are read, ms. */
const LOOK_MS = 10_000;

interface Point {
  atMs: number;
  devices: number | null;
  streams: number | null;
  bytesPerSecond: number;
}

/** The live figures since the page was opened. */
function usePoints(live: LiveStates['admin'] | null): Point[] {
  const [points, setPoints] = useState<Point[]>([]);
  useEffect(() => {
    if (live === null) return;
    const point = {
      atMs: Date.now(),
      devices: live.fleet?.devices_online ?? null,
      streams: live.fleet?.streams ?? null,
      bytesPerSecond: live.bytes_per_second,
    };
    setPoints((before) => [...before.slice(1 - POINTS_MAX), point]);
  }, [live]);
  return points;
}

/** The network now and today, and its days. */
export function Overview() {
  const summary = useLoad((api, signal) => ask(api.GET('/api/admin/dashboard/summary', { signal })));
  useEffect(() => {
    const timer = setInterval(summary.reload, LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  const feed = useLive('admin');
  const live = feed.state.value;
  const points = usePoints(live);
  return (
    <>
      <PageHead
        title="Overview"
        lead={
          feed.link.value === 'open' ? (
            <Badge tone="good">Live</Badge>
          ) : (
            <Badge tone="warn">Live figures are being connected</Badge>
          )
        }
      />
      <Show of={summary}>{(data) => <Now data={data} live={live} />}</Show>
      <Card title="Live" lead="Since this page was opened.">
        <Tabs
          label="Live figures"
          tabs={[
            {
              key: 'speed',
              label: 'Speed',
              content: () => (
                <LiveChart points={points} label="Speed" value={(p) => p.bytesPerSecond} text={rateText} />
              ),
            },
            {
              key: 'devices',
              label: 'Devices',
              content: () => (
                <LiveChart points={points} label="Devices online" value={(p) => p.devices} text={wholeText} />
              ),
            },
            {
              key: 'streams',
              label: 'Streams',
              content: () => (
                <LiveChart points={points} label="Streams" value={(p) => p.streams} text={wholeText} />
              ),
            },
          ]}
        />
      </Card>
      <Days />
    </>
  );
}

function Now({
  data,
  live,
}: {
  data: AnswerOf<'/api/admin/dashboard/summary'>;
  live: LiveStates['admin'] | null;
}) {
  const { today } = data;
  const gap =
    microsOf(today.charged) - microsOf(today.earned) - microsOf(today.referrals) - microsOf(today.revenue);
  const balanced = gap === 0n && data.flags_open === 0;
  return (
    <>
      <Stats>
        <Stat label="Devices online" note={`of ${countText(data.devices)}`}>
          {countText(live?.fleet?.devices_online ?? data.devices_online ?? 0)}
        </Stat>
        <Stat label="Streams" note={`sessions: ${countText(live?.sessions_active ?? data.sessions_active)}`}>
          {live?.fleet == null ? '–' : countText(live.fleet.streams)}
        </Stat>
        <Stat label="Speed now">
          <Rate bytesPerSecond={live?.bytes_per_second ?? 0} />
        </Stat>
        <Stat label="Traffic today">
          <Bytes
            bytes={
              live === null
                ? bytesSum(today.bytes_up, today.bytes_down)
                : bytesSum(live.today.bytes_up, live.today.bytes_down)
            }
          />
        </Stat>
        <Stat
          label="Revenue today"
          tone="good"
          note={`${moneyText(live?.today.charged ?? today.charged)} charged`}
        >
          <Money amount={today.revenue} />
        </Stat>
        <Stat
          label="Payouts waiting"
          note={
            <a href="/admin/payments?kind=payout&status=pending">
              <Money amount={data.payouts_pending_amount} /> to decide on
            </a>
          }
        >
          {countText(data.payouts_pending)}
        </Stat>
        <Stat label="Users" note={`${countText(data.users_banned)} banned`}>
          {countText(data.users)}
        </Stat>
        <Stat label="Buyers" note={`${countText(data.buyers_active)} active`}>
          {countText(data.buyers)}
        </Stat>
      </Stats>
      <Card
        title="Money invariant"
        lead="What buyers paid went to providers, inviters and the platform; meters and ledger agree."
        actions={balanced ? <Badge tone="good">Holds</Badge> : <Badge tone="bad">Look at it</Badge>}
      >
        <Facts
          rows={[
            ['Charged today', <Money amount={today.charged} exact />],
            [
              'Went to',
              <>
                <Money amount={today.earned} exact /> providers, <Money amount={today.referrals} exact />{' '}
                inviters, <Money amount={today.revenue} exact /> platform
              </>,
            ],
            ['Difference', <span class={gap === 0n ? '' : 'bad'}>{`${gap} millionths of a dollar`}</span>],
            [
              'Open findings',
              <a href="/admin/sessions?flagged=true">{`${countText(data.flags_open)} of the reconciliation`}</a>,
            ],
          ]}
        />
      </Card>
    </>
  );
}

function LiveChart(props: {
  points: readonly Point[];
  label: string;
  value: (point: Point) => number | null;
  text: (value: number) => string;
}) {
  return (
    <Chart
      title={`${props.label} live`}
      atMs={props.points.map(({ atMs }) => atMs)}
      series={[{ label: props.label, values: props.points.map(props.value), text: props.text }]}
    />
  );
}
