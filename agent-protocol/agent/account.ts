import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { CommandFailure } from './command-failure.js';
import { DamagedFile, readPrivate, withLock, writePrivate } from './private-file.js';

/** What `login` leaves on this machine. */
export interface Account {
  /** Root of the control plane. */
  readonly apiUrl: string;
  readonly telegramId: number;
  readonly deviceId: string;
  /** Lets this device share, and nothing else. */
  readonly deviceKey: string;
  /** Speaks for the owner; null: this machine is signed out, and shares on by the device key. */
  readonly tokens: Tokens | null;
  readonly consent: LocalConsent | null;
}

/** What the owner of this machine said of the terms here. */
export interface LocalConsent {
  readonly version: string;
  readonly acceptedAt: string;
  /** They took it back, here or elsewhere: an option that accepts this version counts no more until they act. */
  readonly withdrawn: boolean;
}

export interface Tokens {
  readonly access: string;
  /** Ms since the epoch by this machine's clock. */
  readonly accessUntilMs: number;
  /** Good once. */
  readonly refresh: string;
}

const FILE = 'account.json';
/** Outlives a logout: the same installation stays the same device. */
const DEVICE_FILE = 'device.json';

/** The account of a state folder. Changes are made by one process at a time, and are whole or not there. */
export class AccountStore {
  constructor(readonly stateDir: string) {}

  /** Null: nobody has signed in here. Throws a CommandFailure when the file is damaged. */
  async read(): Promise<Account | null> {
    const path = join(this.stateDir, FILE);
    const damaged = () =>
      new CommandFailure('failed', `${path} is damaged. Log in again: traffic-share agent login`);
    const value = await readPrivate(path).catch((error: unknown) => {
      throw error instanceof DamagedFile ? damaged() : error;
    });
    if (value === null || typeof value !== 'object' || !('deviceKey' in value)) return null;
    const account = value as Account;
    const texts = [account.apiUrl, account.deviceId, account.deviceKey];
    if (texts.some((text) => typeof text !== 'string')) throw damaged();
    return account;
  }

  /**
   * Runs `change` on what is there now, alone among all processes, and keeps what it gives; null: signs out. A change
   * that rejects changes nothing.
   */
  update<T>(
    change: (account: Account | null) => Promise<{ account: Account | null; result: T }>,
  ): Promise<T> {
    return this.#keep(() => this.read(), change);
  }

  /** The same for a login, which also replaces a file that is damaged: it then counts as none. */
  signIn(change: (earlier: Account | null) => Account): Promise<Account> {
    const earlier = () =>
      this.read().catch((error: unknown) => {
        if (error instanceof CommandFailure) return null;
        throw error;
      });
    return this.#keep(earlier, async (known) => {
      const account = change(known);
      return { account, result: account };
    });
  }

  #keep<T>(
    read: () => Promise<Account | null>,
    change: (account: Account | null) => Promise<{ account: Account | null; result: T }>,
  ): Promise<T> {
    return withLock(this.stateDir, 'account', async () => {
      const { account, result } = await change(await read());
      await writePrivate(join(this.stateDir, FILE), account ?? {});
      return result;
    });
  }

  /** The id of this installation, drawn once; `fresh`, or when the file is damaged: another one from now on. */
  async deviceId(fresh = false): Promise<string> {
    const path = join(this.stateDir, DEVICE_FILE);
    const kept = (await readPrivate(path).catch((error: unknown) => {
      if (error instanceof DamagedFile) return null;
      throw error;
    })) as { deviceId?: unknown } | null;
    if (!fresh && typeof kept?.deviceId === 'string') return kept.deviceId;
    const deviceId = randomUUID();
    await writePrivate(path, { deviceId });
    return deviceId;
  }
}
