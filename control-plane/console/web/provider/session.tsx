import { ask } from '../api/client.js';
import { ApiError } from '../api/problem.js';
import { useLoad } from '../api/use-load.js';
import { durationText } from '../parts/amounts.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { Badge, Card, Facts, PageHead, Stat, Stats } from '../parts/layout.js';
import { Scroll } from '../parts/scroll.js';
import { Empty, Show } from '../parts/states.js';
import type { PageProps } from '../shell/room.js';
import { shareOf } from './share.js';

/** One session: what it carried to whom, and what each destination brought. */
export default function Session({ params }: PageProps) {
  const id = params.id ?? '';
  const session = useLoad(
    async (api, signal) => {
      const { items } = await ask(
        api.GET('/api/traffic/history', { params: { query: { session_id: id } }, signal }),
      );
      const [found] = items;
      if (found === undefined) throw new ApiError(404, 'not_found', 'There is no such session of yours.');
      return found;
    },
    [id],
  );
  return (
    <>
      <PageHead title="Session" lead={<a href="/provider/traffic">All traffic</a>} />
      <Show of={session}>
        {(data) => (
          <>
            <Stats>
              <Stat label="Pay" tone="good">
                <Money amount={data.earned} exact />
              </Stat>
              <Stat label="Traffic">
                <Bytes bytes={data.bytes} />
              </Stat>
              <Stat label="Lasted" note={<Badge>{data.status}</Badge>}>
                {durationText(
                  (data.stopped_at === null ? Date.now() : Date.parse(data.stopped_at)) -
                    Date.parse(data.started_at),
                )}
              </Stat>
            </Stats>
            <Card title="Destinations" lead="Pay is the session's, shared out by bytes.">
              {(data.destinations ?? []).length === 0 ? (
                <Empty title="None recorded yet" />
              ) : (
                <Scroll label="Destinations">
                  <table>
                    <thead>
                      <tr>
                        <th scope="col">Destination</th>
                        <th scope="col" class="cell-number">
                          Connections
                        </th>
                        <th scope="col" class="cell-number">
                          Traffic
                        </th>
                        <th scope="col" class="cell-number">
                          Pay
                        </th>
                      </tr>
                    </thead>
                    <tbody>
                      {data.destinations?.map((one) => (
                        <tr key={`${one.host}:${one.port}`}>
                          <td data-title="Destination">
                            {one.host}:{one.port}
                          </td>
                          <td data-title="Connections" class="cell-number">
                            {one.streams}
                          </td>
                          <td data-title="Traffic" class="cell-number">
                            <Bytes bytes={one.bytes} />
                          </td>
                          <td data-title="Pay" class="cell-number">
                            <Money amount={shareOf(data.earned, one.bytes, data.bytes)} />
                          </td>
                        </tr>
                      ))}
                    </tbody>
                  </table>
                </Scroll>
              )}
              {(data.destination_count ?? 0) > (data.destinations?.length ?? 0) && (
                <p class="quiet small">
                  The largest {data.destinations?.length} of {data.destination_count}.
                </p>
              )}
            </Card>
            <Card title="Details">
              <Facts
                rows={[
                  ['Started', <Time key="started" at={data.started_at} full />],
                  ['Stopped', <Time key="stopped" at={data.stopped_at} full />],
                  ['Why it stopped', data.stop_reason ?? '–'],
                  ['Device', data.device_id],
                  ['Address', `${data.exit_ip} (${[data.city, data.country].filter(Boolean).join(', ')})`],
                  ['Network', `${data.network_type}${data.asn === null ? '' : `, AS${data.asn}`}`],
                  ['Session', <code key="id">{data.id}</code>],
                ]}
              />
            </Card>
          </>
        )}
      </Show>
    </>
  );
}
