import type { Account, AccountStore, Tokens } from './account.js';
import { CommandFailure } from './command-failure.js';

/** Time one call may take, ms. */
const CALL_TIMEOUT_MS = 15_000;

/** An access token is not used for the last of its life, ms: clocks and lines are not exact. */
const ACCESS_MARGIN_MS = 15_000;

export type Method = 'GET' | 'POST' | 'DELETE';

/** An answer of the control plane to its owner's program. */
export type UserAnswer =
  | { readonly ok: true; readonly body: Record<string, unknown> }
  | { readonly ok: false; readonly status: number; readonly code: string; readonly detail: string };

/** One call. Throws a CommandFailure when the server can not be reached. */
export async function callApi(
  apiUrl: string,
  method: Method,
  path: string,
  { token, body }: { token?: string; body?: object } = {},
): Promise<UserAnswer> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(apiUrl.replace(/\/+$/, '') + path, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: 'error', // tokens must not follow to another host
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    text = await response.text();
  } catch (error) {
    const why = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).name;
    throw new CommandFailure(
      'failed',
      `The server at ${new URL(apiUrl).host} could not be reached (${why}).`,
    );
  }
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(text || '{}');
  } catch {
    throw new CommandFailure('failed', `${new URL(apiUrl).host} gave an answer that is no JSON.`);
  }
  if (response.ok) return { ok: true, body: parsed };
  const { code, detail, title } = parsed;
  return {
    ok: false,
    status: response.status,
    code: typeof code === 'string' ? code : `http_${response.status}`,
    detail: [detail, title].find((words) => typeof words === 'string') ?? `HTTP ${response.status}`,
  };
}

/** A pair as the API gives it; null: not understood. */
export function tokensOf(body: Record<string, unknown>): Tokens | null {
  const { access_token: access, refresh_token: refresh, expires_in: seconds } = body;
  if (typeof access !== 'string' || typeof refresh !== 'string' || typeof seconds !== 'number') return null;
  return { access, refresh, accessUntilMs: Date.now() + seconds * 1_000 };
}

const SIGNED_OUT =
  'This machine is signed out (it goes on sharing by its device key). For this, log in again: traffic-share agent login';

/**
 * Calls in the name of the owner who signed in here. A refresh token is good once, and used twice it would end the
 * login: so one process at a time trades it in, after a look whether another one just did, and the new pair is on disk
 * before it is used. Killed between the two, this machine is signed out; its device key goes on.
 */
export class UserApi {
  constructor(private readonly store: AccountStore) {}

  /** Throws a CommandFailure (`not_signed_in`) when nobody is signed in here any more. */
  async call(method: Method, path: string, body?: object): Promise<UserAnswer> {
    const account = await this.store.read();
    const tokens = account?.tokens ?? null;
    if (account === null || tokens === null) throw new CommandFailure('not_signed_in', SIGNED_OUT);
    const inTime = tokens.accessUntilMs - ACCESS_MARGIN_MS > Date.now();
    const send = (token: string) =>
      callApi(account.apiUrl, method, path, { token, ...(body === undefined ? {} : { body }) });
    if (inTime) {
      const answer = await send(tokens.access);
      if (answer.ok || answer.status !== 401) return answer;
    }
    return send(await this.#refreshed(tokens.access));
  }

  /** An access token other than the one that is of no use any more. */
  #refreshed(stale: string): Promise<string> {
    return this.store
      .update<string | null>(async (account) => {
        const tokens = account?.tokens ?? null;
        if (account === null || tokens === null) throw new CommandFailure('not_signed_in', SIGNED_OUT);
        if (tokens.access !== stale) return { account, result: tokens.access };
        const answer = await callApi(account.apiUrl, 'POST', '/api/auth/refresh', {
          body: { refresh_token: tokens.refresh },
        });
        const fresh = answer.ok ? tokensOf(answer.body) : null;
        if (fresh !== null) return { account: { ...account, tokens: fresh }, result: fresh.access };
        if (!answer.ok && answer.status !== 401)
          throw new CommandFailure('failed', `The login could not be renewed: ${answer.detail}`);
        const signedOut: Account = { ...account, tokens: null };
        return { account: signedOut, result: null };
      })
      .then((access) => {
        if (access === null) throw new CommandFailure('not_signed_in', SIGNED_OUT);
        return access;
      });
  }
}
