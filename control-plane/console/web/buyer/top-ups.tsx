import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Money, Time } from '../parts/figures.js';
import { Form, SelectField, TextField } from '../parts/form.js';
import { Badge, type BadgeTone, Card } from '../parts/layout.js';
import { Empty } from '../parts/states.js';
import { type Column, Table } from '../parts/table.js';
import { Notice } from './parts.js';

type Method = 'cryptomus' | 'telegram_stars';

interface TopUp {
  id: string;
  status: 'pending' | 'processing' | 'completed' | 'failed' | 'cancelled';
  method: Method;
  amount: string;
  stars: number | null;
  credited: string | null;
  url: string | null;
  failure_reason: string | null;
  created_at: string;
  expires_at: string | null;
  refunded_at: string | null;
}

const TONES: Readonly<Record<TopUp['status'], BadgeTone>> = {
  pending: 'warn',
  processing: 'info',
  completed: 'good',
  failed: 'bad',
  cancelled: 'plain',
};
const METHODS = [
  ['cryptomus', 'Cryptocurrency'],
  ['telegram_stars', 'Telegram Stars'],
] as const;
const methodName = (method: Method) => METHODS.find(([key]) => key === method)?.[1] ?? method;

/** How often invoices that are open are looked after, ms; the balance itself is told live. */
const LOOK_MS = 5_000;

const COLUMNS: Column<TopUp>[] = [
  {
    key: 'created',
    title: 'Made',
    cell: ({ created_at }) => <Time at={created_at} />,
    csv: ({ created_at }) => created_at,
  },
  {
    key: 'amount',
    title: 'Amount',
    number: true,
    cell: ({ amount }) => <Money amount={amount} />,
    csv: ({ amount }) => amount,
  },
  {
    key: 'method',
    title: 'By',
    cell: ({ method, stars }) => `${methodName(method)}${stars === null ? '' : ` (${stars})`}`,
    csv: ({ method }) => method,
  },
  {
    key: 'status',
    title: 'Status',
    cell: ({ status, failure_reason, refunded_at }) => (
      <>
        <Badge tone={TONES[status]}>{refunded_at === null ? status : 'refunded'}</Badge>
        {failure_reason !== null && <p class="quiet small">{failure_reason}</p>}
      </>
    ),
    csv: ({ status }) => status,
  },
  {
    key: 'credited',
    title: 'Credited',
    number: true,
    cell: ({ credited }) => (credited === null ? '–' : <Money amount={credited} signed />),
    csv: ({ credited }) => credited ?? '',
  },
  {
    key: 'pay',
    title: 'Pay',
    cell: ({ status, url }) =>
      status === 'pending' && url !== null ? (
        <a href={url} target="_blank" rel="noopener noreferrer">
          Open the invoice
        </a>
      ) : (
        '–'
      ),
  },
];

/** Makes invoices and shows what became of them. */
export function TopUps({ revision }: { revision: number }) {
  const [amount, setAmount] = useState('25');
  const [method, setMethod] = useState<Method>('cryptomus');
  const [turn, setTurn] = useState(0);
  const [open, setOpen] = useState(false);
  const [opened, setOpened] = useState<TopUp>();
  const topUp = useAct(
    (api, body: { amount: string; method: Method }) => ask(api.POST('/api/buyer/topups', { body })),
    { quiet: true },
  );
  useEffect(() => {
    if (!open) return;
    const timer = setInterval(() => setTurn((n) => n + 1), LOOK_MS);
    return () => clearInterval(timer);
  }, [open]);
  const submit = async () => {
    const made = await topUp.run({ amount, method });
    if (made === undefined) return;
    setOpened(made);
    setOpen(true);
    setTurn((n) => n + 1);
  };
  return (
    <>
      <Card title="Top up" lead="What is really paid is credited, once it is confirmed.">
        <Form submit="Make an invoice" busy={topUp.busy} error={topUp.error} onSubmit={() => void submit()}>
          <div class="fields">
            <TextField
              label="US dollars"
              name="amount"
              error={topUp.error}
              value={amount}
              inputMode="decimal"
              required
              onValue={(value) => {
                topUp.clear();
                setAmount(value);
              }}
            />
            <SelectField
              label="Pay by"
              name="method"
              error={topUp.error}
              value={method}
              onValue={(value) => {
                topUp.clear();
                setMethod(value as Method);
              }}
              options={METHODS}
            />
          </div>
        </Form>
        {opened?.url != null && (
          <Notice
            tone="info"
            action={
              <a class="button button-main" href={opened.url} target="_blank" rel="noopener noreferrer">
                Pay the invoice
              </a>
            }
          >
            The invoice is ready. The balance here grows by itself once it is paid.
          </Notice>
        )}
      </Card>
      <Card title="Top-ups">
        <Table
          caption="Top-ups"
          columns={COLUMNS}
          rowKey={({ id }) => id}
          load={async (api, { limit, cursor }, signal) => {
            const page = await ask(
              api.GET('/api/buyer/topups', {
                params: { query: { limit, ...(cursor && { cursor }) } },
                signal,
              }),
            );
            setOpen(page.items.some(({ status }) => status === 'pending' || status === 'processing'));
            return page;
          }}
          revision={revision * 1_000_000 + turn}
          exportName="top-ups"
          empty={<Empty title="No top-ups yet">Your invoices and what became of them are listed here.</Empty>}
        />
      </Card>
    </>
  );
}
