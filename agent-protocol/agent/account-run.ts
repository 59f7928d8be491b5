import { type Account, AccountStore } from './account.js';
import type { AgentEnd } from './agent-end.js';
import { DeviceApi } from './api.js';
import { CommandFailure } from './command-failure.js';
import type { AccountRun, AgentAccess, AgentConfig } from './config.js';
import { obtainConsent, readTerms, rememberWithdrawal, type TermsText } from './consent.js';
import { isPerson } from './terminal.js';
import { callApi, UserApi } from './user-api.js';
import { AGENT_VERSION } from './version.js';

/** Time the server may take to say whether it still knows the device, ms. */
const KNOWN_TIMEOUT_MS = 5_000;

const REMOVED =
  'This device was removed from the account, or its key was replaced. To share again: traffic-share agent login';

/**
 * Runs the agent that `login` set up: looks whether this version may share, gets the terms accepted when they are not,
 * and then runs it by `run`, once more when a person can accept new terms. Throws a CommandFailure when it comes to no
 * start.
 */
export async function runAccount(
  options: AccountRun,
  run: (config: AgentConfig) => Promise<AgentEnd>,
): Promise<AgentEnd> {
  const store = new AccountStore(options.stateDir);
  for (;;) {
    const { config, account } = await prepare(options, store);
    const end = await run(config);
    if (end.code === 'consent_required' || end.code === 'consent_withdrawn') {
      await rememberWithdrawal(store);
      if (end.code === 'consent_required' && isPerson()) continue;
      return { ...end, text: `${end.text} Here: traffic-share agent consent accept` };
    }
    if (end.exitCode !== 2) return end;
    if (end.code === 'invalid_token' || (end.code === 'stopped' && !(await isKnown(config, account))))
      return { exitCode: 2, code: 'device_removed', text: REMOVED };
    return end;
  }
}

async function prepare(
  options: AccountRun,
  store: AccountStore,
): Promise<{ config: AgentConfig; account: Account }> {
  const account = await store.read();
  if (account === null)
    throw new CommandFailure(
      'not_signed_in',
      `Nobody is signed in here (${options.stateDir}). First: traffic-share agent login --api-url <url>\nOr name a device that was registered elsewhere: --api-url, --device-id, --key-file`,
    );
  const apiUrl = options.apiUrl ?? account.apiUrl;
  await refuseOutdated(apiUrl);
  const agreed = account.consent?.withdrawn === false ? account.consent.version : null;
  let terms: TermsText | null = null;
  try {
    terms = await readTerms(apiUrl, options.language);
  } catch (error) {
    if (agreed === null) throw error; // else the start will tell, once there is a network
  }
  if (terms !== null && terms.version !== agreed) await agree(options, store, account, terms);
  const { deviceId, deviceKey } = account;
  const access: AgentAccess = { kind: 'api', apiUrl, deviceId, deviceKey };
  const termsVersion = terms?.version ?? agreed ?? '';
  return { account, config: Object.freeze({ ...options.settings, access, termsVersion }) };
}

async function agree(
  { acceptTerms }: AccountRun,
  store: AccountStore,
  { consent }: Account,
  terms: TermsText,
): Promise<void> {
  const withdrawn = consent?.withdrawn === true && consent.version === terms.version;
  // An option in a unit file would take every withdrawal back at the next start
  if (withdrawn && acceptTerms !== null && !isPerson())
    throw new CommandFailure(
      'owner',
      'The consent given here was withdrawn, so --accept-terms does not count any more. To share again: traffic-share agent consent accept',
    );
  const flag = withdrawn ? null : acceptTerms;
  await obtainConsent({ store, user: new UserApi(store), acceptTerms: flag }, terms);
}

/** Throws when this version may not share any more. Without an answer nothing is known, and the start will tell. */
async function refuseOutdated(apiUrl: string): Promise<void> {
  const path = `/api/system/version?client_version=${encodeURIComponent(AGENT_VERSION)}`;
  const answer = await callApi(apiUrl, 'GET', path).catch(() => null);
  if (answer?.ok !== true || answer.body.force_update !== true) return;
  const { min_client_version: least, app_latest: latest } = answer.body;
  throw new CommandFailure(
    'client_too_old',
    `This agent (${AGENT_VERSION}) is too old: at least ${String(least)} is needed, ${String(latest)} is the latest. Update it, then start it again.`,
  );
}

/** Whether the server knows the device's key; no answer counts as yes. */
async function isKnown(config: AgentConfig, account: Account): Promise<boolean> {
  if (config.access.kind !== 'api') return true;
  const api = new DeviceApi({ ...config.access, deviceKey: account.deviceKey, clientVersion: AGENT_VERSION });
  const answer = await api.get('/api/user/devices', AbortSignal.timeout(KNOWN_TIMEOUT_MS));
  return answer.ok || answer.refusal.code !== 'invalid_token';
}
