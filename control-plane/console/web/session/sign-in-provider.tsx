import { useEffect, useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask, openApi } from '../api/client.js';
import { Button } from '../parts/buttons.js';
import { CheckField, Form, TextField } from '../parts/form.js';
import { sessionOf, writeSession } from './session.js';
import { readSignInConfig } from './sign-in-config.js';
import { TelegramButton } from './telegram-button.js';
import { TokenForm } from './token-form.js';
import { useStep } from './use-sign-in.js';

/** Another code may be asked for after so many seconds. */
const RESEND_S = 60;

/** By Telegram id and the code that the bot sends there; a new id is registered. */
export function SignInProvider() {
  const [telegramId, setTelegramId] = useState('');
  const [sent, setSent] = useState(false);
  const [bot, setBot] = useState<string | null>(null);
  useEffect(() => {
    readSignInConfig().then(
      (config) => setBot(config.bot_username),
      () => {}, // only a link less
    );
  }, []);
  if (sent) return <CodeForm telegramId={Number(telegramId)} onBack={() => setSent(false)} />;
  return (
    <>
      <IdForm telegramId={telegramId} onTelegramId={setTelegramId} bot={bot} onSent={() => setSent(true)} />
      <details class="other-way">
        <summary>Other ways</summary>
        <TelegramButton role="provider" />
        <TokenForm
          role="provider"
          label="Access token"
          hint="For development: npm start writes one to standalone.json (provider.access_token)."
        />
      </details>
    </>
  );
}

function IdForm(props: {
  telegramId: string;
  onTelegramId: (id: string) => void;
  bot: string | null;
  onSent: () => void;
}) {
  const { query } = useLocation();
  const [isNew, setNew] = useState(query.ref !== undefined);
  const [referral, setReferral] = useState(query.ref ?? '');
  const step = useStep();
  const ask6 = () =>
    step.run(async () => {
      const telegram_id = Number(props.telegramId);
      if (isNew)
        await ask(
          openApi.POST('/api/auth/register', {
            body: { telegram_id, ...(referral.trim() !== '' && { referral_code: referral.trim() }) },
          }),
        );
      else await ask(openApi.POST('/api/auth/request_login_code', { body: { telegram_id } }));
      props.onSent();
    });
  return (
    <Form
      onSubmit={() => void ask6()}
      submit="Send me a code"
      busy={step.busy}
      error={step.error}
      disabled={!/^[1-9][0-9]{0,15}$/.test(props.telegramId)}
    >
      <TextField
        label="Telegram id"
        name="telegram_id"
        error={step.error}
        inputMode="numeric"
        autocomplete="username"
        value={props.telegramId}
        onValue={(value) => props.onTelegramId(value.replace(/\D/g, ''))}
        hint={
          props.bot === null ? (
            'A number. The bot tells it when you write /start.'
          ) : (
            <>
              A number. <a href={`https://t.me/${props.bot}`}>@{props.bot}</a> tells it when you write /start.
            </>
          )
        }
        required
      />
      <CheckField label="I am new here" checked={isNew} onValue={setNew} />
      {isNew && (
        <TextField
          label="Referral code"
          name="referral_code"
          error={step.error}
          hint="If somebody invited you."
          value={referral}
          maxLength={32}
          onValue={setReferral}
        />
      )}
    </Form>
  );
}

function CodeForm({ telegramId, onBack }: { telegramId: number; onBack: () => void }) {
  const [code, setCode] = useState('');
  const [keep, setKeep] = useState(false);
  const [waitS, setWaitS] = useState(RESEND_S);
  const step = useStep();
  useEffect(() => {
    const timer = setInterval(() => setWaitS((s) => Math.max(0, s - 1)), 1_000);
    return () => clearInterval(timer);
  }, []);
  const verify = (given: string) =>
    step.run(async () => {
      const pair = await ask(
        openApi.POST('/api/auth/verify_code', { body: { telegram_id: telegramId, code: given } }),
      );
      writeSession('provider', sessionOf(pair, keep));
    });
  const resend = () =>
    step.run(async () => {
      await ask(openApi.POST('/api/auth/request_login_code', { body: { telegram_id: telegramId } }));
      setWaitS(RESEND_S);
      setCode('');
    });
  return (
    <Form
      onSubmit={() => void verify(code)}
      submit="Sign in"
      busy={step.busy}
      error={step.error}
      disabled={code.length !== 6}
      extra={
        <Button kind="quiet" onClick={onBack}>
          Another id
        </Button>
      }
    >
      <p class="quiet">If {telegramId} is registered, the bot has just sent a code of six digits there.</p>
      <TextField
        label="Code"
        name="code"
        class="code-input"
        error={step.error}
        inputMode="numeric"
        autocomplete="one-time-code"
        maxLength={6}
        value={code}
        focused
        onValue={(value) => {
          const digits = value.replace(/\D/g, '').slice(0, 6);
          setCode(digits);
          if (digits.length === 6 && digits !== code) void verify(digits);
        }}
        hint={
          waitS > 0 ? (
            `No code? Another one in ${waitS} s.`
          ) : (
            <button type="button" class="link" onClick={() => void resend()}>
              Send another code
            </button>
          )
        }
        required
      />
      <CheckField
        label="Keep me signed in"
        hint="Only on a device that is yours."
        checked={keep}
        onValue={setKeep}
      />
    </Form>
  );
}
