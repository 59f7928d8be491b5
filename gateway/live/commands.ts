import type { LiveRedis } from './connection.js';
import { COMMANDS_KEPT, liveKeys } from './keys.js';
import type { GatewayCommand } from './records.js';
import { readReady } from './store.js';
import { type Check, isNullOr, isOneOf, isRecordOf, isString, parseJson } from './validation.js';

type CommandOf<K extends GatewayCommand['kind']> = Extract<GatewayCommand, { kind: K }>;

const isAnything: Check<unknown> = (_value): _value is unknown => true;

const commandChecks: { [K in GatewayCommand['kind']]: Check<CommandOf<K>> } = {
  account_changed: isRecordOf<CommandOf<'account_changed'>>({
    kind: isOneOf('account_changed'),
    account: isString,
  }),
  price_changed: isRecordOf<CommandOf<'price_changed'>>({ kind: isOneOf('price_changed') }),
  settings_changed: isRecordOf<CommandOf<'settings_changed'>>({ kind: isOneOf('settings_changed') }),
  stop_session: isRecordOf<CommandOf<'stop_session'>>({
    kind: isOneOf('stop_session'),
    sessionId: isString,
    reason: isOneOf('stopped', 'consent_withdrawn', 'banned'),
  }),
  end_allocation: isRecordOf<CommandOf<'end_allocation'>>({
    kind: isOneOf('end_allocation'),
    allocationId: isString,
  }),
  kill: isRecordOf<CommandOf<'kill'>>({
    kind: isOneOf('kill'),
    scope: isOneOf('all', 'buyer', 'provider', 'device', 'destination'),
    id: isNullOr(isString),
  }),
  drain: isRecordOf<CommandOf<'drain'>>({ kind: isOneOf('drain'), gatewayId: isString, run: isString }),
};

/** The command in the text; undefined: unreadable, or of a kind this version does not know. */
export function parseCommand(text: string): GatewayCommand | undefined {
  const named = parseJson(text, isRecordOf<{ kind: unknown }>({ kind: isAnything }));
  const kind = named?.kind;
  if (typeof kind !== 'string' || !Object.hasOwn(commandChecks, kind)) return undefined;
  return parseJson(text, commandChecks[kind as GatewayCommand['kind']] as Check<GatewayCommand>);
}

/** Tells every gateway; resolves to the entry's id once Redis has it. Rejects when Redis is away. */
export async function publishCommand(redis: LiveRedis, command: GatewayCommand): Promise<string> {
  const id = await redis.xadd(
    liveKeys.commands(),
    'MAXLEN',
    '~',
    COMMANDS_KEPT,
    '*',
    'c',
    JSON.stringify(command),
  );
  return id ?? '';
}

/** One entry of the stream; `command` undefined: this version cannot read it. */
export interface CommandEntry {
  id: string;
  command: GatewayCommand | undefined;
}

/**
 * Entries after `afterId`, oldest first, at most `max`. `blockMs` > 0 waits that long for the first one, which
 * occupies the connection: use one of its own.
 */
export async function readCommands(
  redis: LiveRedis,
  afterId: string,
  max: number,
  blockMs: number,
): Promise<CommandEntry[]> {
  const reply = (blockMs > 0
    ? await redis.xread('COUNT', max, 'BLOCK', blockMs, 'STREAMS', liveKeys.commands(), afterId)
    : await redis.xread('COUNT', max, 'STREAMS', liveKeys.commands(), afterId)) as unknown as Array<
    [string, Array<[string, string[]]>]
  > | null;
  return (reply?.[0]?.[1] ?? []).map(([id, fields]) => {
    const at = fields.indexOf('c');
    return { id, command: at < 0 ? undefined : parseCommand(fields[at + 1] ?? '') };
  });
}

/** The id of the newest entry; `0-0` when there is none. */
export async function readLastCommandId(redis: LiveRedis): Promise<string> {
  const [newest] = await redis.xrevrange(liveKeys.commands(), '+', '-', 'COUNT', 1);
  return newest?.[0] ?? '0-0';
}

/**
 * Why everything held in memory may be out of date. `wiped`: Redis is empty, the control plane has not rebuilt it
 * yet: time to assert again what this gateway owns (claims, presence, meters); `rebuilt`: it has.
 */
export type ResyncReason = 'started' | 'reconnected' | 'wiped' | 'rebuilt' | 'gap';

export interface CommandReaderOptions {
  /** A connection that nobody else uses (`blocking` reads occupy it); `stop()` closes it. */
  redis: LiveRedis;
  onCommand(command: GatewayCommand): void;
  /** Commands may have been missed: drop or re-check whatever was read from the live state. */
  onResync(reason: ResyncReason): void;
  /** Longest wait of one read, ms; also how soon a rebuilt Redis is noticed. Below the command time-out. */
  blockMs?: number;
  /** Instead of blocking reads, look this often, ms: for servers without XREAD BLOCK. */
  pollMs?: number | null;
}

/** Below the connection's command time-out, so that a wait for nothing is not taken for a dead connection. */
const BLOCK_MS = 500;
const RETRY_MS = 200;
/** Longest wait for the marks of a cluster's nodes. */
const READY_WAIT_MS = 250;
/** Entries in one read. A full one may mean that the stream was trimmed past us: resync. */
const READ_MAX = 1_000;

/**
 * Follows the command stream from the moment it is started. A command reaches `onCommand` within milliseconds of
 * being published (within `pollMs` when polling), one that was published while Redis or this connection was away
 * as soon as it is back, together with `onResync`. Handlers must not throw; each command is idempotent, as it may
 * come twice after a rollback of Redis.
 */
export class CommandReader {
  readonly #options: CommandReaderOptions;
  #lastId: string | null = null;
  #ready: string | null = null;
  /** The marker was not to be had lately: something may have been lost meanwhile. */
  #unsure = false;
  #stopped = false;
  #loop: Promise<void> | null = null;
  #wake: (() => void) | null = null;

  constructor(options: CommandReaderOptions) {
    this.#options = options;
  }

  /** Resolves when the place in the stream is known: every command published after that is seen. */
  start(): Promise<void> {
    return new Promise((started) => {
      this.#loop = this.#follow(started);
    });
  }

  /** Closes the connection and resolves when no handler will be called any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#options.redis.disconnect();
    this.#wake?.();
    await this.#loop;
  }

  async #follow(started: () => void): Promise<void> {
    const { redis } = this.#options;
    let inStep = false;
    while (!this.#stopped) {
      try {
        if (!inStep) {
          await this.#findPlace();
          inStep = true;
          started();
        }
        await this.#readOnce();
      } catch (error) {
        if (this.#stopped) break;
        inStep = false;
        redis.log.debug({ reason: (error as Error).message }, 'commands_read_failed');
        await this.#pause(RETRY_MS);
      }
    }
    started();
  }

  /** After a (re)connection: from where to read on, and whether that is the stream we know. */
  async #findPlace(): Promise<void> {
    const { redis, onResync } = this.#options;
    const newest = await readLastCommandId(redis);
    const ready = await this.#readReady();
    const first = this.#lastId === null;
    if (this.#lastId === null) this.#lastId = newest;
    else if (isBefore(newest, this.#lastId)) this.#lastId = '0-0'; // another stream: Redis was wiped or rolled back
    this.#ready = ready ?? null;
    this.#unsure = ready === undefined;
    onResync(first ? 'started' : 'reconnected');
  }

  async #readOnce(): Promise<void> {
    const { redis, onCommand, onResync, blockMs = BLOCK_MS, pollMs = null } = this.#options;
    if (pollMs !== null) await this.#pause(pollMs);
    const entries = await readCommands(
      redis,
      this.#lastId as string,
      READ_MAX,
      pollMs === null ? blockMs : 0,
    );
    for (const { id, command } of entries) {
      if (this.#stopped) return;
      this.#lastId = id;
      if (command) onCommand(command);
      else redis.log.error({ id }, 'command_unreadable');
    }
    const ready = await this.#readReady();
    if (this.#stopped) return;
    if (ready === undefined) this.#unsure = true;
    else if (ready !== this.#ready || this.#unsure) {
      this.#unsure = false;
      this.#ready = ready;
      if (isBefore(await readLastCommandId(redis), this.#lastId as string)) this.#lastId = '0-0';
      onResync(ready === null ? 'wiped' : 'rebuilt');
    } else if (entries.length === READ_MAX) onResync('gap');
  }

  /**
   * Undefined: part of a cluster gives no answer. Commands are read on meanwhile: they may be on another node, and are to
   * be obeyed within a second.
   */
  async #readReady(): Promise<string | null | undefined> {
    const { redis } = this.#options;
    const ready = readReady(redis);
    if (redis.primaryTags.length <= 1) return ready;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, READY_WAIT_MS, undefined);
    });
    return Promise.race([ready.catch(() => undefined), late]).finally(() => clearTimeout(timer));
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Order of stream ids `ms-sequence`. */
function isBefore(a: string, b: string): boolean {
  const [aMs = 0, aSeq = 0] = a.split('-').map(Number);
  const [bMs = 0, bSeq = 0] = b.split('-').map(Number);
  return aMs < bMs || (aMs === bMs && aSeq < bSeq);
}
