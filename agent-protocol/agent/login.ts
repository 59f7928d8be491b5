import { arch, type as systemName } from 'node:os';
import type { Account, AccountStore } from './account.js';
import { CommandFailure } from './command-failure.js';
import { ask, say } from './terminal.js';
import { callApi, tokensOf, type UserAnswer, UserApi } from './user-api.js';
import { AGENT_VERSION } from './version.js';

/** What `login` was told. */
export interface LoginInput {
  readonly apiUrl: string;
  readonly telegramId: string | null;
  /** Came by an earlier request; null: one is asked for. */
  readonly code: string | null;
  /** What the device is called in the app; null: the kind of system. */
  readonly name: string | null;
}

/**
 * Signs in with a code from the bot and registers this machine as a device. What is known of an earlier login here is
 * replaced once the new one holds.
 */
export async function login(store: AccountStore, input: LoginInput): Promise<Account> {
  const { apiUrl } = input;
  const told = input.telegramId ?? (await ask('Your Telegram id (the bot shows it: /start): '));
  if (!/^[1-9]\d{0,15}$/.test(told)) throw new CommandFailure('failed', 'A Telegram id is a number.');
  const telegramId = Number(told);
  let code = input.code;
  if (code === null) {
    const asked = await callApi(apiUrl, 'POST', '/api/auth/request_login_code', {
      body: { telegram_id: telegramId },
    });
    if (!asked.ok) throw refused('No code could be asked for', asked);
    code = await ask('The code that the bot has sent you: ');
  }
  if (!/^\d{6}$/.test(code)) throw new CommandFailure('failed', 'A code has six digits.');
  const verified = await callApi(apiUrl, 'POST', '/api/auth/verify_code', {
    body: { telegram_id: telegramId, code },
  });
  if (!verified.ok) {
    if (verified.code === 'invalid_code')
      throw new CommandFailure(
        'not_signed_in',
        'The code is wrong or too old. Run login again for a new one.',
      );
    throw refused('The login was refused', verified);
  }
  const tokens = tokensOf(verified.body);
  if (tokens === null)
    throw new CommandFailure('failed', 'The server gave an answer that this agent does not understand.');

  const register = async (deviceId: string) => ({
    deviceId,
    answer: await callApi(apiUrl, 'POST', '/api/user/device/register', {
      token: tokens.access,
      body: {
        device_id: deviceId,
        os: process.platform,
        model: (input.name ?? `${systemName()} ${arch()}`).slice(0, 120),
        client_version: AGENT_VERSION,
      },
    }),
  });
  let registered = await register(await store.deviceId());
  // This installation was somebody else's device, and still is: for its new owner it is a new one
  if (!registered.answer.ok && registered.answer.code === 'forbidden')
    registered = await register(await store.deviceId(true));
  const { deviceId, answer } = registered;
  if (!answer.ok) throw refused('This machine could not be registered as a device', answer);
  const { device_key: deviceKey } = answer.body;
  if (typeof deviceKey !== 'string') throw new CommandFailure('failed', 'The server gave no device key.');
  return store.signIn((earlier) => {
    const same = earlier?.apiUrl === apiUrl && earlier.telegramId === telegramId;
    return { apiUrl, telegramId, deviceId, deviceKey, tokens, consent: same ? earlier.consent : null };
  });
}

/** Ends this device and this login at the server, then forgets them here. Throws when the server did not do its part. */
export async function logout(store: AccountStore): Promise<void> {
  const account = await store.read();
  if (account === null) throw new CommandFailure('not_signed_in', 'Nobody is signed in here.');
  const user = new UserApi(store);
  let trouble: string | null = null;
  try {
    const removed = await user.call('DELETE', `/api/user/devices/${account.deviceId}`);
    if (!removed.ok && removed.status !== 404) trouble = removed.detail;
    const ended = await user.call('POST', '/api/auth/logout');
    if (!ended.ok) trouble ??= ended.detail;
  } catch (error) {
    trouble = (error as Error).message;
  }
  await store.update(async () => ({ account: null, result: undefined }));
  if (trouble !== null)
    throw new CommandFailure(
      'failed',
      `This machine has forgotten its keys, but the server was not told (${trouble}). Remove the device and the login in the app.`,
    );
  say('Done: this machine is no device of yours any more.');
}

function refused(what: string, answer: Extract<UserAnswer, { ok: false }>): CommandFailure {
  return new CommandFailure(
    answer.code === 'banned' ? 'banned' : 'failed',
    `${what}: ${answer.detail} (${answer.code})`,
  );
}
