import { createApiClient } from '../../../client/client.js';
import { forgetSession, type Role, readSession, type Session, sessionOf, writeSession } from './session.js';

/** An access token this close to its end is traded before it is used, ms. */
const EARLY_MS = 20_000;

const client = createApiClient({ url: location.origin });

/**
 * A token that is good to be sent, or null: not signed in. `refused`: the one the server just answered 401 to.
 * Refresh tokens are good once, so one tab at a time trades, and those that waited take what it got.
 */
export async function currentToken(role: Role, refused?: string): Promise<string | null> {
  const session = readSession(role);
  if (session === null) return null;
  const stale =
    session.accessToken === refused ||
    (session.refreshToken !== null &&
      session.expiresAtMs !== null &&
      session.expiresAtMs - Date.now() < EARLY_MS);
  if (!stale) return session.accessToken;
  return oneAtATime(`ts.refresh.${role}`, () => trade(role, session));
}

async function trade(role: Role, stale: Session): Promise<string | null> {
  const session = readSession(role);
  if (session === null) return null;
  // Another tab was first. Access tokens issued within one second may be the same, refresh tokens never are.
  if (session.accessToken !== stale.accessToken || session.refreshToken !== stale.refreshToken)
    return session.accessToken;
  if (session.refreshToken === null) {
    forgetSession(role);
    return null;
  }
  const { data, response } = await client.POST('/api/auth/refresh', {
    body: { refresh_token: session.refreshToken },
  });
  if (data !== undefined) {
    writeSession(role, sessionOf(data, session.keep));
    return data.access_token;
  }
  // Only a refusal ends the session; a server that is away or busy does not.
  if (response.status === 401) {
    forgetSession(role);
    return null;
  }
  throw new TypeError('the session could not be renewed');
}

const waiting = new Map<string, Promise<unknown>>();

/** What one window stores is seen by windows in other processes a moment later; the next has its turn after that. */
const SPREAD_MS = 150;

/** Web Locks hold over tabs; without them (an insecure origin) at least this tab queues. */
async function oneAtATime<T>(name: string, work: () => Promise<T>): Promise<T> {
  if (navigator.locks !== undefined)
    return new Promise((resolve, reject) => {
      void navigator.locks.request(name, async () => {
        await work().then(resolve, reject);
        await new Promise((spread) => setTimeout(spread, SPREAD_MS));
      });
    });
  const before = waiting.get(name) ?? Promise.resolve();
  const mine = before.then(work, work);
  waiting.set(name, mine);
  return mine;
}
