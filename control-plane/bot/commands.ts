/** Commands of everybody, in the order they are listed in; `cmd-<name>` says what each is for. */
export const COMMANDS = [
  'balance',
  'stats',
  'devices',
  'sessions',
  'withdraw',
  'referral',
  'promo',
  'support',
  'consent',
  'login',
  'topup',
  'language',
  'help',
] as const;

/** Beside those, of admins. */
export const ADMIN_COMMANDS = ['admin', 'users', 'payouts', 'system', 'broadcast'] as const;
