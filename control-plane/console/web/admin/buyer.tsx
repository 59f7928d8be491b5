import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { bytesText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Chart } from '../parts/chart.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { Form, SelectField, TextField } from '../parts/form.js';
import { Card, Facts, PageHead, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Tabs } from '../parts/tabs.js';
import type { PageProps } from '../shell/room.js';
import { BarList, Crumb, countryText, FullId, Status } from './admin-parts.js';
import type { AnswerOf } from './api-types.js';
import { BuyerLimits } from './buyer-limits.js';
import { BuyerTokens } from './buyer-tokens.js';
import { Credit } from './credit.js';
import { daysBetween } from './times.js';

export type Buyer = AnswerOf<'/api/admin/buyers/{id}'>;

/** One buyer: money, usage, tokens, limits. */
export default function OneBuyer({ params }: PageProps) {
  const id = params.id ?? '';
  const buyer = useLoad(
    (api, signal) => ask(api.GET('/api/admin/buyers/{id}', { params: { path: { id } }, signal })),
    [id],
  );
  const [crediting, setCrediting] = useState(false);
  const name = buyer.data?.name ?? 'Buyer';
  return (
    <>
      <Crumb href="/admin/buyers">Buyers</Crumb>
      <PageHead
        title={name}
        lead={
          buyer.data && (
            <>
              <Status of={buyer.data.status} /> verification <Status of={buyer.data.kyc_status} />
            </>
          )
        }
      >
        <Button onClick={() => setCrediting(true)}>Adjust balance</Button>
      </PageHead>
      <Show of={buyer} lines={8}>
        {(data) => (
          <>
            <Stats>
              <Stat label="Available" tone="good" note={<>{<Money amount={data.held} />} set aside</>}>
                <Money amount={data.available} />
              </Stat>
              <Stat label="Traffic today">
                <Bytes bytes={data.stats.bytes_today} />
              </Stat>
              <Stat label="Traffic this month">
                <Bytes bytes={data.stats.bytes_this_month} />
              </Stat>
              <Stat label="Charged in all" note={<Bytes bytes={data.stats.bytes} />}>
                <Money amount={data.stats.charged} />
              </Stat>
            </Stats>
            <Card>
              <Tabs
                label="About this buyer"
                tabs={[
                  { key: 'usage', label: 'Usage', content: () => <Usage id={id} /> },
                  {
                    key: 'account',
                    label: 'Account',
                    content: () => <Account buyer={data} onChange={buyer.set} />,
                  },
                  {
                    key: 'limits',
                    label: 'Limits',
                    content: () => <BuyerLimits buyer={data} onChange={buyer.set} />,
                  },
                  { key: 'tokens', label: 'Tokens', content: () => <BuyerTokens id={id} /> },
                  { key: 'holds', label: 'Holds', content: () => <Holds id={id} /> },
                ]}
              />
            </Card>
          </>
        )}
      </Show>
      {crediting && (
        <Credit
          whose={{ buyer_id: id }}
          name={name}
          onDone={() => {
            setCrediting(false);
            buyer.reload();
          }}
          onClose={() => setCrediting(false)}
        />
      )}
    </>
  );
}

function Account({ buyer, onChange }: { buyer: Buyer; onChange: (buyer: Buyer) => void }) {
  const [name, setName] = useState(buyer.name);
  const [contact, setContact] = useState(buyer.contact ?? '');
  const [region, setRegion] = useState(buyer.region ?? '');
  const [price, setPrice] = useState(buyer.price_per_gb ?? '');
  const [kyc, setKyc] = useState<string>(buyer.kyc_status);
  const [status, setStatus] = useState<string>(buyer.status);
  const save = useAct(
    (api) =>
      ask(
        api.PATCH('/api/admin/buyers/{id}', {
          params: { path: { id: buyer.id } },
          body: {
            name: name.trim(),
            contact: contact.trim() || null,
            region: region.trim() || null,
            price_per_gb: price.trim() || null,
            kyc_status: kyc as Buyer['kyc_status'],
            status: status as Buyer['status'],
          },
        }),
      ),
    { quiet: true, done: 'Saved.' },
  );
  return (
    <div class="stack">
      <Facts
        rows={[
          ['Id', <FullId id={buyer.id} />],
          ['Proxy user', <code>{buyer.account}</code>],
          ['Policy accepted', <Time at={buyer.aup_accepted_at} full />],
          ['Since', <Time at={buyer.created_at} full />],
        ]}
      />
      <Form
        submit="Save"
        busy={save.busy}
        error={save.error}
        onSubmit={() => void save.run().then((changed) => changed && onChange(changed))}
      >
        <div class="fields">
          <TextField label="Name" name="name" error={save.error} value={name} onValue={setName} />
          <TextField label="Contact" name="contact" error={save.error} value={contact} onValue={setContact} />
          <TextField label="Region" name="region" error={save.error} value={region} onValue={setRegion} />
          <TextField
            label="Price per GB in dollars"
            name="price_per_gb"
            error={save.error}
            hint="Empty: the price of the settings."
            inputMode="decimal"
            value={price}
            onValue={setPrice}
          />
          <SelectField
            label="Verification"
            value={kyc}
            onValue={setKyc}
            options={[
              ['pending', 'pending'],
              ['approved', 'approved'],
              ['rejected', 'rejected'],
            ]}
          />
          <SelectField
            label="Status"
            value={status}
            onValue={setStatus}
            hint="Suspended or closed: every stream is cut within a second."
            options={[
              ['active', 'active'],
              ['suspended', 'suspended'],
              ['closed', 'closed'],
            ]}
          />
        </div>
      </Form>
    </div>
  );
}

function Usage({ id }: { id: string }) {
  const usage = useLoad(
    (api, signal) => ask(api.GET('/api/admin/buyers/{id}/usage', { params: { path: { id } }, signal })),
    [id],
  );
  return (
    <Show of={usage}>
      {(data) => {
        const bytesOf = new Map(data.by_day.map(({ day, bytes }) => [day, Number(bytes)]));
        const days = daysBetween(data.from, data.to);
        return (
          <div class="stack">
            <p class="quiet">
              {data.from} to {data.to}: <Bytes bytes={data.total.bytes} /> for{' '}
              <Money amount={data.total.charged} />; packages: {data.assigned} assigned, {data.active} active,{' '}
              {data.completed} completed.
            </p>
            <Chart
              title="Traffic by day"
              days
              kind="bars"
              atMs={days.map((day) => Date.parse(day))}
              series={[
                { label: 'Traffic', values: days.map((day) => bytesOf.get(day) ?? 0), text: bytesText },
              ]}
            />
            <h3>By country</h3>
            <BarList
              empty="No traffic in this time"
              rows={data.by_country.map(({ country, bytes, charged }) => ({
                label: countryText(country),
                value: Number(bytes),
                text: (
                  <>
                    <Bytes bytes={bytes} /> <span class="quiet">{<Money amount={charged} />}</span>
                  </>
                ),
              }))}
            />
            <p>
              <a href={`/admin/destinations?buyer_id=${id}`}>Which destinations</a>
            </p>
          </div>
        );
      }}
    </Show>
  );
}

function Holds({ id }: { id: string }) {
  const wallet = useLoad(
    (api, signal) => ask(api.GET('/api/admin/wallets', { params: { query: { buyer_id: id } }, signal })),
    [id],
  );
  return (
    <Show of={wallet}>
      {(data) => (
        <>
          <p class="quiet">What gateways set aside of the balance and of quotas for traffic that runs.</p>
          {data.holds.length === 0 ? (
            <p>Nothing is set aside.</p>
          ) : (
            <ul class="rows">
              {data.holds.map((hold) => (
                <li key={`${hold.kind}${hold.owner_id}${hold.gateway_id}${hold.run}`}>
                  <div>
                    {hold.kind} at {hold.gateway_id}
                    <p class="quiet small">
                      granted {hold.granted}, spent {hold.spent}, given back {hold.renounced}
                    </p>
                  </div>
                  <span class="number">{hold.held} held</span>
                </li>
              ))}
            </ul>
          )}
        </>
      )}
    </Show>
  );
}
