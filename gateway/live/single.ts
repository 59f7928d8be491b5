import { type Command, Redis } from 'ioredis';
import type { Log } from '../runtime/logging.js';
import {
  Attendance,
  COMMAND_TIMEOUT_MS,
  type CommandCall,
  type CommandReplies,
  isSettled,
  type LiveConnectionOptions,
  type LiveRedis,
  OFFLINE_COMMANDS_MAX,
  RECONNECT_DELAY_MAX_MS,
  reconnectDelayMs,
  sendEach,
} from './live-redis.js';
import { sentinelOptions } from './open.js';
import type { RedisAddress } from './redis-url.js';
import { type ScriptCommands, scripts } from './scripts.js';

const NO_TAG: readonly string[] = [''];

/** The live state on one server, which sentinels may name. */
export class SingleRedis extends Redis implements LiveRedis {
  // Defined on the instance by ioredis (`scripts` option).
  declare readonly claimTake: ScriptCommands['claimTake'];
  declare readonly claimRelease: ScriptCommands['claimRelease'];
  declare readonly stickyTake: ScriptCommands['stickyTake'];
  declare readonly reportMeters: ScriptCommands['reportMeters'];
  declare readonly settleMeters: ScriptCommands['settleMeters'];
  declare readonly dropOrphanMeters: ScriptCommands['dropOrphanMeters'];
  declare readonly askWallets: ScriptCommands['askWallets'];
  declare readonly showWallets: ScriptCommands['showWallets'];
  declare readonly keepDevice: ScriptCommands['keepDevice'];
  declare readonly keepGateway: ScriptCommands['keepGateway'];
  declare readonly dropOwn: ScriptCommands['dropOwn'];
  declare readonly shareLimits: ScriptCommands['shareLimits'];
  declare readonly markReady: ScriptCommands['markReady'];

  readonly log: Log;
  readonly primaryTags = NO_TAG;
  readonly #attendance: Attendance;
  readonly #hasReplicas: boolean;
  #primaries = '';

  constructor(address: Exclude<RedisAddress, { kind: 'cluster' }>, options: LiveConnectionOptions) {
    const commandTimeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
    const delayMaxMs = options.reconnectDelayMaxMs ?? RECONNECT_DELAY_MAX_MS;
    const more = {
      protocol: options.protocol ?? 3,
      scripts,
      commandTimeout: commandTimeoutMs,
      connectTimeout: commandTimeoutMs,
      // A peer that vanished without a word: commands time out, then the socket is given up and made anew.
      socketTimeout: 3 * commandTimeoutMs,
      retryStrategy: (attempt: number) => reconnectDelayMs(attempt, delayMaxMs),
      // Whatever waits is refused at each failed attempt; nothing is sent twice behind its caller's back.
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      // A replica after a failover answers READONLY: find the new primary and send the command there.
      reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? (2 as const) : false),
      ...(options.connectionName ? { connectionName: options.connectionName } : {}),
    };
    if (address.kind === 'single') super(address.url, more);
    else super({ ...sentinelOptions(address, commandTimeoutMs, delayMaxMs), ...more });
    this.log = options.log;
    this.#hasReplicas = address.kind === 'sentinel';
    this.#attendance = new Attendance(options.log, options.offlineCommandsMax ?? OFFLINE_COMMANDS_MAX);
    this.on('error', (error) => this.#attendance.away(error));
    this.on('close', () => this.#attendance.away());
    this.on('ready', () => {
      if (this.#hasReplicas) this.#primaries = `${this.stream.remoteAddress}:${this.stream.remotePort}`;
      this.#attendance.ready();
    });
  }

  get primaries(): string {
    return this.#primaries;
  }

  /** In one write. Not by ioredis' pipeline: of that no command may be left out, as one that waited too long is. */
  sendAll(commands: readonly CommandCall[]): Promise<CommandReplies> {
    const stream = this.status === 'ready' ? this.stream : null;
    stream?.cork();
    try {
      return sendEach(this, commands);
    } finally {
      stream?.uncork();
    }
  }

  async eachPrimary(): Promise<readonly [Pick<this, 'scan' | 'flushall'>]> {
    return [this];
  }

  override sendCommand(command: Command, stream?: Parameters<Redis['sendCommand']>[1]): unknown {
    if (isSettled(command)) return command.promise;
    const isWaiting = this.status !== 'ready' && this.status !== 'connect' && this.status !== 'end';
    if (isWaiting && !this.#attendance.admits(command)) return command.promise;
    return super.sendCommand(command, stream);
  }

  override disconnect(reconnect = false): void {
    if (!reconnect) this.#attendance.closed();
    super.disconnect(reconnect);
  }
}
