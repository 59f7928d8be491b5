import { TelegramButton } from './telegram-button.js';
import { TokenForm } from './token-form.js';

export function SignInAdmin() {
  return (
    <>
      <p class="quiet">Admins are known by their Telegram accounts.</p>
      <TelegramButton role="admin" />
      <details class="other-way">
        <summary>Use an access token</summary>
        <TokenForm
          role="admin"
          label="Access token"
          hint="For development: npm start writes one to standalone.json (admin.token)."
        />
      </details>
    </>
  );
}
