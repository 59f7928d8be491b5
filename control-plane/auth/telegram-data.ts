import { createHash } from 'node:crypto';
import { hmac, secretsEqual } from './secrets.js';

/** How old sign-in data may be. Mini Apps keep theirs while they are open, hence a day. */
export const TELEGRAM_DATA_AGE_MAX_S = 86_400;
/** Clocks differ; data from further ahead than this is refused. */
const CLOCK_SKEW_MAX_S = 60;

export interface TelegramIdentity {
  telegramId: number;
  username: string | null;
  languageCode: string | null;
  /** Start parameter of the Mini App link: carries the referral code. */
  startParam: string | null;
}

export type TelegramDataResult =
  | ({ ok: true } & TelegramIdentity)
  | { ok: false; reason: 'malformed' | 'bad_hash' | 'too_old' };

/** `name=value` lines in order of their names, without `hash`: what both kinds of data are signed over. */
function checkString(fields: Iterable<readonly [string, string]>): string {
  return [...fields]
    .filter(([name]) => name !== 'hash')
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('\n');
}

function ageProblem(authDate: string | undefined, nowMs: number): 'malformed' | 'too_old' | null {
  if (authDate === undefined || !/^\d{1,12}$/.test(authDate)) return 'malformed';
  const ageS = nowMs / 1000 - Number(authDate);
  return ageS > TELEGRAM_DATA_AGE_MAX_S || ageS < -CLOCK_SKEW_MAX_S ? 'too_old' : null;
}

const isTelegramId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) > 0;
const textOrNull = (value: unknown) => (typeof value === 'string' && value !== '' ? value : null);

/**
 * Checks the init data of a Mini App: HMAC-SHA256 with the key HMAC("WebAppData", bot token) over every field but
 * `hash` (`signature` included).
 * https://core.telegram.org/bots/webapps#validating-data-received-via-the-mini-app
 */
export function verifyInitData(initData: string, botToken: string, nowMs: number): TelegramDataResult {
  const fields = new Map(new URLSearchParams(initData));
  const hash = fields.get('hash');
  const userJson = fields.get('user');
  if (hash === undefined || userJson === undefined) return { ok: false, reason: 'malformed' };
  const expected = hmac(hmac('WebAppData', botToken), checkString(fields)).toString('hex');
  if (!secretsEqual(hash, expected)) return { ok: false, reason: 'bad_hash' };
  const problem = ageProblem(fields.get('auth_date'), nowMs);
  if (problem !== null) return { ok: false, reason: problem };
  let user: { id?: unknown; username?: unknown; language_code?: unknown } | null;
  try {
    user = JSON.parse(userJson);
  } catch {
    user = null;
  }
  if (user === null || !isTelegramId(user.id)) return { ok: false, reason: 'malformed' };
  return {
    ok: true,
    telegramId: user.id,
    username: textOrNull(user.username),
    languageCode: textOrNull(user.language_code),
    startParam: textOrNull(fields.get('start_param')),
  };
}

/** What the Login Widget hands to the page. */
export interface LoginWidgetData {
  id: number;
  first_name?: string;
  last_name?: string;
  username?: string;
  photo_url?: string;
  auth_date: number;
  hash: string;
}

/**
 * Checks the data of the Login Widget: HMAC-SHA256 with the key SHA-256(bot token) over every field but `hash`.
 * https://core.telegram.org/widgets/login#checking-authorization
 */
export function verifyLoginWidget(
  data: LoginWidgetData,
  botToken: string,
  nowMs: number,
): TelegramDataResult {
  const fields = Object.entries(data).map(([name, value]) => [name, String(value)] as const);
  const key = createHash('sha256').update(botToken).digest();
  if (!secretsEqual(data.hash, hmac(key, checkString(fields)).toString('hex')))
    return { ok: false, reason: 'bad_hash' };
  const problem = ageProblem(String(data.auth_date), nowMs);
  if (problem !== null) return { ok: false, reason: problem };
  if (!isTelegramId(data.id)) return { ok: false, reason: 'malformed' };
  return {
    ok: true,
    telegramId: data.id,
    username: textOrNull(data.username),
    languageCode: null,
    startParam: null,
  };
}
