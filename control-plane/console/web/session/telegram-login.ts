import type { Role } from './session.js';
import type { SignInConfig } from './sign-in-config.js';

/** What Telegram Login hands back (core.telegram.org/widgets/login, "Receiving authorization data"). */
export interface TelegramLogin {
  id: number;
  first_name?: string;
  last_name?: string;
  username?: string;
  photo_url?: string;
  auth_date: number;
  hash: string;
}

/** In this tab's storage while it is away at Telegram Login. */
const AWAY = 'ts.telegram-login';

/**
 * Leaves for Telegram Login, which comes back to this role's sign-in page with the result in the fragment of the
 * address: no script of Telegram's runs in our page.
 */
export function goToTelegramLogin(config: SignInConfig, role: Role): void {
  const url = new URL('/auth', config.telegram_oauth_url);
  url.search = new URLSearchParams({
    bot_id: config.bot_id ?? '',
    origin: location.origin,
    return_to: `${location.origin}/signin/${role}`,
    request_access: 'write',
  }).toString();
  sessionStorage.setItem(AWAY, role);
  location.assign(url);
}

/**
 * Takes the result out of the address. Only in a tab that left for it: else a link of somebody else's would sign its
 * reader in as them. Call once, before rendering.
 */
export function takeTelegramLogin(): void {
  const result = new URLSearchParams(location.hash.slice(1)).get('tgAuthResult');
  if (result === null) return;
  history.replaceState(null, '', location.pathname + location.search);
  const wasAway = sessionStorage.getItem(AWAY) !== null;
  sessionStorage.removeItem(AWAY);
  if (wasAway) taken = decode(result);
}

let taken: TelegramLogin | 'refused' | null = null;

/** What Telegram Login came back with, once; null: nothing, `refused`: the person said no. */
export function telegramLoginResult(): TelegramLogin | 'refused' | null {
  const result = taken;
  taken = null;
  return result;
}

/** Base64 (in either alphabet) of JSON in UTF-8; `false` for a refusal. */
function decode(result: string): TelegramLogin | 'refused' {
  try {
    const bytes = Uint8Array.from(atob(result.replaceAll('-', '+').replaceAll('_', '/')), (c) =>
      c.charCodeAt(0),
    );
    const data = JSON.parse(new TextDecoder().decode(bytes)) as TelegramLogin | false;
    return data === false ? 'refused' : data;
  } catch {
    return 'refused';
  }
}
