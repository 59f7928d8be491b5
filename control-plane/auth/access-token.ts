import { jwtVerify, SignJWT } from 'jose';

const ISSUER = 'traffic-share';
const key = (secret: string) => new TextEncoder().encode(secret);

export interface AccessTokenClaims {
  userId: string;
  role: 'user' | 'admin';
  /** The login (table `logins`) it belongs to: revoking that ends the token at once. */
  loginId: string;
}

/**
 * A JWT (HS256) that opens the API as a provider or an admin. `ttlS`: seconds from `nowMs` (default: now) until it
 * expires. It is good only while its login exists and is not revoked.
 */
export async function issueAccessToken(
  secret: string,
  { userId, role, loginId, ttlS }: AccessTokenClaims & { ttlS: number },
  nowMs = Date.now(),
): Promise<string> {
  const nowS = Math.floor(nowMs / 1000);
  return new SignJWT({ role, sid: loginId })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuer(ISSUER)
    .setSubject(userId)
    .setIssuedAt(nowS)
    .setExpirationTime(nowS + ttlS)
    .sign(key(secret));
}

/** What the token says and until when (`expiresAtMs`: ms since the Unix epoch), or null when it is not ours, altered or expired. Does not look at the login. */
export async function verifyAccessToken(
  secret: string,
  token: string,
  nowMs: number,
): Promise<(AccessTokenClaims & { expiresAtMs: number }) | null> {
  try {
    const { payload } = await jwtVerify(token, key(secret), {
      algorithms: ['HS256'],
      issuer: ISSUER,
      currentDate: new Date(nowMs),
      requiredClaims: ['exp', 'sub', 'sid', 'role'],
    });
    const { sub, sid, role, exp } = payload;
    if (
      exp === undefined ||
      typeof sub !== 'string' ||
      typeof sid !== 'string' ||
      (role !== 'user' && role !== 'admin')
    )
      return null;
    return { userId: sub, role, loginId: sid, expiresAtMs: exp * 1_000 };
  } catch {
    return null; // jose throws for each way a token can be bad; to the caller they are one
  }
}
