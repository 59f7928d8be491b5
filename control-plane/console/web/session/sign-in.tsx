import { useEffect } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { Brand } from '../shell/icons.js';
import { ThemeChoice } from '../shell/theme-choice.js';
import { type Role, readSession } from './session.js';
import { SignInAdmin } from './sign-in-admin.js';
import { SignInBuyer } from './sign-in-buyer.js';
import { SignInProvider } from './sign-in-provider.js';

const FORMS = {
  provider: { title: 'Sign in to share', form: SignInProvider },
  buyer: { title: 'Sign in to use the proxy', form: SignInBuyer },
  admin: { title: 'Sign in as an admin', form: SignInAdmin },
};

/** `/signin/:role`; on to where the person was going once it worked. */
export function SignIn({ role }: { role: Role }) {
  const { route, query } = useLocation();
  const { title, form: RoleForm } = FORMS[role];
  const signedIn = readSession(role) !== null;
  const { to } = query;
  useEffect(() => {
    document.title = `${title} · Traffic Share`;
    if (signedIn) route(to?.startsWith(`/${role}/`) ? to : `/${role}`, true);
  }, [signedIn, title]);
  return (
    <div class="gate">
      <div class="gate-head">
        <a href="/" class="brand-link" aria-label="Traffic Share, first page">
          <Brand />
        </a>
        <ThemeChoice />
      </div>
      <main class="gate-card">
        <h1>{title}</h1>
        <RoleForm />
      </main>
      <p class="quiet small gate-foot">
        Somewhere else? <a href="/">Choose again</a>
      </p>
    </div>
  );
}
