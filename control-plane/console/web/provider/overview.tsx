import { useEffect, useRef } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { type Loaded, useLoad } from '../api/use-load.js';
import { type LiveSession, type LiveStates, useLive } from '../live/live.js';
import { bytesSum, bytesText, moneyText, rateText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Chart } from '../parts/chart.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { Badge, Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Sparkline } from '../parts/sparkline.js';
import { Empty, Show } from '../parts/states.js';
import { type Dashboard, DeviceList } from './device-list.js';

/** Days in the chart of earnings. */
const DAYS = 14;

/** The home screen: balance, speed, why devices earn or not, the last days. */
export function Overview() {
  const dashboard = useLoad((api, signal) => ask(api.GET('/api/dashboard', { signal })));
  const live = useLive('provider');
  useFollow(live.state.value?.today.earned, dashboard.reload);
  return (
    <>
      <PageHead title="Overview" />
      <Show of={dashboard} lines={6}>
        {(data) => (
          <>
            <Notices data={data} />
            <Hero data={data} live={live.state.value} />
            <div class="columns">
              <Card title="Live" actions={<LinkState link={live.link.value} />}>
                <div class="speed">
                  <p class="speed-now number">{rateText(live.state.value?.bytes_per_second ?? 0)}</p>
                  <Sparkline of={live.state} value={(state) => state?.bytes_per_second ?? 0} />
                </div>
                <LiveSessions sessions={live.state.value?.sessions} reload={dashboard.reload} />
              </Card>
              <Card title="Devices" actions={<a href="/provider/devices">All about them</a>}>
                <DeviceList devices={data.devices} />
              </Card>
            </div>
            <Figures data={data} />
            <Days earned={data.traffic.today.earned} />
            <News data={data} />
          </>
        )}
      </Show>
    </>
  );
}

/** What is not in the live figures is loaded anew so long after they moved, ms; once, however often they do meanwhile. */
const FOLLOW_MS = 2_000;

function useFollow(moved: string | undefined, reload: () => void): void {
  const seen = useRef(moved);
  const timer = useRef<ReturnType<typeof setTimeout>>();
  useEffect(() => {
    const first = seen.current === undefined;
    seen.current = moved;
    if (first || moved === undefined || timer.current !== undefined) return;
    timer.current = setTimeout(() => {
      timer.current = undefined;
      reload();
    }, FOLLOW_MS);
  }, [moved]);
  useEffect(() => () => clearTimeout(timer.current), []);
}

function Notices({ data }: { data: Dashboard }) {
  return (
    <>
      {data.status === 'banned' && (
        <div class="notice notice-bad" role="alert">
          This account is banned: no device earns. <a href="/provider/support">Write to support</a>
        </div>
      )}
      {!data.consent.accepted && (
        <div class="notice">
          <span>Nothing is shared until you accept the current terms.</span>
          <a class="button" href="/provider/consent">
            Read them
          </a>
        </div>
      )}
      {data.unread > 0 && (
        <div class="notice">
          <span>
            {data.unread} unread {data.unread === 1 ? 'message' : 'messages'} in your inbox.
          </span>
          <a href="/provider/inbox">Read</a>
        </div>
      )}
    </>
  );
}

function Hero({ data, live }: { data: Dashboard; live: LiveStates['provider'] | null }) {
  const available = live?.balance.available ?? data.balance.available;
  const pending = live?.balance.pending ?? data.balance.pending;
  return (
    <section class="hero" aria-label="Balance">
      <div class="hero-top">
        <div>
          <p class="hero-label">Available</p>
          <p class="hero-amount" title={`${available} USD`} data-testid="available">
            {moneyText(available)}
          </p>
        </div>
        <a class="button" href="/provider/withdraw">
          Withdraw
        </a>
      </div>
      <dl class="hero-facts">
        <div>
          <dt>Pending</dt>
          <dd>{moneyText(pending)}</dd>
        </div>
        <div>
          <dt>Earned in all</dt>
          <dd>{moneyText(data.balance.lifetime)}</dd>
        </div>
        <div>
          <dt>Paid out</dt>
          <dd>{moneyText(data.balance.withdrawn)}</dd>
        </div>
        <div>
          <dt>Price today</dt>
          <dd>{moneyText(data.price.price_per_gb)} per GB</dd>
        </div>
      </dl>
    </section>
  );
}

function LinkState({ link }: { link: string }) {
  if (link === 'open') return <Badge tone="good">live</Badge>;
  return <Badge tone="warn">{link === 'waiting' ? 'reconnecting' : 'connecting'}</Badge>;
}

function LiveSessions({ sessions, reload }: { sessions: LiveSession[] | undefined; reload: () => void }) {
  const stop = useAct(
    (api, session_id: string) => ask(api.POST('/api/traffic/stop', { body: { session_id } })),
    { done: ({ bytes, earned }) => `Stopped: ${bytesText(bytes)}, ${moneyText(earned)} earned.` },
  );
  if (sessions === undefined) return null;
  if (sessions.length === 0)
    return <Empty title="No device shares now">Press Start in the app on your device.</Empty>;
  return (
    <ul class="rows">
      {sessions.map((session) => (
        <li key={session.session_id}>
          <div class="device-row">
            <span class="device-name">{session.device_id}</span>
            <span class="quiet small">
              {session.country} · {session.streams ?? '–'} open · since <Time at={session.started_at} /> ·{' '}
              <Bytes bytes={bytesSum(session.bytes_up, session.bytes_down)} />
            </span>
          </div>
          <div class="row">
            <strong>
              <Money amount={session.earned} />
            </strong>
            <Button
              busy={stop.busy}
              label={`Stop sharing on ${session.device_id}`}
              onClick={() => void stop.run(session.session_id).then(reload)}
            >
              Stop
            </Button>
          </div>
        </li>
      ))}
    </ul>
  );
}

function Figures({ data }: { data: Dashboard }) {
  const periods = [
    ['Today', data.traffic.today],
    ['Last 7 days', data.traffic.week],
    ['Last 30 days', data.traffic.month],
  ] as const;
  return (
    <Stats>
      {periods.map(([label, figures]) => (
        <Stat
          key={label}
          label={label}
          note={
            <>
              <Bytes bytes={figures.bytes} /> · {figures.sessions}{' '}
              {figures.sessions === 1 ? 'session' : 'sessions'}
            </>
          }
        >
          <Money amount={figures.earned} />
        </Stat>
      ))}
    </Stats>
  );
}

type Series = Awaited<ReturnType<typeof readDays>>;
const readDays = (api: Parameters<Parameters<typeof useLoad>[0]>[0], signal: AbortSignal) =>
  ask(
    api.GET('/api/stats/{period}', {
      params: { path: { period: 'daily' }, query: { points: DAYS } },
      signal,
    }),
  );

function Days({ earned }: { earned: string }) {
  const days: Loaded<Series> = useLoad(readDays, [earned]);
  return (
    <Card title="Earnings by day" lead="UTC days; the last two weeks.">
      <Show of={days}>
        {({ items }) => {
          const ordered = items.toSorted((a, b) => a.from.localeCompare(b.from));
          return (
            <Chart
              title="Earnings by day"
              days
              kind="bars"
              atMs={ordered.map(({ from }) => Date.parse(from))}
              series={[
                {
                  label: 'Earned',
                  values: ordered.map(({ earned }) => Number(earned)),
                  text: (value) => moneyText(value.toFixed(6)),
                },
              ]}
            />
          );
        }}
      </Show>
    </Card>
  );
}

function News({ data }: { data: Dashboard }) {
  if (data.news.length === 0) return null;
  return (
    <Card title="News">
      <ul class="rows">
        {data.news.map((item) => (
          <li key={item.id}>
            <div class="prose">
              <h3>{item.title}</h3>
              <p>{item.body}</p>
              <p class="quiet small">
                <Time at={item.published_at} />
              </p>
            </div>
          </li>
        ))}
      </ul>
    </Card>
  );
}
