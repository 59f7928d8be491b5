import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { bytesText, moneyText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Money } from '../parts/figures.js';
import { Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Failure, Show } from '../parts/states.js';
import { Telegrams } from './telegrams.js';
import { TopUps } from './top-ups.js';
import { useFresh } from './use-fresh.js';

/** What is there to pay with, and how to get more. */
export default function Balance() {
  const live = useLive('buyer').state.value;
  const revision = useFresh(live?.balance.balance);
  const balance = useLoad((api, signal) => ask(api.GET('/api/buyer/me/balance', { signal })), [revision]);
  return (
    <>
      <PageHead
        title="Balance"
        lead="Traffic is paid from it as it flows; nothing is charged that did not work."
      />
      <Show of={balance}>
        {(data) => {
          const { available, held, balance: all } = live?.balance ?? data;
          return (
            <Stats>
              <Stat
                label="Available"
                tone="good"
                note={<BytesFor money={available} price={data.price_per_gb} />}
              >
                <Money amount={available} />
              </Stat>
              <Stat label="Set aside" note="for traffic that runs">
                <Money amount={held} />
              </Stat>
              <Stat label="Balance">
                <Money amount={all} />
              </Stat>
              <Stat label="Price" note="per GB, up and down together">
                <Money amount={data.price_per_gb} />
              </Stat>
            </Stats>
          );
        }}
      </Show>
      <TopUps revision={revision} />
      <Trial onTaken={balance.reload} />
      <Telegrams />
    </>
  );
}

const GB = 1_000_000_000;

function BytesFor({ money, price }: { money: string; price: string }) {
  const perGb = Number(price);
  if (perGb === 0) return <>traffic costs nothing</>;
  return <>about {bytesText(Math.max(0, (Number(money) / perGb) * GB))}</>;
}

function Trial({ onTaken }: { onTaken: () => void }) {
  const take = useAct((api) => ask(api.POST('/api/buyer/trial')), {
    quiet: true,
    done: ({ amount, bytes }) => `${moneyText(amount)} for ${bytesText(bytes)} are on your balance.`,
  });
  return (
    <Card
      title="Trial"
      lead="Once per account: some traffic free of charge, as money at your price."
      actions={
        <Button
          busy={take.busy}
          onClick={() => {
            void take.run().then((taken) => taken !== undefined && onTaken());
          }}
        >
          Take the trial
        </Button>
      }
    >
      {take.error === undefined ? (
        <p class="quiet">It is added to the balance and used like any other money on it.</p>
      ) : (
        <Failure error={take.error} />
      )}
    </Card>
  );
}
