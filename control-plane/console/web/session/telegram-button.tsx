import { useEffect, useState } from 'preact/hooks';
import { ask, openApi } from '../api/client.js';
import { Button } from '../parts/buttons.js';
import { Icon } from '../shell/icons.js';
import { type Role, sessionOf, writeSession } from './session.js';
import { readSignInConfig, type SignInConfig } from './sign-in-config.js';
import { goToTelegramLogin, type TelegramLogin, telegramLoginResult } from './telegram-login.js';
import { useStep } from './use-sign-in.js';

const SIGN_IN = { provider: '/api/auth/telegram', admin: '/api/admin/auth/login' } as const;

/** Signs in with Telegram Login; says so when no bot is set up. */
export function TelegramButton({ role }: { role: Exclude<Role, 'buyer'> }) {
  const [config, setConfig] = useState<SignInConfig>();
  const [refused, setRefused] = useState(false);
  const step = useStep();
  const signIn = (data: TelegramLogin) =>
    step.run(async () => {
      const answer = await ask(openApi.POST(SIGN_IN[role], { body: data }));
      writeSession(role, sessionOf(answer, false));
    });
  useEffect(() => {
    const result = telegramLoginResult();
    if (result === 'refused') setRefused(true);
    else if (result !== null) void signIn(result);
    void step.run(async () => setConfig(await readSignInConfig()));
  }, []);
  return (
    <div class="telegram-sign-in">
      {step.error !== undefined && (
        <p class="form-error" role="alert">
          {step.error.message}
        </p>
      )}
      {refused && <p class="form-error">Telegram did not confirm. Try again.</p>}
      {config?.bot_id === null ? (
        <p class="quiet">No Telegram bot is set up here, so Telegram can not confirm who you are.</p>
      ) : (
        <Button
          kind="main"
          busy={step.busy}
          disabled={config === undefined}
          onClick={() => config !== undefined && goToTelegramLogin(config, role)}
        >
          <Icon name="send" />
          Continue with Telegram
        </Button>
      )}
    </div>
  );
}
