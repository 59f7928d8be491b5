import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { ApiError } from '../api/problem.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { moneyText } from '../parts/amounts.js';
import { Button, CopyButton } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Money, Time } from '../parts/figures.js';
import { Form, SelectField, TextField } from '../parts/form.js';
import { Badge, Card, Facts, PageHead } from '../parts/layout.js';
import { Failure } from '../parts/states.js';
import { Table } from '../parts/table.js';

/** How often the state of payouts that are under way is asked for, ms. */
const LOOK_MS = 4_000;

/** Asking for a payout, and what became of earlier ones. */
export default function Withdraw() {
  const balance = useLoad((api, signal) => ask(api.GET('/api/balance', { signal })));
  const live = useLive('provider').state.value;
  const [revision, setRevision] = useState(0);
  const available = live?.balance.available ?? balance.data?.available;
  return (
    <>
      <PageHead
        title="Withdraw"
        lead={available === undefined ? 'In USDT.' : <>{moneyText(available)} available, paid in USDT.</>}
      />
      <div class="columns">
        <Request
          available={available}
          onMade={() => {
            setRevision((n) => n + 1);
            balance.reload();
          }}
        />
        <Card title="How it goes">
          <ol class="stack">
            <li>The amount leaves your available balance at once.</li>
            <li>We check and release it; small amounts are released by themselves.</li>
            <li>
              It arrives as USDT at your address, usually within minutes. The transaction is shown below.
            </li>
          </ol>
          <p class="quiet small">
            A payout that fails comes back to your balance. Until it is released you can cancel it.
          </p>
        </Card>
      </div>
      <History revision={revision} onChanged={balance.reload} />
    </>
  );
}

function Request({ available, onMade }: { available: string | undefined; onMade: () => void }) {
  const [amount, setAmount] = useState('');
  const networks = useLoad((api, signal) => ask(api.GET('/api/withdraw/networks', { signal })));
  const open = networks.data?.items.filter((one) => one.open) ?? [];
  const [chosen, setNetwork] = useState<string>();
  const network = chosen ?? open[0]?.network ?? '';
  const [target, setTarget] = useState('');
  const [asking, setAsking] = useState(false);
  const send = useAct(
    (api) =>
      ask(
        api.POST('/api/withdraw', {
          body: {
            amount: amount.trim(),
            method: 'cryptomus',
            network,
            currency: 'USDT',
            target: target.trim(),
          },
        }),
      ),
    { done: 'Your payout is on its way to being released.', quiet: true },
  );
  const confirm = async () => {
    const made = await send.run();
    setAsking(false);
    if (made === undefined) return;
    setAmount('');
    setTarget('');
    onMade();
  };
  return (
    <Card title="New payout">
      {networks.error !== undefined && <Failure error={networks.error} retry={networks.reload} />}
      <Form
        onSubmit={() => {
          send.clear();
          setAsking(true);
        }}
        submit="Continue"
        error={send.error === undefined ? undefined : atItsField(send.error)}
        disabled={!/^\d+(\.\d{1,6})?$/.test(amount.trim()) || target.trim() === '' || network === ''}
      >
        <TextField
          label="Amount in USD"
          name="amount"
          error={send.error && atItsField(send.error)}
          inputMode="decimal"
          autocomplete="off"
          value={amount}
          onValue={setAmount}
          hint={
            available !== undefined && (
              <button type="button" class="link" onClick={() => setAmount(centsOf(available))}>
                All of it: {moneyText(available)}
              </button>
            )
          }
          required
        />
        <SelectField
          label="Network"
          name="network"
          error={send.error && atItsField(send.error)}
          value={network}
          onValue={setNetwork}
          options={open.map((one) => [one.network, one.name] as const)}
          hint={
            networks.data !== undefined && open.length === 0
              ? 'Payouts are closed at the moment. Your balance stays yours.'
              : 'It must be the one your wallet expects.'
          }
        />
        <TextField
          label="Address"
          name="target"
          error={send.error && atItsField(send.error)}
          autocomplete="off"
          spellcheck={false}
          maxLength={128}
          value={target}
          onValue={setTarget}
          hint="Copied from your wallet. Its checksum is verified."
          required
        />
      </Form>
      {asking && (
        <Confirm
          title="Send this payout?"
          action={`Send ${moneyText(amount.trim())}`}
          busy={send.busy}
          onClose={() => setAsking(false)}
          onConfirm={() => void confirm()}
        >
          <Facts
            rows={[
              ['Amount', <Money key="amount" amount={amount.trim()} exact />],
              ['Network', open.find((one) => one.network === network)?.name ?? network],
              ['Address', <code key="target">{target.trim()}</code>],
            ]}
          />
          <p class="quiet">
            Nobody can call a payment on a chain back: compare the address with your wallet.
          </p>
        </Confirm>
      )}
    </Card>
  );
}

/** Rules name no field; people look for the error beside what they typed. */
const FIELD_OF: Readonly<Record<string, string>> = {
  below_minimum: 'amount',
  over_available: 'amount',
  over_daily_limit: 'amount',
  network_not_allowed: 'network',
  bad_address: 'target',
};

function atItsField(error: ApiError): ApiError {
  const field = FIELD_OF[error.code];
  if (field === undefined) return error;
  return new ApiError(error.status, error.code, error.message, { [field]: error.message }, error.requestId);
}

/** Whole cents, rounded down: nobody withdraws what is less. */
const centsOf = (amount: string) => amount.replace(/^(\d+\.\d{2})\d*$/, '$1');

const STATUS = {
  pending: ['warn', 'waits to be released'],
  processing: ['info', 'being paid'],
  completed: ['good', 'paid'],
  failed: ['bad', 'failed, money is back'],
  cancelled: ['plain', 'cancelled'],
} as const;

function History({ revision, onChanged }: { revision: number; onChanged: () => void }) {
  const [looks, setLooks] = useState(0);
  const [underWay, setUnderWay] = useState(false);
  useEffect(() => {
    if (!underWay) return;
    const timer = setInterval(() => !document.hidden && setLooks((n) => n + 1), LOOK_MS);
    return () => clearInterval(timer);
  }, [underWay]);
  const cancel = useAct(
    (api, payment_id: string) =>
      ask(api.POST('/api/withdraw/{payment_id}/cancel', { params: { path: { payment_id } } })),
    { done: 'Cancelled. The money is back in your balance.' },
  );
  return (
    <Card title="Payouts" lead={underWay ? 'Looked at every few seconds while one is under way.' : undefined}>
      <Table
        caption="My payouts"
        load={async (api, { limit, cursor }, signal) => {
          const page = await ask(
            api.GET('/api/withdraw', { params: { query: { limit, ...(cursor && { cursor }) } }, signal }),
          );
          if (cursor === undefined)
            setUnderWay(page.items.some(({ status }) => status === 'pending' || status === 'processing'));
          return page;
        }}
        columns={[
          {
            key: 'at',
            title: 'Asked',
            cell: (row) => <Time at={row.created_at} />,
            csv: (row) => row.created_at,
          },
          {
            key: 'amount',
            title: 'Amount',
            number: true,
            cell: (row) => <Money amount={row.amount} />,
            csv: (row) => row.amount,
          },
          {
            key: 'status',
            title: 'Status',
            cell: (row) => (
              <span>
                <Badge tone={STATUS[row.status][0]}>{STATUS[row.status][1]}</Badge>
                {row.failure_reason !== null && <span class="quiet small"> {row.failure_reason}</span>}
              </span>
            ),
            csv: (row) => row.status,
          },
          {
            key: 'target',
            title: 'To',
            cell: (row) => (
              <span title={row.target}>
                {row.network} <code>{shortened(row.target)}</code>
              </span>
            ),
            csv: (row) => row.target,
          },
          {
            key: 'tx',
            title: 'Transaction',
            cell: (row) =>
              row.tx_reference === null ? (
                '–'
              ) : (
                <CopyButton text={row.tx_reference} label="Copy transaction" />
              ),
            csv: (row) => row.tx_reference ?? '',
          },
          {
            key: 'act',
            title: 'Cancel',
            cell: (row) =>
              row.status !== 'pending' ? (
                ''
              ) : (
                <Button
                  busy={cancel.busy}
                  label={`Cancel the payout of ${moneyText(row.amount)}`}
                  onClick={() =>
                    void cancel.run(row.payment_id).then(() => {
                      setLooks((n) => n + 1);
                      onChanged();
                    })
                  }
                >
                  Cancel
                </Button>
              ),
          },
        ]}
        rowKey={({ payment_id }) => payment_id}
        revision={revision * 1_000_000 + looks}
        empty="No payout yet"
        exportName="payouts"
      />
    </Card>
  );
}

const shortened = (address: string) =>
  address.length <= 14 ? address : `${address.slice(0, 6)}…${address.slice(-6)}`;
