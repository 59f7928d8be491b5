import type { EventEmitter } from 'node:events';
import type { Command, Redis, RedisCommander } from 'ioredis';
import type { Log } from '../runtime/logging.js';
import type { ScriptCommands } from './scripts.js';

/** How a process talks to the live state. Times in ms. */
export interface LiveConnectionOptions {
  /** As `parseRedisUrl` takes it. */
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

/** A command of `sendAll`: its name as a method, and what that takes. */
export type CommandCall = readonly [
  name: 'get' | 'set' | 'hdel' | 'xadd' | 'claimTake' | 'keepDevice' | 'shareLimits',
  ...args: Array<string | number>,
];

/** For each command its error or its reply. */
export type CommandReplies = Array<[error: Error | null, reply: unknown]>;

/**
 * A connection to the live state, to one server (a sentinel's master, too) or to a cluster: ioredis with this project's
 * scripts, a time limit on every command and a bound on what waits for a connection. Numbers that may pass 2^53 or that
 * are money travel as strings (GET, script replies), never as integer replies, which ioredis would round.
 *
 * A command's keys have one hash tag. ioredis' own pipelines are left out: on a cluster they reach one node.
 */
export interface LiveRedis extends RedisCommander, ScriptCommands, EventEmitter {
  readonly log: Log;
  /** `ready`: commands are sent. Of a cluster some nodes may be away all the same. */
  readonly status: string;
  /**
   * Which servers take writes: another text after a failover, which may have lost the last writes. Always the same with
   * one server that has no replica known here.
   */
  readonly primaries: string;
  /** A hash tag for each server that takes writes, whose keys it has; one server: `''`, for keys without one. */
  readonly primaryTags: readonly string[];
  /** Commands in one round trip, or, on a cluster, all at once; the replies are in their order. Rejects for none alone. */
  sendAll(commands: readonly CommandCall[]): Promise<CommandReplies>;
  /** Each server that takes writes by itself: for SCAN. Rejects when one of them can not be reached: none is left out. */
  eachPrimary(): Promise<ReadonlyArray<Pick<Redis, 'scan' | 'flushall'>>>;
  /** Closes it; nothing connects again. */
  disconnect(): void;
}

/** The pause before the given attempt to connect, the first being 1. */
export function reconnectDelayMs(attempt: number, maxMs: number): number {
  return Math.min(50 * 2 ** Math.min(attempt - 1, 10), maxMs) * (0.75 + Math.random() / 4);
}

/** Says in the log, once each time, that the live state went away or is there, and bounds what waits for it. */
export class Attendance {
  #state: 'unknown' | 'ready' | 'away' | 'closed' = 'unknown';
  #waiting = 0;

  constructor(
    private readonly log: Log,
    private readonly waitingMax: number,
  ) {}

  ready(): void {
    if (this.#state === 'ready' || this.#state === 'closed') return;
    this.#state = 'ready';
    this.log.info({}, 'live_state_connected');
  }

  away(error?: Error & { code?: string }): void {
    if (this.#state === 'away' || this.#state === 'closed') return;
    this.#state = 'away';
    // Not the error itself: ioredis hangs the command on it, a password among its arguments.
    this.log.warn({ code: error?.code, reason: error?.message }, 'live_state_away');
  }

  /** Closing is not going away. */
  closed(): void {
    this.#state = 'closed';
  }

  /** Whether the command may wait for a connection; rejects it when too many do. */
  admits(command: Command): boolean {
    if (this.#waiting >= this.waitingMax) {
      command.reject(new LiveStateAwayError('too many commands wait for the live state'));
      return false;
    }
    this.#waiting++;
    const done = () => {
      this.#waiting--;
    };
    command.promise.then(done, done);
    return true;
  }
}

/** Sends each command by itself, all of them before it returns. */
export function sendEach(
  redis: Pick<LiveRedis, CommandCall[0]>,
  commands: readonly CommandCall[],
): Promise<CommandReplies> {
  const send = redis as unknown as Record<CommandCall[0], (...args: unknown[]) => Promise<unknown>>;
  return Promise.all(
    commands.map(([name, ...args]) =>
      send[name](...args).then(
        (reply): CommandReplies[number] => [null, reply],
        (error: Error): CommandReplies[number] => [error, null],
      ),
    ),
  );
}

/** ioredis sends a queued command even after it timed out; its caller has long gone on without it. */
export function isSettled(command: Command): boolean {
  return (command as unknown as { isSettled: boolean }).isSettled;
}
