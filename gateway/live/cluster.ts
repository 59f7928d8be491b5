import { type Cluster, Command, type Redis } from 'ioredis';
import type { Log } from '../runtime/logging.js';
import { EndingCluster } from './ending-cluster.js';
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
  sendEach,
} from './live-redis.js';
import { clusterOptions } from './open.js';
import type { RedisAddress } from './redis-url.js';
import { type ScriptCommands, scripts } from './scripts.js';

/** Of a Redis Cluster. */
const SLOTS = 16_384;

const nodeAddress = ({ options: { host, port } }: Redis): string => `${host}:${port}`;

/** The live state on a Redis Cluster. A command goes to the node that has its key; one node may be away while others serve. */
export class ClusterRedis extends EndingCluster implements LiveRedis {
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
  readonly #attendance: Attendance;
  readonly #commandTimeoutMs: number;
  /** Nodes that failed and are not back, by address. */
  readonly #nodesAway = new Set<string>();
  #tags: readonly string[] = [];
  #tagsOf: string | null = null;

  constructor(address: Extract<RedisAddress, { kind: 'cluster' }>, options: LiveConnectionOptions) {
    const commandTimeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
    const node = {
      protocol: options.protocol ?? 3,
      commandTimeout: commandTimeoutMs,
      connectTimeout: commandTimeoutMs,
      socketTimeout: 3 * commandTimeoutMs,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      ...(options.connectionName ? { connectionName: options.connectionName } : {}),
    };
    super(address.nodes, {
      ...clusterOptions(address, node, options.reconnectDelayMaxMs ?? RECONNECT_DELAY_MAX_MS),
      scripts,
    });
    this.log = options.log;
    this.#commandTimeoutMs = commandTimeoutMs;
    this.#attendance = new Attendance(options.log, options.offlineCommandsMax ?? OFFLINE_COMMANDS_MAX);
    this.on('error', (error: Error) => this.#attendance.away(error));
    this.on('close', () => this.#attendance.away());
    this.on('ready', () => this.#attendance.ready());
    this.on('+node', (redis: Redis) => this.#watch(redis));
    this.on('node error', (error: Error & { code?: string }, key: string) => {
      if (this.#nodesAway.has(key)) return;
      this.#nodesAway.add(key);
      this.log.warn({ node: key, code: error.code, reason: error.message }, 'live_state_node_away');
    });
  }

  /** Addresses of the masters that have slots. */
  get primaries(): string {
    const masters = new Set<string>();
    let before: readonly string[] | undefined;
    for (const nodes of this.slots) {
      if (nodes === before) continue; // a range of slots shares its list
      before = nodes;
      if (nodes?.[0] !== undefined) masters.add(nodes[0]);
    }
    return [...masters].sort().join(' ');
  }

  get primaryTags(): readonly string[] {
    const primaries = this.primaries;
    if (primaries === this.#tagsOf) return this.#tags;
    if (primaries === '') return ['0']; // nothing is known yet: the command waits, and says so when it fails
    const missing = new Set(primaries.split(' '));
    const tags: string[] = [];
    for (let n = 0; missing.size > 0 && n < 2 ** 16; n++) {
      const slot = new Command('get', [`{${n}}`]).getSlot();
      if (slot !== null && missing.delete(this.slots[slot]?.[0] ?? '')) tags.push(String(n));
    }
    this.#tags = tags;
    this.#tagsOf = primaries;
    return tags;
  }

  /** Each by itself: nodes answer for their slots alone, and a slot that moves concerns its own commands only. */
  sendAll(commands: readonly CommandCall[]): Promise<CommandReplies> {
    return sendEach(this, commands);
  }

  /** ioredis forgets a node whose connection was lost until it asks again who has which slots. */
  async eachPrimary(): Promise<Redis[]> {
    await this.ping(); // when it has just been made, it knows nobody yet
    await this.#askForSlots();
    const masters = new Map(this.nodes('master').map((node) => [nodeAddress(node), node]));
    const primaries = new Set<Redis>();
    for (let slot = 0; slot < SLOTS; slot++) {
      const address = this.slots[slot]?.[0];
      const primary = address === undefined ? undefined : masters.get(address);
      if (primary === undefined) throw new Error(`no server of the live state has slot ${slot} now`);
      primaries.add(primary);
    }
    return [...primaries];
  }

  #askForSlots(): Promise<void> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error('the connection to the live state was closed'));
      this.once('end', ended);
      this.refreshSlotsCache((error) => {
        this.off('end', ended);
        if (error) reject(error);
        else resolve();
      });
    });
  }

  override sendCommand(
    command: Command,
    stream?: Parameters<Cluster['sendCommand']>[1],
    node?: unknown,
  ): unknown {
    if (isSettled(command)) return command.promise;
    // Nodes set a limit on what they are given; this is for the time before.
    command.setTimeout(this.#commandTimeoutMs);
    const isWaiting = this.status !== 'ready' && this.status !== 'end' && command.name !== 'cluster';
    if (isWaiting && !this.#attendance.admits(command)) return command.promise;
    return super.sendCommand(command, stream, node as never);
  }

  override disconnect(reconnect = false): void {
    if (!reconnect) this.#attendance.closed();
    super.disconnect(reconnect);
  }

  #watch(redis: Redis): void {
    const send = redis.sendCommand.bind(redis);
    redis.sendCommand = (command, stream) => (isSettled(command) ? command.promise : send(command, stream));
    redis.on('ready', () => {
      const key = nodeAddress(redis);
      if (this.#nodesAway.delete(key)) this.log.info({ node: key }, 'live_state_node_connected');
    });
  }
}
