import type { LiveRedis } from '../../gateway/live/connection.js';
import type { CommandCall, CommandReplies } from '../../gateway/live/live-redis.js';
import type { ClaimRecord, DevicePresence, StickyRecord } from '../../gateway/live/records.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { silentLog } from '../../gateway/runtime/logging.js';

/** What went to and from Redis, by kind of key. */
export interface RedisUse {
  commands: number;
  /** Keys, fields and values sent there, and what came back; without what the protocol puts around them. */
  bytesIn: number;
  bytesOut: number;
}

interface Kept {
  value: string;
  expiresAtMs: number;
}

/** `ts:device:{…}` → `device`. */
const kindOf = (key: string) => key.split(':', 2)[1] ?? key;

/**
 * Redis for a simulated fleet: the commands that presence, directory, sessions and claims use, in memory and in
 * simulated time. Every answer is there at once; what is sent and read is counted.
 */
export class FleetRedis {
  readonly status = 'ready';
  readonly log = silentLog;
  /** Claims that somebody else held. */
  claimsRefused = 0;
  #use = new Map<string, RedisUse>();
  #strings = new Map<string, Kept>();
  #hashes = new Map<string, Map<string, string>>();
  #scores = new Map<string, Map<string, number>>();

  constructor(private readonly clock: Clock) {}

  /** As the project's code takes it. */
  get client(): LiveRedis {
    return this as unknown as LiveRedis;
  }

  /** Since the last time it was asked, by kind of key. */
  takeUse(): Map<string, RedisUse> {
    const use = this.#use;
    this.#use = new Map();
    return use;
  }

  /** Everything is lost. */
  wipe(): void {
    this.#strings.clear();
    this.#hashes.clear();
    this.#scores.clear();
  }

  #count(key: string, bytesIn: number, bytesOut: number): void {
    const kind = kindOf(key);
    let use = this.#use.get(kind);
    if (use === undefined) {
      use = { commands: 0, bytesIn: 0, bytesOut: 0 };
      this.#use.set(kind, use);
    }
    use.commands++;
    use.bytesIn += bytesIn;
    use.bytesOut += bytesOut;
  }

  #live(key: string): Kept | undefined {
    const kept = this.#strings.get(key);
    if (kept === undefined || kept.expiresAtMs > this.clock.monotonicMs()) return kept;
    this.#strings.delete(key);
    return undefined;
  }

  #get(key: string): string | null {
    const value = this.#live(key)?.value ?? null;
    this.#count(key, key.length, value?.length ?? 0);
    return value;
  }

  #set(key: string, value: string, ttlMs: number): 'OK' {
    this.#strings.set(key, { value, expiresAtMs: this.clock.monotonicMs() + ttlMs });
    this.#count(key, key.length + value.length, 2);
    return 'OK';
  }

  /** As the script `claimTake`. */
  #claimTake(
    key: string,
    json: string,
    ttlMs: string,
    allocationId: string,
    displaces: string,
  ): [0 | 1, string] {
    const kept = this.#live(key);
    const holder = kept && (JSON.parse(kept.value) as ClaimRecord);
    const isFree = holder === undefined || [allocationId, displaces].includes(holder.allocationId);
    this.#count(key, key.length + json.length + 80, isFree ? 2 : (kept?.value.length ?? 0));
    if (!isFree) {
      this.claimsRefused++;
      return [0, kept?.value ?? ''];
    }
    const untilMs = this.clock.monotonicMs() + Number(ttlMs);
    this.#strings.set(key, { value: json, expiresAtMs: Math.max(untilMs, kept?.expiresAtMs ?? 0) });
    return [1, ''];
  }

  async get(key: string): Promise<string | null> {
    return this.#get(key);
  }
  async set(key: string, value: string, _px: 'PX', ttlMs: number): Promise<'OK'> {
    return this.#set(key, value, ttlMs);
  }
  async hset(key: string, field: string, value: string): Promise<number> {
    const hash = this.#hashes.get(key) ?? new Map<string, string>();
    this.#hashes.set(key, hash.set(field, value));
    this.#count(key, key.length + field.length + value.length, 1);
    return 1;
  }
  async hgetall(key: string): Promise<Record<string, string>> {
    const hash = this.#hashes.get(key) ?? new Map<string, string>();
    let bytesOut = 0;
    for (const [field, value] of hash) bytesOut += field.length + value.length;
    this.#count(key, key.length, bytesOut);
    return Object.fromEntries(hash);
  }
  async hdel(key: string, ...fields: string[]): Promise<number> {
    this.#count(key, key.length + fields.join('').length, 1);
    return fields.filter((field) => this.#hashes.get(key)?.delete(field)).length;
  }
  async claimTake(key: string, json: string, ttlMs: string, allocationId: string, displaces: string) {
    return this.#claimTake(key, json, ttlMs, allocationId, displaces);
  }
  /** As the script `stickyTake`. */
  async stickyTake(
    key: string,
    json: string,
    ttlMs: string,
    deviceId: string,
    before: string,
  ): Promise<string> {
    const kept = this.#live(key)?.value;
    const holder = kept === undefined ? before : (JSON.parse(kept) as StickyRecord).deviceId;
    this.#count(key, key.length + json.length + 80, 2);
    if (kept !== undefined && ![deviceId, before].includes(holder)) return kept;
    this.#strings.set(key, { value: json, expiresAtMs: this.clock.monotonicMs() + Number(ttlMs) });
    return '';
  }
  async claimRelease(key: string, allocationId: string): Promise<0 | 1> {
    const kept = this.#live(key);
    this.#count(key, key.length + allocationId.length, 1);
    if (kept === undefined || (JSON.parse(kept.value) as ClaimRecord).allocationId !== allocationId) return 0;
    this.#strings.delete(key);
    return 1;
  }

  async zadd(key: string, ...pairs: Array<string | number>): Promise<number> {
    return this.#zadd(key, pairs);
  }

  async sendAll(calls: readonly CommandCall[]): Promise<CommandReplies> {
    return calls.map(([name, ...args]) => [null, this.#carryOut(name, args as string[])]);
  }

  #carryOut(name: CommandCall[0], args: string[]): unknown {
    const [key = '', text = '', ttlMs = '', by = '', more = ''] = args;
    if (name === 'get') return this.#get(key);
    if (name === 'set') return this.#set(key, text, Number(args[3]));
    if (name === 'claimTake') return this.#claimTake(key, text, ttlMs, by, more);
    if (name === 'keepDevice') return this.#keepDevice(key, text, ttlMs, by, more, args[5] === '1');
    throw new Error(`${name} is not simulated`);
  }

  /** As the script `keepDevice`. */
  #keepDevice(
    key: string,
    json: string,
    ttlMs: string,
    gatewayId: string,
    sinceMs: string,
    came: boolean,
  ): string {
    const held = this.#live(key)?.value;
    let since = Number(sinceMs);
    let text = json;
    if (held !== undefined && !held.includes(`"gatewayId":"${gatewayId}"`)) {
      const before = (JSON.parse(held) as DevicePresence).sinceMs ?? 0;
      if (!came && before > since) {
        this.#count(key, key.length + json.length, 0);
        return '';
      }
      since = came ? Math.max(since, before + 1) : since;
      text = JSON.stringify({ ...JSON.parse(json), sinceMs: since });
    }
    this.#set(key, text, Number(ttlMs));
    return String(since);
  }

  #zadd(key: string, pairs: Array<string | number>): number {
    const scores = this.#scores.get(key) ?? new Map<string, number>();
    this.#scores.set(key, scores);
    for (let i = 0; i < pairs.length; i += 2) scores.set(String(pairs[i + 1]), Number(pairs[i]));
    this.#count(key, key.length + pairs.length * 25, 3);
    return pairs.length / 2;
  }
}
