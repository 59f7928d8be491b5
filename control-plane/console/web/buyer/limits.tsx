import type { ComponentChildren } from 'preact';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { bytesSum, bytesText, countText, rateText } from '../parts/amounts.js';
import { Card, Facts, PageHead, Progress } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { useFresh } from './use-fresh.js';

type Bytes = number | string;

function Quota({ used, max }: { used: Bytes; max: number | undefined }) {
  if (max === undefined) return <>{bytesText(used)} so far, no limit</>;
  return (
    <Progress
      label={`${bytesText(used)} of ${bytesText(max)}`}
      value={Math.min(Number(used), max)}
      max={Math.max(1, max)}
    />
  );
}

function list(entries: readonly (string | number)[] | undefined, none: string): ComponentChildren {
  return entries === undefined || entries.length === 0 ? none : entries.join(', ');
}

/** What holds for the account now, as the gateways apply it. */
export default function Limits() {
  const live = useLive('buyer').state.value;
  const revision = useFresh(
    live === null ? undefined : bytesSum(live.today.bytes_up, live.today.bytes_down).toString(),
  );
  const me = useLoad((api, signal) => ask(api.GET('/api/buyer/me', { signal })), [revision]);
  return (
    <>
      <PageHead
        title="Limits"
        lead="They hold for you and all your sub-users together. An admin changes them: write to support."
      />
      <Show of={me} lines={8}>
        {({ limits_in_force: limits, stats }) => (
          <>
            <Card title="Traffic" lead="Days and months are UTC. At the limit: QUOTA_REACHED.">
              <Facts
                rows={[
                  ['Today', <Quota used={stats.bytes_today} max={limits.bytes_per_day_max} />],
                  ['This month', <Quota used={stats.bytes_this_month} max={limits.bytes_per_month_max} />],
                  [
                    'Bandwidth',
                    limits.bandwidth_bytes_per_second_max === undefined
                      ? 'no limit'
                      : `${rateText(limits.bandwidth_bytes_per_second_max)}, both directions together, at each gateway`,
                  ],
                ]}
              />
            </Card>
            <Card title="Connections" lead="Counted at each gateway.">
              <Facts
                rows={[
                  ['At once', `${countText(limits.streams_max ?? 0)}, then CONN_LIMIT`],
                  [
                    'New ones a second',
                    `${countText(limits.connections_per_second_max ?? 0)}, then RATE_LIMIT`,
                  ],
                  ['UDP', limits.udp === true ? 'granted' : 'not granted (UDP_NOT_ALLOWED)'],
                ]}
              />
            </Card>
            <Card title="Where to and where from">
              <Facts
                rows={[
                  [
                    'Ports',
                    list(
                      limits.ports ?? [
                        80,
                        443,
                        ...(limits.extra_ports ?? []),
                        ...(limits.granted_ports ?? []),
                      ],
                      '80, 443',
                    ),
                  ],
                  ['Only destinations', list(limits.allowed_domains, 'any')],
                  ['Denied destinations', list(limits.denied_domains, 'none of yours')],
                  ['Client addresses', list(limits.allowed_ips, 'any')],
                  ['Without password', list(limits.passwordless_ips, 'from nowhere')],
                ]}
              />
            </Card>
          </>
        )}
      </Show>
    </>
  );
}
