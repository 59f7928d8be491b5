import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button, Copyable } from '../parts/buttons.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Card } from '../parts/layout.js';
import { Empty, Show } from '../parts/states.js';

interface Account {
  telegram_id: number;
  username: string | null;
  linked_at: string;
}
const nameOf = ({ username, telegram_id }: Account) =>
  username === null ? String(telegram_id) : `@${username}`;

/** How often an open link is looked after, ms. */
const LOOK_MS = 3_000;

/** Telegram accounts that may top up in the bot. */
export function Telegrams() {
  const accounts = useLoad((api, signal) => ask(api.GET('/api/buyer/telegrams', { signal })));
  const [link, setLink] = useState<{ url: string | null; start: string | null; expires_in: number }>();
  const [leaving, setLeaving] = useState<Account>();
  const make = useAct((api) => ask(api.POST('/api/buyer/telegrams/link')));
  const unlink = useAct(
    (api, telegramId: number) =>
      ask(
        api.DELETE('/api/buyer/telegrams/{telegram_id}', { params: { path: { telegram_id: telegramId } } }),
      ),
    { done: 'Unlinked.', quiet: true },
  );
  useEffect(() => {
    if (link === undefined) return;
    const timer = setInterval(accounts.reload, LOOK_MS);
    return () => clearInterval(timer);
  }, [link, accounts.reload]);
  const count = accounts.data?.items.length ?? 0;
  // It was confirmed in the bot.
  useEffect(() => setLink(undefined), [count]);
  return (
    <Card
      title="Telegram"
      lead="Linked accounts top up with Stars in the bot (/topup). They see and do nothing else of yours."
      actions={
        <Button busy={make.busy} onClick={() => void make.run().then(setLink)}>
          Link an account
        </Button>
      }
    >
      <Show of={accounts}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title="No account linked" />
          ) : (
            <ul class="rows">
              {items.map((account) => (
                <li key={account.telegram_id}>
                  <span>
                    {nameOf(account)}{' '}
                    <span class="quiet small">
                      linked <Time at={account.linked_at} />
                    </span>
                  </span>
                  <Button
                    kind="quiet"
                    label={`Unlink ${nameOf(account)}`}
                    onClick={() => setLeaving(account)}
                  >
                    Unlink
                  </Button>
                </li>
              ))}
            </ul>
          )
        }
      </Show>
      {link !== undefined && (
        <Dialog title="Link a Telegram account" onClose={() => setLink(undefined)}>
          <div class="dialog-body">
            {link.url === null ? (
              <>
                <p>
                  Send this to the bot within {Math.round(link.expires_in / 60)} minutes, from the account to
                  be linked.
                </p>
                <Copyable text={`/start ${link.start}`} label="Copy" />
              </>
            ) : (
              <>
                <p>
                  Open this in Telegram within {Math.round(link.expires_in / 60)} minutes and press Start.
                  This window closes by itself.
                </p>
                <a class="button button-main" href={link.url} target="_blank" rel="noopener noreferrer">
                  Open Telegram
                </a>
              </>
            )}
          </div>
        </Dialog>
      )}
      {leaving !== undefined && (
        <Confirm
          title={`Unlink ${nameOf(leaving)}?`}
          action="Unlink"
          danger
          busy={unlink.busy}
          error={unlink.error}
          onConfirm={() => {
            void unlink.run(leaving.telegram_id).then((done) => {
              if (done === undefined) return;
              accounts.set({ ...done, next_cursor: null });
              setLeaving(undefined);
            });
          }}
          onClose={() => setLeaving(undefined)}
        >
          <p>It can not top up for you any more. What it paid stays on the balance.</p>
        </Confirm>
      )}
    </Card>
  );
}
