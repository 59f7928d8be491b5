import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { countText, moneyText } from '../parts/amounts.js';
import { Copyable } from '../parts/buttons.js';
import { Money } from '../parts/figures.js';
import { Form, TextField } from '../parts/form.js';
import { Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Show } from '../parts/states.js';

/** Referrals, and promo codes. */
export default function Invite() {
  const referrals = useLoad((api, signal) => ask(api.GET('/api/referrals', { signal })));
  return (
    <>
      <PageHead title="Invite and bonuses" />
      <Show of={referrals}>
        {(data) => (
          <>
            <Stats>
              <Stat label="Earned from invitations" tone="good">
                <Money amount={data.earned} />
              </Stat>
              <Stat label="Invited" note={`${countText(data.earning)} of them earn`}>
                {countText(data.invited)}
              </Stat>
              <Stat label="Your share" note="of what they earn, paid by us">
                {data.percent} %
              </Stat>
            </Stats>
            <div class="columns">
              <Card title="Your invitation" lead="They lose nothing: your share comes from ours.">
                {data.link !== null && <Copyable text={data.link} label="Copy link" />}
                <Copyable text={data.code} label="Copy code" />
              </Card>
              <Promo />
            </div>
          </>
        )}
      </Show>
    </>
  );
}

function Promo() {
  const [code, setCode] = useState('');
  const redeem = useAct(
    (api) =>
      ask(
        api.POST('/api/promo/redeem', {
          body: { code: code.trim() },
        }),
      ),
    { done: ({ bonus }) => `${moneyText(bonus)} was added to your balance.`, quiet: true },
  );
  const submit = async () => {
    const done = await redeem.run();
    if (done !== undefined) setCode('');
  };
  return (
    <Card title="Promo code">
      <Form
        onSubmit={() => void submit()}
        submit="Redeem"
        busy={redeem.busy}
        error={redeem.error}
        disabled={code.trim() === ''}
      >
        <TextField
          label="Code"
          name="code"
          error={redeem.error}
          autocomplete="off"
          maxLength={40}
          value={code}
          onValue={setCode}
        />
      </Form>
    </Card>
  );
}
