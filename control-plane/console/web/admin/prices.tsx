import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { moneyText } from '../parts/amounts.js';
import { Chart } from '../parts/chart.js';
import { Money } from '../parts/figures.js';
import { Form, TextField } from '../parts/form.js';
import { Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';

/** What providers are paid a GB, day by day, beside what buyers pay. */
export default function Prices() {
  const prices = useLoad(async (api, signal) => {
    const [daily, settings] = await Promise.all([
      ask(api.GET('/api/daily_price', { params: { query: { days: 90 } }, signal })),
      ask(api.GET('/api/admin/settings', { signal })),
    ]);
    return { daily, buyerPrice: settings.buyer_price_per_gb };
  });
  return (
    <>
      <PageHead title="Prices" lead="Bytes relayed before a change keep the price they were relayed at." />
      <Show of={prices}>
        {({ daily, buyerPrice }) => {
          const history = [...daily.history].sort((a, b) => a.day.localeCompare(b.day));
          return (
            <>
              <Stats>
                <Stat label="Providers get per GB" tone="good">
                  <Money amount={daily.price_per_gb} exact />
                </Stat>
                <Stat label="Buyers pay per GB" note={<a href="/admin/settings">in the settings</a>}>
                  <Money amount={buyerPrice} exact />
                </Stat>
              </Stats>
              <Card title="Set a day's price" lead="In force on every gateway within a second.">
                <SetPrice onDone={prices.reload} />
              </Card>
              <Card title="Days">
                <Chart
                  title="Provider price by day"
                  days
                  atMs={history.map(({ day }) => Date.parse(day))}
                  series={[
                    {
                      label: 'Providers get per GB',
                      values: history.map(({ price_per_gb }) => Number(price_per_gb)),
                      text: (value) => `$${value.toFixed(3)}`,
                    },
                  ]}
                />
              </Card>
            </>
          );
        }}
      </Show>
    </>
  );
}

function SetPrice({ onDone }: { onDone: () => void }) {
  const [price, setPrice] = useState('');
  const [day, setDay] = useState('');
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/daily_price', {
          body: { price_per_gb: price.trim(), ...(day && { day }) },
        }),
      ),
    {
      quiet: true,
      done: ({ day, price_per_gb }) => `${moneyText(price_per_gb, { exact: true })} a GB from ${day} on.`,
    },
  );
  const submit = async () => {
    if ((await act.run()) === undefined) return;
    setPrice('');
    onDone();
  };
  return (
    <Form
      submit="Set the price"
      busy={act.busy}
      error={act.error}
      disabled={price.trim() === ''}
      onSubmit={() => void submit()}
    >
      <div class="fields">
        <TextField
          label="Price per GB in dollars"
          name="price_per_gb"
          error={act.error}
          inputMode="decimal"
          value={price}
          onValue={setPrice}
        />
        <TextField
          label="From this UTC day on"
          type="date"
          name="day"
          error={act.error}
          hint="Empty: at once."
          value={day}
          onValue={setDay}
        />
      </div>
    </Form>
  );
}
