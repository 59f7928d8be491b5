import { isCidr } from '../gateway/runtime/addresses.js';
import { RULES_OF_BUYERS } from './abuse/rules.js';
import { backupProblems } from './backup/settings.js';
import type { ControlPlaneConfig } from './config.js';
import { PAYOUT_NETWORKS } from './payouts/addresses.js';

const VERSION = /^\d{1,5}\.\d{1,5}\.\d{1,5}$/;

/**
 * What is wrong with settings that could be read one by one: form, and relations between them; one line a
 * problem.
 */
export function configProblems(c: ControlPlaneConfig): string[] {
  const problems: string[] = [];
  if (Buffer.byteLength(c.jwtSecret) < 32) problems.push('TS_JWT_SECRET must be at least 32 bytes');
  for (const [name, secret] of [
    ['TS_BOT_SECRET', c.botSecret],
    ['TS_INTERNAL_SECRET', c.internalSecret],
    ['TS_BOOTSTRAP_SECRET', c.bootstrapSecret],
  ] as const)
    if (secret !== null && Buffer.byteLength(secret) < 16) problems.push(`${name} must be at least 16 bytes`);
  for (const [name, networks] of [
    ['TS_TRUSTED_PROXIES', c.trustedProxies],
    ['TS_ADMIN_IPS', c.adminIps],
  ] as const)
    if (!networks.every(isCidr)) problems.push(`${name} must be IP addresses or CIDRs`);
  if (!c.corsOrigins.every((origin) => URL.canParse(origin) && new URL(origin).origin === origin))
    problems.push('TS_CORS_ORIGINS must be origins such as https://app.example.com, without a path');
  if (!c.allowedCountries.every((country) => /^[A-Z]{2}$/.test(country)))
    problems.push('TS_ALLOWED_COUNTRIES must be two-letter codes in capitals');
  for (const [name, version] of [
    ['TS_MIN_CLIENT_VERSION', c.minClientVersion],
    ['TS_APP_LATEST', c.appLatest],
  ] as const)
    if (!VERSION.test(version)) problems.push(`${name} must be x.y.z`);
  if (!c.withdrawNetworks.every((name) => (PAYOUT_NETWORKS as readonly string[]).includes(name)))
    problems.push(`TS_WITHDRAW_NETWORKS must be of ${PAYOUT_NETWORKS.join(', ')}`);
  for (const [name, rules] of [
    ['TS_ABUSE_THROTTLE_RULES', c.abuseThrottleRules],
    ['TS_ABUSE_SUSPEND_RULES', c.abuseSuspendRules],
  ] as const)
    if (!rules.every((rule) => (RULES_OF_BUYERS as readonly string[]).includes(rule)))
      problems.push(`${name} must be of ${RULES_OF_BUYERS.join(', ')}`);
  const cryptomus = [c.cryptomusMerchantId, c.cryptomusPaymentKey, c.cryptomusPayoutKey];
  if (new Set(cryptomus.map((value) => value === null)).size > 1)
    problems.push(
      'TS_CRYPTOMUS_MERCHANT_ID, TS_CRYPTOMUS_PAYMENT_KEY and TS_CRYPTOMUS_PAYOUT_KEY go together',
    );
  for (const [name, url] of [
    ['TS_CRYPTOMUS_URL', c.cryptomusUrl],
    ['TS_PUBLIC_API_URL', c.publicApiUrl],
    ['TS_CONSOLE_URL', c.consoleUrl],
    ['TS_FCM_URL', c.fcmUrl],
    ['TS_FCM_TOKEN_URL', c.fcmTokenUrl],
  ] as const)
    if (url !== null && !(c.production ? /^https:\/\/[^/]/ : /^https?:\/\/[^/]/).test(url))
      problems.push(`${name} must be https://…${c.production ? '' : ' or http://…'}`);
  if (c.topupMicrosMin > c.topupMicrosMax)
    problems.push('TS_TOPUP_MICROS_MIN must not be above TS_TOPUP_MICROS_MAX');
  problems.push(...backupProblems(c, c.production));
  if (c.botWebhookSecret !== null && !/^[A-Za-z0-9_-]{16,256}$/.test(c.botWebhookSecret))
    problems.push('TS_BOT_WEBHOOK_SECRET must be 16 to 256 of A-Z a-z 0-9 _ -');
  if (c.botUpdates === 'webhook' && (c.botWebhookSecret === null || c.publicApiUrl === null))
    problems.push('TS_BOT_UPDATES=webhook needs TS_BOT_WEBHOOK_SECRET and TS_PUBLIC_API_URL');
  if (c.adminChatId !== null && !/^-?[1-9][0-9]{0,15}$/.test(c.adminChatId))
    problems.push('TS_ADMIN_CHAT_ID must be a number, such as -1001234567890');
  if (!/^wss?:\/\//.test(c.tunnelUrl)) problems.push('TS_TUNNEL_URL must be ws:// or wss://');
  if (c.refreshTokenTtlS < c.accessTokenTtlS)
    problems.push('TS_REFRESH_TOKEN_TTL_S must not be shorter than TS_ACCESS_TOKEN_TTL_S');
  if (c.production) {
    if (c.botToken === null)
      problems.push('TS_BOT_TOKEN is required in production: login codes go through it');
    if (c.devLoopbackCountry !== null) problems.push('TS_DEV_LOOPBACK_COUNTRY is refused in production');
  }
  return problems;
}
