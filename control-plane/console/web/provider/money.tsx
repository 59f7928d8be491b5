import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { moneyText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Money, Time } from '../parts/figures.js';
import { Badge, Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Table } from '../parts/table.js';

/** `traffic_earning` → `Traffic earning`. */
const kindText = (kind: string) => kind.charAt(0).toUpperCase() + kind.slice(1).replaceAll('_', ' ');

/** The balance and every entry it is the sum of. */
export default function MoneyPage() {
  const balance = useLoad((api, signal) => ask(api.GET('/api/balance', { signal })));
  const live = useLive('provider').state.value;
  const [revision, setRevision] = useState(0);
  const settle = useAct((api) => ask(api.POST('/api/user/refresh_balance')), {
    done: ({ available }) => `Up to date: ${moneyText(available)} available.`,
  });
  const refresh = async () => {
    const answer = await settle.run();
    if (answer === undefined) return;
    balance.set(answer);
    setRevision((n) => n + 1);
  };
  return (
    <>
      <PageHead title="Money" lead="Every balance is the sum of the entries below.">
        <Button busy={settle.busy} onClick={() => void refresh()}>
          Settle now
        </Button>
        <a class="button button-main" href="/provider/withdraw">
          Withdraw
        </a>
      </PageHead>
      <Show of={balance}>
        {(data) => (
          <Stats>
            <Stat label="Available" tone="good">
              <Money amount={live?.balance.available ?? data.available} exact />
            </Stat>
            <Stat label="Pending" note="becomes available after the hold time">
              <Money amount={live?.balance.pending ?? data.pending} exact />
            </Stat>
            <Stat label="Earned in all">
              <Money amount={data.lifetime} />
            </Stat>
            <Stat label="Paid out">
              <Money amount={data.withdrawn} />
            </Stat>
          </Stats>
        )}
      </Show>
      <Card title="Entries">
        <Table
          caption="Entries of my balance"
          load={(api, { limit, cursor }, signal) =>
            ask(
              api.GET('/api/balance/entries', {
                params: { query: { limit, ...(cursor && { cursor }) } },
                signal,
              }),
            )
          }
          columns={[
            {
              key: 'at',
              title: 'When',
              cell: (row) => <Time at={row.created_at} full />,
              csv: (row) => row.created_at,
            },
            {
              key: 'kind',
              title: 'What',
              cell: (row) => (
                <span>
                  {kindText(row.kind)}
                  {row.description !== null && <span class="quiet small"> · {row.description}</span>}
                </span>
              ),
              csv: (row) => row.kind,
            },
            {
              key: 'account',
              title: 'Balance',
              cell: (row) => (
                <Badge tone={row.account === 'available' ? 'good' : 'plain'}>{row.account}</Badge>
              ),
              csv: (row) => row.account,
            },
            {
              key: 'amount',
              title: 'Amount',
              number: true,
              cell: (row) => <Money amount={row.amount} signed />,
              csv: (row) => row.amount,
            },
            {
              key: 'after',
              title: 'After',
              number: true,
              cell: (row) => <Money amount={row.balance_after} />,
              csv: (row) => row.balance_after,
            },
          ]}
          rowKey={({ id, account }) => `${id} ${account}`}
          revision={revision}
          empty="Nothing earned yet"
          exportName="balance"
        />
      </Card>
    </>
  );
}
