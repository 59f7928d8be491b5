import { effect, signal } from '@preact/signals';
import { readSession } from '../session/session.js';

/**
 * Proxy passwords that this page was shown or given, by account. They are kept nowhere else: the server has hashes
 * alone, so after the page is loaded anew they must be pasted or made again.
 */
export const passwords = signal<Readonly<Record<string, string>>>({});

let following = false;

/** Keeps it until the page is left or somebody signs out. */
export function rememberPassword(account: string, password: string): void {
  passwords.value = { ...passwords.peek(), [account]: password };
  if (following) return;
  following = true;
  effect(() => {
    if (readSession('buyer') === null) passwords.value = {};
  });
}
