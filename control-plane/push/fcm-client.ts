import type { Clock } from '../../gateway/runtime/clock.js';
import { GoogleToken, TokenRefused } from './google-token.js';
import type { ServiceAccount } from './service-account.js';

export interface FcmSettings {
  account: ServiceAccount;
  /** Root of FCM, without a slash at its end. */
  url: string;
  /** Where access tokens come from; null: where the service account says. */
  tokenUrl: string | null;
  timeoutMs: number;
}

/** One notice for one device. */
export interface PushMessage {
  /** Of the device, as the app gave it. */
  token: string;
  title: string;
  body: string;
  /** For the app. */
  data: Readonly<Record<string, string>>;
  /** A later message with the same one takes the place of this one on the screen: sent twice, it is seen once. */
  tag: string;
}

/** What became of a push. */
export type PushOutcome =
  | { kind: 'sent' }
  /** The app is gone from there, or the token is another project's: it will never work again. */
  | { kind: 'token_gone' }
  /** This message will never be taken. */
  | { kind: 'refused'; why: string }
  /** Not now. `everyone`: nothing is taken at the moment; `afterMs`: as the server said. */
  | { kind: 'later'; why: string; everyone: boolean; afterMs: number | null };

/** A Retry-After longer than this is cut, ms. */
const RETRY_AFTER_MS_MAX = 3_600_000;

/**
 * Firebase Cloud Messaging, HTTP v1.
 * https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send
 */
export class FcmClient {
  readonly #token: GoogleToken;
  readonly #url: string;

  constructor(
    private readonly settings: FcmSettings,
    clock: Clock,
  ) {
    const { account, timeoutMs, tokenUrl } = settings;
    this.#token = new GoogleToken(account, { clock, timeoutMs, tokenUrl: tokenUrl ?? account.tokenUrl });
    this.#url = `${settings.url}/v1/projects/${encodeURIComponent(account.projectId)}/messages:send`;
  }

  /** Sends one; a token that Google takes no more is renewed once. Never rejects. */
  async send(message: PushMessage): Promise<PushOutcome> {
    const first = await this.#attempt(message);
    if (first !== 'unauthenticated') return first;
    const second = await this.#attempt(message);
    if (second !== 'unauthenticated') return second;
    return { kind: 'later', why: 'a fresh access token is refused', everyone: true, afterMs: null };
  }

  async #attempt({ token, title, body, data, tag }: PushMessage): Promise<PushOutcome | 'unauthenticated'> {
    let access: string;
    try {
      access = await this.#token.get();
    } catch (error) {
      const why = error instanceof TokenRefused ? error.message : 'the private key is of no use';
      return { kind: 'later', why: `no access token: ${why}`, everyone: true, afterMs: null };
    }
    let response: Response;
    let answer: unknown;
    try {
      response = await fetch(this.#url, {
        method: 'POST',
        headers: { authorization: `Bearer ${access}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          message: { token, notification: { title, body }, data, android: { notification: { tag } } },
        }),
        redirect: 'error',
        signal: AbortSignal.timeout(this.settings.timeoutMs),
      });
      answer = await response.json().catch(() => null);
    } catch (error) {
      return { kind: 'later', why: `no answer (${(error as Error).name})`, everyone: false, afterMs: null };
    }
    if (response.ok) return { kind: 'sent' };
    if (response.status === 401) {
      this.#token.forget(access);
      return 'unauthenticated';
    }
    return outcomeOf(response.status, errorCodeOf(answer), response.headers.get('retry-after'));
  }
}

/** By https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode */
function outcomeOf(status: number, code: string, retryAfter: string | null): PushOutcome {
  const why = `HTTP ${status} ${code}`.trim();
  if (code === 'UNREGISTERED' || code === 'SENDER_ID_MISMATCH') return { kind: 'token_gone' };
  if (status === 429 || status === 503)
    return { kind: 'later', why, everyone: true, afterMs: retryAfterMs(retryAfter) };
  if (status >= 500) return { kind: 'later', why, everyone: false, afterMs: retryAfterMs(retryAfter) };
  // The project, not the message: the API is off, this account may not, or nothing is at the address (TS_FCM_URL)
  if (status === 403 || status === 404) return { kind: 'later', why, everyone: true, afterMs: null };
  return { kind: 'refused', why };
}

/** FCM's own code in the details, else the general one. */
function errorCodeOf(answer: unknown): string {
  const { error } = (answer ?? {}) as { error?: { status?: unknown; details?: unknown } };
  const details = Array.isArray(error?.details) ? (error.details as { errorCode?: unknown }[]) : [];
  const code = details.find((detail) => typeof detail?.errorCode === 'string')?.errorCode ?? error?.status;
  return typeof code === 'string' && /^[A-Z_]{1,40}$/.test(code) ? code : '';
}

function retryAfterMs(header: string | null): number | null {
  if (header === null) return null;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1_000;
  return Number.isNaN(seconds) ? null : Math.min(RETRY_AFTER_MS_MAX, Math.max(0, seconds * 1_000));
}
