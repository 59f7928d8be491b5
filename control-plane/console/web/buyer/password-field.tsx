import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button } from '../parts/buttons.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { TextField } from '../parts/form.js';
import { ShownOnce } from './parts.js';
import { passwords, rememberPassword } from './passwords.js';

/** The password of an account as far as this page knows it, to be pasted or made anew. */
export function PasswordField(props: {
  account: string;
  subUserId: string | null;
  main: boolean;
  onMade?: () => void;
}) {
  const { account, subUserId, main } = props;
  const [asking, setAsking] = useState(false);
  const [made, setMade] = useState<string>();
  const make = useAct(
    async (api) => {
      const answer =
        subUserId === null
          ? await ask(api.POST('/api/buyer/proxy_passwords', { body: {} }))
          : await ask(
              api.PATCH('/api/buyer/sub_users/{id}', {
                params: { path: { id: subUserId } },
                body: { rotate_password: true },
              }),
            );
      if (answer.proxy === null) throw new Error('The password was made before, and is not told again.');
      return answer.proxy.password;
    },
    { quiet: true },
  );
  const run = async () => {
    const password = await make.run();
    if (password === undefined) return;
    rememberPassword(account, password);
    setAsking(false);
    setMade(password);
    props.onMade?.();
  };
  return (
    <>
      <TextField
        label="Password"
        type="password"
        value={passwords.value[account] ?? ''}
        onValue={(password) => rememberPassword(account, password)}
        autocomplete="off"
        spellcheck={false}
        hint={
          <>
            Passwords are stored as hashes, so this page can not show yours. Paste it, or make a new one. It
            stays in this page’s memory until you leave or reload.
          </>
        }
      />
      {(main || subUserId !== null) && (
        <div class="row">
          <Button busy={make.busy && !asking} onClick={() => setAsking(true)}>
            Make a new password
          </Button>
        </div>
      )}
      {asking && (
        <Confirm
          title="New proxy password"
          action="Make it"
          busy={make.busy}
          error={make.error}
          onConfirm={() => void run()}
          onClose={() => setAsking(false)}
        >
          {main ? (
            <p>
              It works beside the others. Revoke those that nobody uses under{' '}
              <a href="/buyer/access">Passwords and tokens</a>.
            </p>
          ) : (
            <p>The old password of {account} stops working at once, on every gateway.</p>
          )}
        </Confirm>
      )}
      {made !== undefined && (
        <Dialog title="Your new password" onClose={() => setMade(undefined)}>
          <ShownOnce account={account} password={made} />
          <footer class="dialog-foot">
            <Button kind="main" onClick={() => setMade(undefined)}>
              Done
            </Button>
          </footer>
        </Dialog>
      )}
    </>
  );
}
