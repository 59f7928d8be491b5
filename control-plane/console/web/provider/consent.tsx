import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { CheckField, Form } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';

/** The terms, accepting them, and withdrawing that again. */
export default function Consent() {
  const page = useLoad(async (api, signal) => {
    const me = await ask(api.GET('/api/user/me', { signal }));
    const query = { language: me.language };
    return { me, terms: await ask(api.GET('/api/terms', { params: { query }, signal })) };
  });
  const [read, setRead] = useState(false);
  const [leaving, setLeaving] = useState(false);
  const accept = useAct(
    (api, terms_version: string) => ask(api.POST('/api/user/consent', { body: { terms_version } })),
    { done: 'Accepted. Your devices may share now.', quiet: true },
  );
  const withdraw = useAct((api) => ask(api.DELETE('/api/user/consent')), {
    done: ({ sessions_stopped: stopped }) =>
      stopped === 1 ? 'Withdrawn. One session was stopped.' : `Withdrawn. ${stopped} sessions were stopped.`,
    quiet: true,
  });
  return (
    <>
      <PageHead
        title="Consent"
        lead="Nothing is shared through a device before its owner has accepted these terms."
      />
      <Show of={page} lines={8}>
        {({ me, terms }) => {
          const current = me.consent?.current === true;
          return (
            <>
              <Card
                title={terms.title}
                lead={`Version ${terms.version}`}
                actions={
                  current ? (
                    <Badge tone="good">accepted</Badge>
                  ) : (
                    <Badge tone="warn">{me.consent === null ? 'not accepted' : 'new terms'}</Badge>
                  )
                }
              >
                <div class="prose">
                  {terms.body.split(/\n\s*\n/).map((paragraph) => (
                    <p key={paragraph}>{paragraph}</p>
                  ))}
                </div>
                {!current && (
                  <Form
                    onSubmit={() => void accept.run(terms.version).then((done) => done && page.reload())}
                    submit="Accept"
                    busy={accept.busy}
                    error={accept.error}
                    disabled={!read}
                  >
                    <CheckField label="I have read this and agree" checked={read} onValue={setRead} />
                  </Form>
                )}
              </Card>
              {me.consent !== null && (
                <Card title="Withdraw your consent" lead="At any time, without giving a reason.">
                  <div class="spread">
                    <p>
                      You accepted version {me.consent.terms_version} <Time at={me.consent.accepted_at} />.
                      When you withdraw, every device of yours stops at once.
                    </p>
                    <Button kind="danger" onClick={() => setLeaving(true)}>
                      Withdraw consent
                    </Button>
                  </div>
                </Card>
              )}
            </>
          );
        }}
      </Show>
      {leaving && (
        <Confirm
          title="Withdraw your consent?"
          action="Withdraw consent"
          danger
          busy={withdraw.busy}
          error={withdraw.error}
          onClose={() => setLeaving(false)}
          onConfirm={() =>
            void withdraw.run().then((done) => {
              if (done === undefined) return;
              setLeaving(false);
              setRead(false);
              page.reload();
            })
          }
        >
          <p>All your devices stop sharing now, open connections are cut. Your balance stays yours.</p>
          <p>You can accept again whenever you like.</p>
        </Confirm>
      )}
    </>
  );
}
