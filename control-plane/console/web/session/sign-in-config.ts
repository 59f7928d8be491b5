/** What the server says about signing in (`/console.json`). */
export interface SignInConfig {
  bot_id: string | null;
  bot_username: string | null;
  telegram_oauth_url: string;
}

let asked: Promise<SignInConfig> | null = null;

/** Asked once; again after a failure. */
export function readSignInConfig(): Promise<SignInConfig> {
  asked ??= fetch('/console.json')
    .then(async (answer) => {
      if (!answer.ok) throw new TypeError(`console.json answered ${answer.status}`);
      return (await answer.json()) as SignInConfig;
    })
    .catch((error) => {
      asked = null;
      throw error;
    });
  return asked;
}
