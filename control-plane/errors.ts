/**
 * Every error the API answers with, in one table: code → HTTP status and title. Callers match `code`, which is
 * stable; `detail` is for people and may change. Rendered as RFC 9457 problem documents by `http/problem.ts`.
 */
export const problems = {
  // The request itself
  validation_failed: { status: 400, title: 'The request does not fit the schema' },
  malformed_request: { status: 400, title: 'The request could not be read' },
  not_found: { status: 404, title: 'Not found' },
  request_timeout: { status: 408, title: 'The request did not arrive in time' },
  head_too_large: { status: 431, title: 'The address and the headers are too large' },
  body_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body must be application/json' },
  too_much_at_once: { status: 422, title: 'This is too much to read at once' },
  rate_limited: { status: 429, title: 'Too many requests' },
  too_many_streams: { status: 429, title: 'Too many event streams are open' },
  idempotency_key_reused: { status: 409, title: 'This Idempotency-Key came with another request before' },
  idempotency_in_progress: {
    status: 409,
    title: 'The first request with this Idempotency-Key has not ended',
  },

  // Who asks
  unauthenticated: { status: 401, title: 'Sign in first' },
  invalid_token: { status: 401, title: 'The token is wrong, expired or revoked' },
  invalid_code: { status: 401, title: 'The code is wrong or no longer valid' },
  invalid_refresh_token: { status: 401, title: 'The refresh token is wrong, expired or revoked' },
  refresh_token_reused: {
    status: 401,
    title: 'This refresh token was used before; its login has been revoked',
  },
  invalid_telegram_data: { status: 401, title: 'The Telegram sign-in data is wrong or too old' },
  invalid_secret: { status: 401, title: 'The secret is wrong' },
  forbidden: { status: 403, title: 'Not yours to see or change' },
  ip_not_allowed: { status: 403, title: 'Not from this address' },
  banned: { status: 403, title: 'This account is banned' },
  superadmin_exists: { status: 409, title: 'There is an admin already' },
  unknown_referral_code: { status: 422, title: 'No such referral code' },

  // People
  telegram_taken: { status: 409, title: 'This Telegram account belongs to another user' },
  last_telegram: { status: 409, title: 'The last Telegram account can not be unlinked' },
  too_many_telegrams: { status: 409, title: 'This user has as many Telegram accounts as they may have' },
  link_expired: { status: 422, title: 'The link is wrong, was used or has expired' },
  is_admin: { status: 409, title: 'This user is an admin' },
  last_admin: { status: 409, title: 'There would be no admin left' },
  user_deleted: { status: 409, title: 'This user has been deleted' },
  payout_open: { status: 409, title: 'A payout of this user is under way' },
  unknown_promo_code: { status: 422, title: 'No such promo code' },
  promo_expired: { status: 422, title: 'The promo code has expired' },
  promo_used_up: { status: 409, title: 'The promo code has been used as often as it may be' },
  promo_redeemed: { status: 409, title: 'You have used this promo code as often as you may' },
  promo_code_taken: { status: 409, title: 'There is a promo code of this name' },
  too_many_threads: { status: 409, title: 'There are too many open support threads' },
  thread_closed: { status: 409, title: 'This support thread is closed' },
  broadcast_not_draft: { status: 409, title: 'The broadcast has been started before' },
  broadcast_over: { status: 409, title: 'The broadcast is over' },
  bot_queue_full: { status: 503, title: 'Too many messages wait for Telegram; try again shortly' },

  // Sharing
  consent_required: { status: 403, title: 'The current terms have not been accepted' },
  terms_version_outdated: { status: 409, title: 'These are not the current terms' },
  terms_accepted: { status: 409, title: 'Somebody has accepted these terms; they stay as they are' },
  client_too_old: { status: 403, title: 'This version of the app is no longer supported' },
  region_not_allowed: { status: 403, title: 'Sharing is not open to this region' },
  vpn_detected: { status: 403, title: 'Sharing is not open to VPN, hosting or Tor addresses' },
  denylisted: { status: 403, title: 'This address is on the denylist' },
  too_many_devices: { status: 409, title: 'This account has as many devices as it may have' },

  // Buyers and packages
  account_taken: { status: 409, title: 'Another buyer has this account name' },
  token_revoked: { status: 409, title: 'This token has been revoked' },
  account_suspended: { status: 403, title: 'This buyer account is not active' },
  kyc_required: { status: 403, title: 'This buyer has not been verified yet' },
  policy_not_accepted: { status: 403, title: 'The acceptable-use policy has not been accepted' },
  no_balance: { status: 402, title: 'The prepaid balance is used up' },
  illegal_move: { status: 409, title: 'The package can not move from its status to this one' },
  package_in_use: { status: 409, title: 'Another package of this provider and address is in use' },
  too_many_tokens: { status: 409, title: 'This buyer has as many tokens and passwords as they may have' },
  too_many_sub_users: { status: 409, title: 'This buyer has as many sub-users as they may have' },
  csv_malformed: { status: 400, title: 'The CSV could not be read' },

  // Money
  held_by_traffic: { status: 422, title: 'Less would be left than is set aside for running traffic' },
  below_zero: { status: 422, title: 'The balance would fall below zero' },
  ledger_conflict: { status: 409, title: 'This was booked before with other content' },
  below_minimum: { status: 422, title: 'The amount is below the smallest payout' },
  over_available: { status: 422, title: 'The amount is above the available balance' },
  over_daily_limit: { status: 422, title: 'The amount is above what may be withdrawn today' },
  network_not_allowed: { status: 422, title: 'Payouts do not go over this network' },
  bad_address: { status: 422, title: 'This is not an address of the network, or its checksum is wrong' },
  payout_not_pending: { status: 409, title: 'The payout is on its way already' },
  payout_not_released: { status: 409, title: 'The payout has not been released' },
  own_payout: { status: 403, title: 'Nobody approves a payout to themselves' },
  topup_out_of_bounds: { status: 422, title: 'The amount is below the smallest or above the largest top-up' },
  payment_refused: { status: 422, title: 'The payment provider refuses this payment' },
  payments_unavailable: { status: 503, title: 'The payment provider can not be used at the moment' },
  stars_unavailable: { status: 422, title: 'Top-ups in Telegram Stars are not open' },
  not_refundable: { status: 409, title: 'This payment is being given back, or has been' },
  several_buyers: { status: 422, title: 'Several buyers used this session; name one' },
  above_charged: { status: 422, title: 'This is more than was charged and not refunded yet' },
  trial_used: { status: 409, title: 'The trial has been used' },
  trial_unavailable: { status: 422, title: 'There is no trial' },
  invalid_signature: { status: 401, title: 'The signature is wrong' },
  gateway_run_alive: { status: 409, title: 'This run of the gateway is alive and will report by itself' },

  // Abuse
  finding_decided: { status: 409, title: 'This finding has been decided on' },
  finding_without_buyer: { status: 422, title: 'This finding is not about one buyer' },
  report_closed: { status: 409, title: 'This report is closed' },
  report_forgotten: { status: 409, title: 'The texts and addresses of this report have been deleted' },
  legal_hold_state: { status: 409, title: 'The legal hold is not in a state for this' },
  second_admin_needed: { status: 403, title: 'Another admin has to agree' },

  // Operating
  backup_not_configured: { status: 409, title: 'No storage for backups is configured' },
  backup_tool_missing: { status: 503, title: 'pg_dump is not installed here, or does not start' },
  backup_tool_outdated: { status: 503, title: 'pg_dump is older than the database server' },
  gateway_draining: { status: 409, title: 'The gateway is draining already' },
  policy_changed: { status: 409, title: 'The list has been changed since that version' },
  jobs_unavailable: { status: 503, title: 'The job queue has not been set up yet' },

  // The server
  internal: { status: 500, title: 'Something went wrong here' },
  database_unavailable: { status: 503, title: 'The database is away; try again shortly' },
  live_state_unavailable: { status: 503, title: 'The live state is away; try again shortly' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof problems;

/**
 * An answer that is not the one asked for. Thrown by routes and rules, rendered by the error handler.
 * `detail` is shown to the caller: never put a secret, SQL or another person's data into it.
 * `extra` becomes further members of the problem document.
 */
export class Problem extends Error {
  readonly statusCode: number;
  constructor(
    readonly code: ProblemCode,
    readonly detail?: string,
    readonly extra: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(detail ?? problems[code].title, options);
    this.name = 'Problem';
    this.statusCode = problems[code].status;
  }
}
