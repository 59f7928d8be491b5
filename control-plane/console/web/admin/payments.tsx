import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button, Copyable } from '../parts/buttons.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { Money, Time } from '../parts/figures.js';
import { TextField } from '../parts/form.js';
import { Card, Facts, PageHead } from '../parts/layout.js';
import type { Column } from '../parts/table.js';
import { BuyerId, FilterField, Id, Status, UserId, useFilters } from './admin-parts.js';
import type { ItemOf } from './api-types.js';
import { FilteredTable } from './filtered-table.js';

type Payment = ItemOf<'/api/admin/payments'>;
const _PATH = '/api/admin/payments';

const COLUMNS: readonly Column<Payment>[] = [
  { key: 'at', title: 'Asked', cell: (row) => <Time at={row.created_at} />, sort: 'created_at' },
  { key: 'kind', title: 'Kind', cell: (row) => row.kind },
  {
    key: 'whose',
    title: 'Whose',
    cell: (row) => (row.user_id === null ? <BuyerId id={row.buyer_id} /> : <UserId id={row.user_id} />),
  },
  {
    key: 'amount',
    title: 'Amount',
    number: true,
    cell: (row) => <Money amount={row.amount} />,
    sort: 'amount',
  },
  { key: 'way', title: 'Way', cell: (row) => row.network ?? row.method.replace('_', ' ') },
  { key: 'status', title: 'Status', cell: (row) => <Status of={row.status} /> },
  {
    key: 'approvals',
    title: 'Approvals',
    number: true,
    cell: (row) => (row.kind === 'payout' ? row.approvals.length : '–'),
  },
];

/** The queue of payouts, and what came in. */
export default function Payments() {
  const [filters, setFilter] = useFilters('kind', 'status', 'user_id', 'buyer_id');
  const [revision, setRevision] = useState(0);
  const [opened, setOpened] = useState<Payment>();
  const settings = useLoad((api, signal) => ask(api.GET('/api/admin/settings', { signal })));
  const changed = (payment: Payment) => {
    setOpened(payment);
    setRevision((n) => n + 1);
  };
  const of = filters.user_id || filters.buyer_id;
  return (
    <>
      <PageHead
        title="Payouts and top-ups"
        lead={
          settings.data !== undefined && (
            <>
              Above <Money amount={settings.data.payout_two_admin_min} /> two admins approve a payout.
            </>
          )
        }
      />
      <Card>
        <FilteredTable
          list="payments"
          caption="Payouts and top-ups"
          columns={[
            ...COLUMNS,
            {
              key: 'open',
              title: '',
              cell: (row) => (
                <Button onClick={() => setOpened(row)}>
                  {row.kind === 'payout' && row.status === 'pending' ? 'Decide' : 'Open'}
                  <span class="hidden"> on payment {row.payment_id.slice(0, 8)}</span>
                </Button>
              ),
            },
          ]}
          rowKey={(row) => row.payment_id}
          filters={filters}
          revision={revision}
          empty="No payments here"
        >
          <FilterField
            label="Kind"
            value={filters.kind}
            onValue={setFilter('kind')}
            values={['payout', 'topup']}
          />
          <FilterField
            label="Status"
            value={filters.status}
            onValue={setFilter('status')}
            values={['pending', 'processing', 'completed', 'failed', 'cancelled']}
          />
          {of !== '' && (
            <a class="button" href="/admin/payments">
              Of {of.slice(0, 8)}… ×
            </a>
          )}
        </FilteredTable>
      </Card>
      {opened !== undefined && (
        <OnePayment payment={opened} onChange={changed} onClose={() => setOpened(undefined)} />
      )}
    </>
  );
}

function OnePayment(props: { payment: Payment; onChange: (payment: Payment) => void; onClose: () => void }) {
  const { payment, onChange, onClose } = props;
  const [step, setStep] = useState<'approve' | 'reject' | 'send' | 'refund'>();
  const me = useLoad((api, signal) => ask(api.GET('/api/admin/auth/me', { signal }))).data?.id;
  const mine = payment.approvals.some(({ admin_id }) => admin_id === me);
  if (step !== undefined)
    return (
      <Decide
        payment={payment}
        step={step}
        onDone={(changed) => {
          setStep(undefined);
          onChange(changed);
        }}
        onClose={() => setStep(undefined)}
      />
    );
  const payout = payment.kind === 'payout';
  return (
    <Dialog title={payout ? 'Payout' : 'Top-up'} onClose={onClose}>
      <div class="dialog-body">
        <Facts
          rows={[
            ['Status', <Status of={payment.status} />],
            ['Amount', <Money amount={payment.amount} exact />],
            ['Whose', payout ? <UserId id={payment.user_id} /> : <BuyerId id={payment.buyer_id} />],
            ['Way', `${payment.method.replace('_', ' ')} ${payment.network ?? ''} ${payment.currency}`],
            ['Asked', <Time at={payment.created_at} full />],
            ['Ended', <Time at={payment.ended_at} full />],
            ...(payment.approvals.length === 0
              ? []
              : ([
                  [
                    'Approved by',
                    payment.approvals.map(({ admin_id, approved_at }) => (
                      <p key={admin_id}>
                        <UserId id={admin_id} /> <Time at={approved_at} />
                      </p>
                    )),
                  ],
                ] as const)),
            ...(payment.send_state === null
              ? []
              : ([['Sending', `${payment.send_state}, ${payment.calls} calls`]] as const)),
            ...(payment.tx_reference === null
              ? []
              : ([['Transaction', <Id id={payment.tx_reference} />]] as const)),
            ...(payment.failure_reason === null && payment.last_error === null
              ? []
              : ([['Trouble', payment.failure_reason ?? payment.last_error]] as const)),
            ...(payment.refunded_at === null
              ? []
              : ([['Given back', <Time at={payment.refunded_at} full />]] as const)),
          ]}
        />
        {payment.target !== null && <Copyable text={payment.target} label="Copy" />}
      </div>
      <footer class="dialog-foot">
        {payout && payment.status === 'pending' && (
          <>
            <Button kind="danger" onClick={() => setStep('reject')}>
              Reject
            </Button>
            {mine ? (
              <p class="quiet">Waits for another admin.</p>
            ) : (
              <Button kind="main" onClick={() => setStep('approve')}>
                {payment.approvals.length > 0 ? 'Approve as the second admin' : 'Approve'}
              </Button>
            )}
          </>
        )}
        {payout && payment.status === 'processing' && (
          <Button onClick={() => setStep('send')}>Send now</Button>
        )}
        {!payout && payment.method === 'telegram_stars' && payment.refunded_at === null && (
          <Button kind="danger" onClick={() => setStep('refund')}>
            Give the Stars back
          </Button>
        )}
      </footer>
    </Dialog>
  );
}

const STEPS = {
  approve: { title: 'Approve this payout?', action: 'Approve' },
  reject: { title: 'Reject this payout?', action: 'Reject' },
  send: { title: 'Send this payout now?', action: 'Send' },
  refund: { title: 'Give these Stars back?', action: 'Give back' },
} as const;

function Decide(props: {
  payment: Payment;
  step: keyof typeof STEPS;
  onDone: (payment: Payment) => void;
  onClose: () => void;
}) {
  const { payment, step } = props;
  const [reason, setReason] = useState('');
  const reasoned = step === 'reject' || step === 'refund';
  const act = useAct(
    async (api): Promise<Payment> => {
      const params = { path: { id: payment.payment_id } };
      if (step === 'approve') return ask(api.POST('/api/admin/payments/{id}/approve', { params }));
      if (step === 'reject')
        return ask(api.POST('/api/admin/payments/{id}/reject', { params, body: { reason } }));
      if (step === 'send')
        return ask(
          api.POST('/api/payments/cryptomus/create_payout', { body: { payment_id: payment.payment_id } }),
        );
      await ask(api.POST('/api/admin/payments/{id}/refund', { params, body: { reason } }));
      return payment;
    },
    {
      quiet: true,
      done: (after) =>
        step === 'approve' && after.status === 'pending'
          ? 'Approved. A second admin has to approve it too.'
          : ({ approve: 'Approved: it is being sent.', reject: 'Rejected: the money is available again.' }[
              step as string
            ] ?? 'Under way.'),
    },
  );
  return (
    <Confirm
      {...STEPS[step]}
      danger={reasoned}
      busy={act.busy}
      error={act.error}
      disabled={reasoned && reason.trim() === ''}
      onConfirm={() => void act.run().then((after) => after !== undefined && props.onDone(after))}
      onClose={props.onClose}
    >
      <p>
        <Money amount={payment.amount} exact /> {payment.target !== null && <>to {payment.target}</>}
      </p>
      {reasoned && <TextField label="Reason" value={reason} onValue={setReason} maxLength={500} focused />}
    </Confirm>
  );
}
