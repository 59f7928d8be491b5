import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';

/** SHA-256 of a secret with at least 128 random bits, as stored. */
export function sha256(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** 256 random bits as text, after a prefix that tells what it is (`tsd_`, `tsr_`). */
export function randomSecret(prefix = ''): string {
  return prefix + randomBytes(32).toString('base64url');
}

/** Whether two secrets are equal, in a time that does not depend on where they differ. */
export function secretsEqual(a: string | Buffer, b: string | Buffer): boolean {
  // Hashed first: timingSafeEqual wants equal lengths, and the length would leak otherwise.
  const hash = (value: string | Buffer) => createHash('sha256').update(value).digest();
  return timingSafeEqual(hash(a), hash(b));
}

/** A key of its own for one purpose, derived from the server's secret. */
export function derivedKey(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, 'traffic-share', purpose, 32));
}

/** HMAC-SHA256. */
export function hmac(key: string | Buffer, ...parts: (string | Buffer)[]): Buffer {
  const h = createHmac('sha256', key);
  for (const part of parts) h.update(part);
  return h.digest();
}
