import { apiOf, ask } from '../api/client.js';
import { asApiError } from '../api/problem.js';
import { toast } from '../shell/toasts.js';
import { forgetSession, type Role, readSession } from './session.js';

/** The server is waited for so long, ms. */
const TELL_MS = 2_000;

/** Ends the login at the server and forgets it here; here in any case, on a shared computer that is what matters. */
export async function signOut(role: Role): Promise<void> {
  try {
    // A buyer's token is no login: it lives on for the programs that use it.
    if (role !== 'buyer' && readSession(role) !== null)
      await Promise.race([
        ask(apiOf(role).POST('/api/auth/logout', { body: {} })),
        new Promise((_, reject) => setTimeout(reject, TELL_MS)),
      ]);
  } catch (error) {
    if (asApiError(error).status !== 401) toast('Signed out here. The server could not be told.', 'plain');
  } finally {
    forgetSession(role);
  }
}
