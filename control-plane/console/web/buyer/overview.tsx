import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { bytesSum, microsOf } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Bytes, Money, Rate, Time } from '../parts/figures.js';
import { Badge, Card, Facts, PageHead, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { LiveSpeed } from './live-speed.js';
import { Notice } from './parts.js';
import { Warnings } from './warnings.js';

interface Me {
  status: string;
  kyc_status: string;
  aup_accepted_at: string | null;
  available: string;
  price_per_gb: string;
}

/** The buyer's balance, traffic of today, account, and what keeps it from working. */
export function Overview() {
  const me = useLoad((api, signal) => ask(api.GET('/api/buyer/me', { signal })));
  const live = useLive('buyer').state.value;
  return (
    <>
      <PageHead title="Overview" lead={me.data?.name}>
        <a class="button button-main" href="/buyer/connect">
          Connect a client
        </a>
      </PageHead>
      <Show of={me}>
        {(data) => (
          <>
            <Obstacles
              me={{ ...data, available: live?.balance.available ?? data.available }}
              onAccepted={me.set}
            />
            <Warnings />
            <Stats>
              <Stat
                label="Available"
                tone="good"
                note={<>{<Money amount={live?.balance.held ?? data.held} />} set aside</>}
              >
                <Money amount={live?.balance.available ?? data.available} />
              </Stat>
              <Stat label="Traffic today" note={live !== null && <Money amount={live.today.charged} />}>
                <Bytes
                  bytes={
                    live === null
                      ? data.stats.bytes_today
                      : bytesSum(live.today.bytes_up, live.today.bytes_down)
                  }
                />
              </Stat>
              <Stat label="Traffic this month">
                <Bytes bytes={data.stats.bytes_this_month} />
              </Stat>
              <Stat label="Speed now">
                <Rate bytesPerSecond={live?.bytes_per_second ?? 0} />
              </Stat>
            </Stats>
            <Card title="Speed">
              <LiveSpeed />
            </Card>
            <Card title="Account">
              <Facts
                rows={[
                  ['Account', data.account],
                  ['Status', <Badge tone={data.status === 'active' ? 'good' : 'bad'}>{data.status}</Badge>],
                  [
                    'Verification',
                    <Badge tone={data.kyc_status === 'approved' ? 'good' : 'warn'}>{data.kyc_status}</Badge>,
                  ],
                  [
                    'Price',
                    <>
                      <Money amount={data.price_per_gb} /> per GB
                    </>,
                  ],
                  ['Since', <Time at={data.created_at} full />],
                ]}
              />
            </Card>
          </>
        )}
      </Show>
    </>
  );
}

/** Whatever the proxy would refuse connections for, each with the way out. */
function Obstacles<Answer extends Me>({ me, onAccepted }: { me: Me; onAccepted: (answer: Answer) => void }) {
  const accept = useAct(
    (api) => ask(api.POST('/api/buyer/accept_policy')) as Promise<unknown> as Promise<Answer>,
    { done: 'Accepted. Traffic may flow within a second.' },
  );
  return (
    <>
      {me.status !== 'active' && (
        <Notice tone="bad">
          This account is {me.status}: connections are refused (ACCOUNT_SUSPENDED). Write to support.
        </Notice>
      )}
      {me.kyc_status !== 'approved' && (
        <Notice>
          Verification is {me.kyc_status}: until it is approved connections are refused (KYC_REQUIRED).
          Support can tell how long it takes.
        </Notice>
      )}
      {me.aup_accepted_at === null && (
        <Notice
          action={
            <Button
              kind="main"
              busy={accept.busy}
              onClick={() => {
                void accept.run().then((answer) => answer !== undefined && onAccepted(answer));
              }}
            >
              Accept the policy
            </Button>
          }
        >
          Accept the acceptable-use policy: no abuse, no attacks, nothing illegal goes through people’s
          connections.
        </Notice>
      )}
      {microsOf(me.available) <= 0n && microsOf(me.price_per_gb) > 0n && (
        <Notice
          tone="bad"
          action={
            <a class="button" href="/buyer/balance">
              Top up
            </a>
          }
        >
          The balance is used up: connections are refused (NO_BALANCE).
        </Notice>
      )}
    </>
  );
}
