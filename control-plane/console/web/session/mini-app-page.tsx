import { useEffect } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask, openApi } from '../api/client.js';
import { Failure, Loading } from '../parts/states.js';
import { miniAppInitData } from './mini-app.js';
import { readSession, sessionOf, writeSession } from './session.js';
import { useStep } from './use-sign-in.js';

/** `/app`: signs in with what Telegram signed, then the provider's pages. Opened elsewhere it is a usual sign-in. */
export function MiniAppPage() {
  const { route } = useLocation();
  const step = useStep();
  const initData = miniAppInitData();
  const signIn = () =>
    step.run(async () => {
      if (initData !== null) {
        const pair = await ask(openApi.POST('/api/auth/telegram', { body: { init_data: initData } }));
        writeSession('provider', sessionOf(pair, false));
      }
      route(readSession('provider') === null ? '/signin/provider' : '/provider', true);
    });
  useEffect(() => {
    document.title = 'Traffic Share';
    void signIn();
  }, []);
  return (
    <main class="gate-card">
      <h1 class="hidden">Traffic Share</h1>
      {step.error === undefined ? <Loading /> : <Failure error={step.error} retry={() => void signIn()} />}
    </main>
  );
}
