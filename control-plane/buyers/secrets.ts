import { createHash, randomBytes } from 'node:crypto';

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Random letters and digits, each of the 62 equally likely: 5.95 bits a character. */
export function randomBase62(length: number): string {
  let text = '';
  while (text.length < length)
    for (const byte of randomBytes(length * 2)) {
      // 248 = 4 × 62: larger bytes would make some digits likelier.
      if (byte < 248 && text.length < length) text += DIGITS[byte % 62];
    }
  return text;
}

/**
 * What a buyer token starts with. Nothing else follows it than letters and digits: tokens are used as proxy
 * passwords too, which never contain `- _ : @ / %` (PROXY.md, "Username grammar").
 */
export const BUYER_TOKEN_PREFIX = 'tsb';
const TOKEN_DIGITS = 40;
/** 24 digits of 62: 142 bits. */
const PASSWORD_DIGITS = 24;
/** Characters of a secret kept readable, to recognise it in a list. */
export const SECRET_PREFIX_SHOWN = 8;

export const newBuyerToken = () => BUYER_TOKEN_PREFIX + randomBase62(TOKEN_DIGITS);
export const newProxyPassword = () => randomBase62(PASSWORD_DIGITS);

/** SHA-256, as secrets are stored: each of them has at least 128 random bits. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}
