import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { moneyText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { Form, SelectField, TextField } from '../parts/form.js';
import { Badge, Card, Facts, PageHead, Stat, Stats } from '../parts/layout.js';
import { Scroll } from '../parts/scroll.js';
import { Empty, Show } from '../parts/states.js';
import type { PageProps } from '../shell/room.js';
import { BuyerId, Crumb, countryText, FullId, Id, Status, UserId } from './admin-parts.js';
import type { AnswerOf } from './api-types.js';

type Check = AnswerOf<'/api/admin/sessions/{id}/reconciliation'>;

/** One traffic session: reported, metered and booked side by side; refunding it. */
export default function OneSession({ params }: PageProps) {
  const id = params.id ?? '';
  const [refunding, setRefunding] = useState(false);
  const loaded = useLoad(
    async (api, signal) => {
      const path = { id };
      const [session, check] = await Promise.all([
        ask(api.GET('/api/sessions/{id}', { params: { path }, signal })),
        ask(api.GET('/api/admin/sessions/{id}/reconciliation', { params: { path }, signal })),
      ]);
      return { session, check };
    },
    [id],
  );
  const buyers = [...new Set(loaded.data?.check.buyers.map(({ buyer_id }) => buyer_id) ?? [])];
  return (
    <>
      <Crumb href="/admin/sessions">Sessions</Crumb>
      <PageHead title="Session" lead={loaded.data && <Status of={loaded.data.session.status} />}>
        {buyers.length > 0 && <Button onClick={() => setRefunding(true)}>Refund a buyer</Button>}
      </PageHead>
      <Show of={loaded} lines={8}>
        {({ session, check }) => (
          <>
            <Stats>
              <Stat label="Traffic">
                <Bytes bytes={session.bytes} />
              </Stat>
              <Stat label="Charged">
                <Money amount={check.session.charged} />
              </Stat>
              <Stat label="Earned">
                <Money amount={check.session.earned} />
              </Stat>
            </Stats>
            <div class="columns">
              <Card title="About it">
                <Facts
                  rows={[
                    ['Id', <FullId id={session.id} />],
                    ['User', <UserId id={session.user_id} />],
                    ['Device', `${session.device_id}, ${session.client_version}`],
                    ['Exit', `${session.exit_ip}, ${countryText(session.country)} ${session.city ?? ''}`],
                    ['Network', `${session.network_type}${session.asn === null ? '' : `, AS${session.asn}`}`],
                    ['Started', <Time at={session.started_at} full />],
                    ['Stopped', <Time at={session.stopped_at} full />],
                    ['Settled', <Time at={session.completed_at} full />],
                    ['Ended by', session.stop_reason?.replaceAll('_', ' ') ?? '–'],
                  ]}
                />
              </Card>
              <SideBySide check={check} />
            </div>
            <Card title="Findings">
              <Findings check={check} />
            </Card>
            <Card title="Meters" lead="As gateways counted, at the prices of their time.">
              <Meters check={check} />
            </Card>
            <p>
              <a href={`/admin/destinations?session_id=${id}`}>Which destinations it reached</a>
            </p>
          </>
        )}
      </Show>
      {refunding && (
        <Refund
          id={id}
          buyers={buyers}
          onDone={() => {
            setRefunding(false);
            loaded.reload();
          }}
          onClose={() => setRefunding(false)}
        />
      )}
    </>
  );
}

function SideBySide({ check }: { check: Check }) {
  return (
    <Card title="Reconciliation">
      <Scroll label="Reconciliation">
        <table>
          <thead>
            <tr>
              <th scope="col">Who says it</th>
              <th scope="col" class="cell-number">
                Traffic
              </th>
              <th scope="col" class="cell-number">
                Charged
              </th>
              <th scope="col" class="cell-number">
                Earned
              </th>
            </tr>
          </thead>
          <tbody>
            <Line name={`Meters (${check.meters.count})`} {...check.meters} />
            <Line name="Session" {...check.session} />
            <Line name="Ledger" {...check.ledger} />
            <Line name="Device" bytes={check.device.bytes} />
            {check.buyers.map(({ allocation_id, reported_bytes }) => (
              <Line key={allocation_id} name="Buyer" bytes={reported_bytes} />
            ))}
          </tbody>
        </table>
      </Scroll>
    </Card>
  );
}

function Line(props: { name: string; bytes?: number | string | null; charged?: string; earned?: string }) {
  return (
    <tr>
      <th scope="row">{props.name}</th>
      <td class="cell-number">{props.bytes == null ? '–' : <Bytes bytes={props.bytes} />}</td>
      <td class="cell-number">
        {props.charged === undefined ? '–' : <Money amount={props.charged} exact />}
      </td>
      <td class="cell-number">{props.earned === undefined ? '–' : <Money amount={props.earned} exact />}</td>
    </tr>
  );
}

function Findings({ check }: { check: Check }) {
  if (check.flags.length === 0) return <Empty title="Everything agrees" />;
  return (
    <ul class="rows">
      {check.flags.map((flag) => (
        <li key={`${flag.kind}${flag.allocation_id}`}>
          <div>
            <Badge tone={flag.kind === 'books' ? 'bad' : 'warn'}>{flag.kind.replace('_', ' ')}</Badge>{' '}
            {flag.detail}
            <p class="quiet small">
              first seen <Time at={flag.first_seen_at} />
            </p>
          </div>
          {flag.resolved_at === null ? <Badge tone="warn">open</Badge> : <Badge tone="good">resolved</Badge>}
        </li>
      ))}
    </ul>
  );
}

function Meters({ check }: { check: Check }) {
  if (check.meter_list.length === 0) return <Empty title="Nothing was metered" />;
  return (
    <ul class="rows">
      {check.meter_list.map((meter) => (
        <li key={meter.id}>
          <div>
            {meter.gateway_id} <Id id={meter.allocation_id} />
            <p class="quiet small">
              buyer {moneyText(meter.buyer_price_per_gb, { exact: true })} and provider{' '}
              {moneyText(meter.provider_price_per_gb, { exact: true })} a GB, <Time at={meter.updated_at} />
            </p>
          </div>
          <div class="row">
            <Bytes bytes={BigInt(meter.bytes_up) + BigInt(meter.bytes_down)} />{' '}
            <Money amount={meter.charged} exact />
            {meter.final ? <Badge tone="good">final</Badge> : <Badge tone="info">counting</Badge>}
          </div>
        </li>
      ))}
    </ul>
  );
}

function Refund(props: { id: string; buyers: readonly string[]; onDone: () => void; onClose: () => void }) {
  const [buyer, setBuyer] = useState(props.buyers[0] ?? '');
  const [amount, setAmount] = useState('');
  const [reason, setReason] = useState('');
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/sessions/{id}/refund', {
          params: { path: { id: props.id } },
          body: { buyer_id: buyer, reason: reason.trim(), ...(amount.trim() && { amount: amount.trim() }) },
        }),
      ),
    { quiet: true, done: ({ amount }) => `${moneyText(amount, { exact: true })} went back to the buyer.` },
  );
  return (
    <Dialog title="Refund a buyer" onClose={props.onClose}>
      <Form
        submit="Refund"
        busy={act.busy}
        error={act.error}
        disabled={reason.trim() === ''}
        onSubmit={() => void act.run().then((done) => done && props.onDone())}
      >
        <p class="quiet">The platform pays; the provider keeps the earnings.</p>
        {props.buyers.length > 1 ? (
          <SelectField
            label="Buyer"
            value={buyer}
            onValue={setBuyer}
            options={props.buyers.map((id) => [id, id] as const)}
          />
        ) : (
          <p>
            To <BuyerId id={buyer} />
          </p>
        )}
        <TextField
          label="Amount in dollars"
          name="amount"
          error={act.error}
          inputMode="decimal"
          hint="Empty: all that the session was charged."
          value={amount}
          onValue={setAmount}
        />
        <TextField
          label="Reason"
          name="reason"
          error={act.error}
          maxLength={500}
          value={reason}
          onValue={setReason}
        />
      </Form>
    </Dialog>
  );
}
