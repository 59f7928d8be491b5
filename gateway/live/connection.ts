import { type Command, Redis } from 'ioredis';
import type { Log } from '../runtime/logging.js';
import { type ScriptCommands, scripts } from './scripts.js';

/** How a process talks to the live state. Times in ms. */
export interface LiveConnectionOptions {
  /** `redis://[user:password@]host:port[/db]` or `rediss://…`. */
  url: string;
  log: Log;
  /** Shown by CLIENT LIST. */
  connectionName?: string;
  /**
   * A command without an answer for this long rejects, also while Redis is away: callers fall back on what they
   * hold instead of hanging. It may still have been carried out, so every write here can be repeated.
   */
  commandTimeoutMs?: number;
  /** Longest pause between two attempts to connect; the first follows after 50 ms. */
  reconnectDelayMaxMs?: number;
  /** Commands kept while the connection is being (re)made; the next one rejects at once. */
  offlineCommandsMax?: number;
  /** RESP version; 3 falls back to 2 by itself on a server that does not know it. Replies are the same in both. */
  protocol?: 2 | 3;
}

export const COMMAND_TIMEOUT_MS = 1_000;
export const RECONNECT_DELAY_MAX_MS = 1_000;
export const OFFLINE_COMMANDS_MAX = 10_000;

/** Thrown (as a rejection) when more commands wait for the connection than `offlineCommandsMax`. */
export class LiveStateAwayError extends Error {
  readonly code = 'LIVE_STATE_AWAY';
}

/**
 * A connection to the live state: ioredis with this project's scripts, a time limit on every command and a bound on
 * what waits for a connection. Numbers that may pass 2^53 or that are money travel as strings (GET, script replies),
 * never as integer replies, which ioredis would round.
 */
export class LiveRedis extends Redis {
  // Defined on the instance by ioredis (`scripts` option).
  declare readonly claimTake: ScriptCommands['claimTake'];
  declare readonly claimRelease: ScriptCommands['claimRelease'];
  declare readonly stickyTake: ScriptCommands['stickyTake'];
  declare readonly reportMeters: ScriptCommands['reportMeters'];
  declare readonly settleMeters: ScriptCommands['settleMeters'];
  declare readonly dropOrphanMeters: ScriptCommands['dropOrphanMeters'];
  declare readonly askWallets: ScriptCommands['askWallets'];
  declare readonly showWallets: ScriptCommands['showWallets'];

  readonly log: Log;
  readonly #offlineCommandsMax: number;
  #waiting = 0;
  #state: 'unknown' | 'ready' | 'away' | 'closed' = 'unknown';

  constructor(options: LiveConnectionOptions) {
    const commandTimeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
    const reconnectDelayMaxMs = options.reconnectDelayMaxMs ?? RECONNECT_DELAY_MAX_MS;
    super(options.url, {
      protocol: options.protocol ?? 3,
      scripts,
      commandTimeout: commandTimeoutMs,
      connectTimeout: commandTimeoutMs,
      // A peer that vanished without a word: commands time out, then the socket is given up and made anew.
      socketTimeout: 3 * commandTimeoutMs,
      retryStrategy: (attempt) =>
        Math.min(50 * 2 ** Math.min(attempt - 1, 10), reconnectDelayMaxMs) * (0.75 + Math.random() / 4),
      // Whatever waits is refused at each failed attempt; nothing is sent twice behind its caller's back.
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      // A replica after a failover answers READONLY: find the new primary and send the command there.
      reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 2 : false),
      ...(options.connectionName ? { connectionName: options.connectionName } : {}),
    });
    this.log = options.log;
    this.#offlineCommandsMax = options.offlineCommandsMax ?? OFFLINE_COMMANDS_MAX;
    this.on('error', (error) => this.#away(error));
    this.on('close', () => this.#away(undefined));
    this.on('ready', () => {
      if (this.#state === 'ready') return;
      this.#state = 'ready';
      this.log.info({}, 'live_state_connected');
    });
  }

  override sendCommand(command: Command, stream?: Parameters<Redis['sendCommand']>[1]): unknown {
    // ioredis sends a queued command even after it timed out; its caller has long gone on without it.
    if ((command as unknown as { isSettled: boolean }).isSettled) return command.promise;
    if (this.status !== 'ready' && this.status !== 'connect' && this.status !== 'end') {
      if (this.#waiting >= this.#offlineCommandsMax) {
        command.reject(new LiveStateAwayError('too many commands wait for the live state'));
        return command.promise;
      }
      this.#waiting++;
      const done = () => {
        this.#waiting--;
      };
      command.promise.then(done, done);
    }
    return super.sendCommand(command, stream);
  }

  override disconnect(reconnect = false): void {
    if (!reconnect) this.#state = 'closed';
    super.disconnect(reconnect);
  }

  #away(error: (Error & { code?: string }) | undefined): void {
    if (this.#state === 'away' || this.#state === 'closed') return;
    this.#state = 'away';
    // Not the error itself: ioredis hangs the command on it, a password among its arguments.
    this.log.warn({ code: error?.code, reason: error?.message }, 'live_state_away');
  }
}

/**
 * Opens a connection to the live state. It connects in the background and for ever; commands given meanwhile wait
 * for at most `commandTimeoutMs`. Close it with `disconnect()`.
 */
export function connectLive(options: LiveConnectionOptions): LiveRedis {
  return new LiveRedis(options);
}
