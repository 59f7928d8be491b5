import type { AccountStore, LocalConsent } from './account.js';
import { CommandFailure } from './command-failure.js';
import { ask, isPerson, show, wrapText } from './terminal.js';
import { callApi, type UserApi } from './user-api.js';

/** The terms in force, as people read them. */
export interface TermsText {
  readonly version: string;
  readonly title: string;
  readonly body: string;
}

/** Reads the terms in force. Throws a CommandFailure when they can not be had. */
export async function readTerms(apiUrl: string, language: string): Promise<TermsText> {
  const answer = await callApi(apiUrl, 'GET', `/api/terms?language=${language}`);
  if (!answer.ok) throw new CommandFailure('failed', `The terms could not be read: ${answer.detail}`);
  const { version, title, body } = answer.body;
  if (typeof version !== 'string' || typeof title !== 'string' || typeof body !== 'string')
    throw new CommandFailure('failed', 'The server gave terms that this agent does not understand.');
  return { version, title, body };
}

/** The terms for a terminal. */
export function termsText(terms: TermsText): string {
  return `\n${terms.title} (version ${terms.version})\n\n${wrapText(terms.body)}\n`;
}

/**
 * Gets the terms accepted, by the person at the terminal who has them on the screen, or by the version that
 * `acceptTerms` names, and records it on the server and here. Never in silence: without either it throws a
 * CommandFailure (`owner`) that says how.
 */
export async function obtainConsent(
  context: { store: AccountStore; user: UserApi; acceptTerms: string | null },
  terms: TermsText,
): Promise<void> {
  const { store, user, acceptTerms } = context;
  const flag = `--accept-terms ${terms.version}`;
  if (acceptTerms !== null && acceptTerms !== terms.version)
    throw new CommandFailure(
      'owner',
      `The terms in force are version ${terms.version}, not ${acceptTerms}. Read them (traffic-share agent consent) and accept them: ${flag}`,
    );
  if (acceptTerms === null) {
    if (!isPerson())
      throw new CommandFailure(
        'owner',
        `The terms of version ${terms.version} are not accepted on this device. Read them (traffic-share agent consent), then accept them at a terminal (traffic-share agent consent accept) or by ${flag}`,
      );
    show(termsText(terms));
    const word = (
      await ask('Do you accept these terms? Type "yes" to accept, anything else to refuse: ')
    ).toLowerCase();
    if (!['yes', 'да', 'ha'].includes(word))
      throw new CommandFailure('owner', 'The terms were not accepted; nothing is shared.');
  }
  const answer = await user.call('POST', '/api/user/consent', { terms_version: terms.version });
  if (!answer.ok) throw new CommandFailure('failed', `The consent could not be recorded: ${answer.detail}`);
  const consent: LocalConsent = {
    version: terms.version,
    acceptedAt: new Date().toISOString(),
    withdrawn: false,
  };
  await store.update(async (account) => ({
    account: account === null ? null : { ...account, consent },
    result: undefined,
  }));
}

/** Keeps on this machine that the consent given here holds no more. */
export async function rememberWithdrawal(store: AccountStore): Promise<void> {
  await store.update(async (account) => {
    const consent = account?.consent ?? null;
    return {
      account: account === null ? null : { ...account, consent: consent && { ...consent, withdrawn: true } },
      result: undefined,
    };
  });
}
