import { signal } from '@preact/signals';

/** Whose pages. A person may be signed in as more than one. */
export type Role = 'provider' | 'buyer' | 'admin';
export const ROLES: readonly Role[] = ['provider', 'buyer', 'admin'];

/** What signs this browser in as a role. */
export interface Session {
  accessToken: string;
  /** Null: the access token is all there is; when it ends, sign in again. */
  refreshToken: string | null;
  /** When the access token ends, ms since 1970; null: not told. */
  expiresAtMs: number | null;
  /** Kept in this browser after its windows are closed; otherwise in this tab alone. */
  keep: boolean;
}

const keyOf = (role: Role) => `ts.session.${role}`;

/** Goes up whenever somebody signs in or out, in whichever tab. */
export const sessionRevision = signal(0);

function stored(role: Role): Session | null {
  for (const storage of [sessionStorage, localStorage]) {
    const text = storage.getItem(keyOf(role));
    if (text === null) continue;
    try {
      return JSON.parse(text) as Session;
    } catch {
      storage.removeItem(keyOf(role));
    }
  }
  return null;
}

/** Read anew each time: another tab may have refreshed it. */
export function readSession(role: Role): Session | null {
  sessionRevision.value; // who shows it shows it anew
  return stored(role);
}

export function writeSession(role: Role, session: Session): void {
  const [to, from] = session.keep ? [localStorage, sessionStorage] : [sessionStorage, localStorage];
  from.removeItem(keyOf(role));
  to.setItem(keyOf(role), JSON.stringify(session));
  sessionRevision.value = sessionRevision.peek() + 1;
}

export function forgetSession(role: Role): void {
  sessionStorage.removeItem(keyOf(role));
  localStorage.removeItem(keyOf(role));
  sessionRevision.value = sessionRevision.peek() + 1;
}

/** Follows what other tabs do to kept sessions. */
export function followOtherTabs(): void {
  addEventListener('storage', (event) => {
    if (event.key === null || event.key.startsWith('ts.session.'))
      sessionRevision.value = sessionRevision.peek() + 1;
  });
}

/** The roles this browser is signed in as. */
export function signedInRoles(): Role[] {
  return ROLES.filter((role) => readSession(role) !== null);
}

/** An answer of the API with tokens, as a session. */
export function sessionOf(
  answer: { access_token: string; refresh_token?: string; expires_in: number },
  keep: boolean,
): Session {
  return {
    accessToken: answer.access_token,
    refreshToken: answer.refresh_token ?? null,
    expiresAtMs: Date.now() + answer.expires_in * 1_000,
    keep,
  };
}
