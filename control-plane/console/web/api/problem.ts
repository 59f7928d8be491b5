/** A call that was not answered as asked: what to tell people, and which field of a form it is about. */
export class ApiError extends Error {
  constructor(
    /** 0: nothing answered. */
    readonly status: number,
    /** Stable code of the API (`control-plane/errors.ts`); `offline` when nothing answered. */
    readonly code: string,
    message: string,
    /** By name of the body's or query's field, as the API calls it. */
    readonly fields: Readonly<Record<string, string>> = {},
    readonly requestId: string | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** Sentences people can act on, where the API's own title does not say what to do. */
const ADVICE: Readonly<Record<string, string>> = {
  validation_failed: 'Some of this does not fit. Look at the marked fields.',
  rate_limited: 'That was too often. Wait a moment and try again.',
  too_many_streams: 'Live figures are open in too many windows. Close some.',
  unauthenticated: 'Sign in first.',
  invalid_token: 'This token is wrong, has expired or was revoked. Check it, or ask for a new one.',
  invalid_code: 'The code is wrong or no longer good. Check it, or ask for a new one.',
  invalid_telegram_data: 'Telegram did not confirm this sign-in. Start again from Telegram.',
  forbidden: 'This account may not do that.',
  ip_not_allowed: 'Signing in is not allowed from this network. Use one that is on the list.',
  banned: 'This account is banned. Write to support if you think that is a mistake.',
  below_minimum: 'This is less than the smallest payout.',
  over_available: 'This is more than you have available.',
  over_daily_limit: 'This is more than may be withdrawn today. Ask for less, or come back tomorrow.',
  bad_address: 'This is not a valid address of that network. Copy it again from your wallet.',
  network_not_allowed: 'Payouts do not go over this network. Choose another one.',
  payout_open: 'A payout is under way. Wait until it has arrived, then try again.',
  payout_not_pending: 'The payout is on its way already and can not be called back.',
  idempotency_in_progress: 'The first try is still running. Wait a moment and look again.',
  kyc_required: 'This account has not been verified yet. Support can tell how long it takes.',
  policy_not_accepted: 'Accept the acceptable-use policy first.',
  no_balance: 'The balance is used up. Top up to go on.',
  payments_unavailable: 'The payment provider can not be used at the moment. Nothing was charged.',
  internal: 'Something went wrong on our side. Try again; if it stays, tell support the number below.',
  database_unavailable: 'The service is busy. Try again in a few seconds.',
  live_state_unavailable: 'Live figures are away for a moment. Try again in a few seconds.',
  offline: 'No answer from the server. Check your connection and try again.',
};

interface ProblemDocument {
  code?: string;
  title?: string;
  detail?: string;
  request_id?: string;
  errors?: { path: string; message: string }[];
}

/** Reads a problem document, or whatever else came instead of one. */
export function apiErrorOf(status: number, body: unknown): ApiError {
  const problem = (typeof body === 'object' && body !== null ? body : {}) as ProblemDocument;
  const code = problem.code ?? `http_${status}`;
  const advice = ADVICE[code];
  const detail = problem.detail;
  const message =
    advice !== undefined && detail !== undefined && status !== 401
      ? `${advice} (${detail})`
      : (advice ?? detail ?? problem.title ?? `The server answered ${status}.`);
  const fields = Object.fromEntries(
    (problem.errors ?? []).map(({ path, message }) => [
      path.replace(/^\/(body|querystring|params|headers)\//, ''),
      // Nobody reads a regular expression; what the field takes stands beside it.
      message.replace(/^must match pattern .*/, 'is not of the form that is asked for'),
    ]),
  );
  return new ApiError(status, code, message, fields, problem.request_id ?? null);
}

/** Anything thrown as an ApiError. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof TypeError) return new ApiError(0, 'offline', ADVICE.offline ?? '');
  return new ApiError(0, 'unexpected', error instanceof Error ? error.message : String(error));
}
