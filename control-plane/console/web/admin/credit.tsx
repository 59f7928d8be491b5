import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { moneyText } from '../parts/amounts.js';
import { Dialog } from '../parts/dialog.js';
import { CheckField, Form, TextField } from '../parts/form.js';

/** Adjusts the balance of a user or a buyer, as a transaction of the ledger. */
export function Credit(props: {
  whose: { user_id: string } | { buyer_id: string };
  name: string;
  onDone: () => void;
  onClose: () => void;
}) {
  const [amount, setAmount] = useState('');
  const [reason, setReason] = useState('');
  const [below, setBelow] = useState(false);
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/credits', {
          body: {
            ...props.whose,
            amount: amount.trim(),
            reason: reason.trim(),
            ...(below && { allow_below_zero: true }),
          },
        }),
      ),
    { quiet: true, done: ({ balance }) => `Booked. The balance is ${moneyText(balance, { exact: true })}.` },
  );
  return (
    <Dialog title={`Adjust the balance of ${props.name}`} onClose={props.onClose}>
      <Form
        submit="Book it"
        busy={act.busy}
        error={act.error}
        disabled={amount.trim() === '' || reason.trim() === ''}
        onSubmit={() => void act.run().then((done) => done && props.onDone())}
      >
        <TextField
          label="Amount in dollars"
          name="amount"
          error={act.error}
          inputMode="decimal"
          placeholder="-2.50"
          hint="With a minus it is taken away."
          value={amount}
          onValue={setAmount}
          focused
        />
        <TextField
          label="Reason"
          name="reason"
          error={act.error}
          maxLength={500}
          hint="Goes to the audit log and the ledger."
          value={reason}
          onValue={setReason}
        />
        <CheckField label="Even if the balance falls below zero" checked={below} onValue={setBelow} />
      </Form>
    </Dialog>
  );
}
