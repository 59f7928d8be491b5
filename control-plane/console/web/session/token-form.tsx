import { useState } from 'preact/hooks';
import { createApiClient } from '../../../client/client.js';
import { ask } from '../api/client.js';
import { CheckField, Form, TextField } from '../parts/form.js';
import { type Role, writeSession } from './session.js';
import { useStep } from './use-sign-in.js';

const PROOF = { provider: '/api/user/me', buyer: '/api/buyer/me', admin: '/api/admin/auth/me' } as const;

/** Signs in with a token that is pasted; it is tried before it is kept. */
export function TokenForm({ role, label, hint }: { role: Role; label: string; hint: string }) {
  const [token, setToken] = useState('');
  const [keep, setKeep] = useState(false);
  const step = useStep();
  const submit = () =>
    step.run(async () => {
      const accessToken = token.trim();
      await ask(createApiClient({ url: location.origin, token: accessToken }).GET(PROOF[role]));
      writeSession(role, { accessToken, refreshToken: null, expiresAtMs: null, keep });
    });
  return (
    <Form
      onSubmit={() => void submit()}
      submit="Sign in"
      busy={step.busy}
      error={step.error}
      disabled={token.trim() === ''}
    >
      <TextField
        label={label}
        hint={hint}
        type="password"
        autocomplete="off"
        spellcheck={false}
        value={token}
        onValue={setToken}
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
