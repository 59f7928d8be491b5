import { applyTelegramTheme } from '../shell/theme.js';

/**
 * What Telegram puts into the address of a Mini App (core.telegram.org/bots/webapps, "Initializing Mini Apps"), read
 * without a script of Telegram's. Null: the page was not opened by Telegram.
 */
let launch: { initData: string } | null = null;

/** Takes the launch parameters out of the address, so that they are neither kept nor shared. Call before rendering. */
export function takeLaunchParameters(): void {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const initData = parameters.get('tgWebAppData');
  if (initData === null) return;
  launch = { initData };
  history.replaceState(null, '', location.pathname + location.search);
  readTheme(parameters.get('tgWebAppThemeParams'));
  listen();
  post('web_app_ready');
  post('web_app_expand');
}

/** Telegram's init data as it is, for `POST /api/auth/telegram`; null outside Telegram. */
export function miniAppInitData(): string | null {
  return launch?.initData ?? null;
}

function readTheme(json: string | null): void {
  if (json === null) return;
  try {
    applyTelegramTheme(JSON.parse(json) as Record<string, string>);
  } catch {
    // Not a theme: ours does.
  }
}

const TELEGRAM_WEB = 'https://web.telegram.org';

interface TelegramProxy {
  postEvent: (type: string, data: string) => void;
}

/** Tells Telegram something, by whichever way this client of it has. */
function post(eventType: string): void {
  const native = (window as { TelegramWebviewProxy?: TelegramProxy }).TelegramWebviewProxy;
  if (native !== undefined) native.postEvent(eventType, '{}');
  else if (window.parent !== window)
    window.parent.postMessage(JSON.stringify({ eventType, eventData: {} }), TELEGRAM_WEB);
}

/** Follows changes of the theme: apps call `receiveEvent`, the web client posts messages. */
function listen(): void {
  const receiveEvent = (type: string, data: { theme_params?: Record<string, string> }) => {
    if (type === 'theme_changed' && data.theme_params !== undefined) applyTelegramTheme(data.theme_params);
  };
  Object.assign(window, { Telegram: { WebView: { receiveEvent } } });
  addEventListener('message', (event) => {
    if (event.origin !== TELEGRAM_WEB || typeof event.data !== 'string') return;
    try {
      const { eventType, eventData } = JSON.parse(event.data) as { eventType: string; eventData: object };
      receiveEvent(eventType, eventData ?? {});
    } catch {
      // No message of Telegram's.
    }
  });
}
