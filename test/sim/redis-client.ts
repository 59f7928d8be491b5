import type { LiveRedis } from '../../gateway/live/connection.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { SimulatedFault } from './disk.js';
import type { Random } from './random.js';
import type { SimulatedRedis } from './redis.js';
import type { BLOCKED, Thread } from './thread.js';

/** Redis as one thread of a process reaches it: each command is one step, and any of them may fail. */
export function redisClient(redis: SimulatedRedis, thread: Thread, random: Random): LiveRedis {
  return new SimulatedClient(redis, thread, random) as unknown as LiveRedis;
}

class SimulatedClient {
  readonly log = silentLog;
  readonly #redis: SimulatedRedis;
  readonly #thread: Thread;
  readonly #random: Random;

  constructor(redis: SimulatedRedis, thread: Thread, random: Random) {
    this.#redis = redis;
    this.#thread = thread;
    this.#random = random;
  }

  #read<T>(command: () => T | typeof BLOCKED): Promise<T> {
    return this.#thread.io(() => {
      const { away, faults } = this.#redis;
      if (away) throw SimulatedFault.of('REDIS_AWAY');
      if (faults.answerLost > 0 && this.#random.chance(faults.answerLost))
        throw SimulatedFault.of('REDIS_ANSWER_LOST');
      return command();
    });
  }

  #write<T>(command: () => T): Promise<T> {
    return this.#thread.io(() => {
      const { away, faults } = this.#redis;
      if (away) throw SimulatedFault.of('REDIS_AWAY');
      if (faults.late > 0 && this.#random.chance(faults.late)) {
        this.#redis.delay(command);
        throw SimulatedFault.of('REDIS_LATE');
      }
      if (faults.twice > 0 && this.#random.chance(faults.twice)) this.#redis.delay(command);
      const result = command();
      if (faults.answerLost > 0 && this.#random.chance(faults.answerLost))
        throw SimulatedFault.of('REDIS_ANSWER_LOST');
      return result;
    });
  }

  get(key: string) {
    return this.#read(() => this.#redis.get(key));
  }
  hget(key: string, field: string) {
    return this.#read(() => this.#redis.hmget(key, [field])[0] ?? null);
  }
  hmget(key: string, ...fields: string[]) {
    return this.#read(() => this.#redis.hmget(key, fields));
  }
  hgetall(key: string) {
    return this.#read(() => this.#redis.hgetall(key));
  }
  hlen(key: string) {
    return this.#read(() => this.#redis.hlen(key));
  }
  hscan(key: string) {
    return this.#read((): [string, string[]] => ['0', this.#redis.hpairs(key)]);
  }
  smembers(key: string) {
    return this.#read(() => this.#redis.smembers(key));
  }
  sscan(key: string) {
    return this.#read((): [string, string[]] => ['0', this.#redis.smembers(key)]);
  }
  set(key: string, value: string, _px?: 'PX', ttlMs?: number) {
    return this.#write(() => this.#redis.set(key, value, ttlMs));
  }
  /** Only by one process at a time here. */
  keepGateway(key: string, json: string, ttlMs: string) {
    return this.#write(() => {
      this.#redis.set(key, json, Number(ttlMs));
      return '';
    });
  }
  hset(key: string, ...pairs: string[]) {
    return this.#write(() => this.#redis.hset(key, pairs));
  }
  hdel(key: string, ...fields: string[]) {
    return this.#write(() => this.#redis.hdel(key, fields));
  }
  sadd(key: string, ...members: string[]) {
    return this.#write(() => this.#redis.sadd(key, members));
  }
  srem(key: string, ...members: string[]) {
    return this.#write(() => this.#redis.srem(key, members));
  }
  askWallets(asks: string, ...args: string[]) {
    return this.#write(() => this.#redis.askWallets(asks, args));
  }
  showWallets(wallets: string, ...args: string[]) {
    return this.#write(() => this.#redis.showWallets(wallets, args));
  }
  reportMeters(meters: string, dirty: string, ...args: string[]) {
    return this.#write(() => this.#redis.reportMeters(meters, dirty, args));
  }
  settleMeters(meters: string, dirty: string, settled: string, ...args: string[]) {
    return this.#write(() => this.#redis.settleMeters(meters, dirty, settled, args));
  }
  dropOrphanMeters(meters: string, dirty: string, ...keys: string[]) {
    return this.#write(() => this.#redis.dropOrphanMeters(meters, dirty, keys));
  }

  /** Of XADD alone, as `XADD key MAXLEN ~ n * field value …`. All of them together are late or come twice. */
  sendAll(calls: ReadonlyArray<readonly [name: string, key: string, ...args: Array<string | number>]>) {
    return this.#write(() =>
      calls.map(([name, key, ...args]): [Error | null, string] => {
        if (name !== 'xadd') throw new Error(`${name} is not simulated in a batch`);
        return [null, this.#redis.xadd(key, args.slice(4) as string[])];
      }),
    );
  }
  /** `XREAD COUNT max [BLOCK ms] STREAMS key after`. Nothing to read: as if the time for it were over. */
  xread(_count: 'COUNT', max: number, ...rest: unknown[]) {
    const [key, afterId] = rest.slice(-2) as [string, string];
    return this.#read(() => {
      const entries = this.#redis.xread(key, afterId, max);
      return entries.length === 0 ? null : [[key, entries]];
    });
  }
  /** `XREVRANGE key + - COUNT max`. */
  xrevrange(key: string, _from: '+', _to: '-', _count: 'COUNT', max: number) {
    return this.#read(() => this.#redis.xrevrange(key, max));
  }
}
