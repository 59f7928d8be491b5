import { TokenForm } from './token-form.js';

export function SignInBuyer() {
  return (
    <TokenForm
      role="buyer"
      label="Buyer token"
      hint="You got it when your account was made. An admin can give you a new one."
    />
  );
}
