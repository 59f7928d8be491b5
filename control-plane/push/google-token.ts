import { importPKCS8, SignJWT } from 'jose';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { ServiceAccount } from './service-account.js';

/** What the token is for. */
const SCOPE = 'https://www.googleapis.com/auth/firebase.messaging';
/** Life of an assertion; Google takes an hour at most. */
const ASSERTION_S = 3_600;
/** A token is renewed so long before it ends. */
const MARGIN_MS = 60_000;

/** No access token could be had: no answer, or the service account is refused. */
export class TokenRefused extends Error {}

/**
 * Access tokens of a service account: an assertion signed with RS256 is traded for one (RFC 7523), which is used until
 * shortly before its end. Who asks meanwhile waits for the same answer.
 */
export class GoogleToken {
  #token: string | null = null;
  #untilMs = 0;
  #asking: Promise<string> | null = null;

  constructor(
    private readonly account: ServiceAccount,
    private readonly deps: { clock: Clock; timeoutMs: number; tokenUrl: string },
  ) {}

  /** Throws TokenRefused. */
  get(): Promise<string> {
    if (this.#token !== null && this.deps.clock.monotonicMs() < this.#untilMs)
      return Promise.resolve(this.#token);
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  /** This one is of no use any more. */
  forget(token: string): void {
    if (this.#token === token) this.#token = null;
  }

  async #ask(): Promise<string> {
    const { clock, timeoutMs, tokenUrl } = this.deps;
    const assertion = await this.#assertion();
    let response: Response;
    let body: { access_token?: unknown; expires_in?: unknown; error?: unknown };
    try {
      response = await fetch(tokenUrl, {
        method: 'POST',
        body: new URLSearchParams({
          grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
          assertion,
        }),
        redirect: 'error',
        signal: AbortSignal.timeout(timeoutMs),
      });
      body = (await response.json()) as typeof body;
    } catch (error) {
      throw new TokenRefused(`no answer (${(error as Error).name})`);
    }
    const { access_token: token, expires_in: seconds } = body;
    if (!response.ok)
      throw new TokenRefused(
        `HTTP ${response.status} ${typeof body.error === 'string' ? body.error : ''}`.trim(),
      );
    if (typeof token !== 'string' || typeof seconds !== 'number')
      throw new TokenRefused('an answer without a token');
    this.#token = token;
    this.#untilMs = clock.monotonicMs() + Math.max(0, seconds * 1_000 - MARGIN_MS);
    return token;
  }

  async #assertion(): Promise<string> {
    const { clientEmail, privateKey, privateKeyId } = this.account;
    const nowS = Math.floor(this.deps.clock.nowMs() / 1_000);
    return new SignJWT({ scope: SCOPE })
      .setProtectedHeader({ alg: 'RS256', typ: 'JWT', ...(privateKeyId !== null && { kid: privateKeyId }) })
      .setIssuer(clientEmail)
      .setAudience(this.account.tokenUrl)
      .setIssuedAt(nowS)
      .setExpirationTime(nowS + ASSERTION_S)
      .sign(await importPKCS8(privateKey, 'RS256'));
  }
}
