/**
 * Reading and writing the records of the live state: the one place that turns them into JSON and back.
 * A value that does not fit its record (another version, another program) is logged and counts as absent.
 * Every function rejects when Redis is away (`connectLive`).
 */

import { randomUUID } from 'node:crypto';
import type { OriginLists } from '../runtime/origin/origin-policy.js';
import type { LiveRedis } from './connection.js';
import { liveKeys } from './keys.js';
import { sendMany } from './many.js';
import type {
  AccountSnapshot,
  LiveSettings,
  PackageRoute,
  PortPolicy,
  ProviderPrice,
  Restrictions,
  SubUserLimits,
  TicketRecord,
} from './records.js';
import {
  type Check,
  isBoolean,
  isCount,
  isListOf,
  isMicros,
  isMissingOr,
  isNullOr,
  isOneOf,
  isRecordOf,
  isSha256Hex,
  isString,
  parseJson,
} from './validation.js';

export const isNetworkType = isOneOf('wifi', 'mobile', 'ethernet', 'unknown');

const restrictions: { [K in keyof Required<Restrictions>]: Check<Restrictions[K]> } = {
  bandwidthBytesPerSecondMax: isMissingOr(isNullOr(isCount)),
  ports: isMissingOr(isListOf(isCount)),
  allowedDomains: isMissingOr(isListOf(isString)),
  deniedDomains: isMissingOr(isListOf(isString)),
  allowedIps: isMissingOr(isListOf(isString)),
  quotas: isMissingOr(isListOf(isOneOf('day', 'month'))),
};

const isAccount = isRecordOf<AccountSnapshot>({
  subUser: isNullOr(
    isRecordOf<NonNullable<AccountSnapshot['subUser']>>({
      id: isString,
      limited: isBoolean,
      limits: isMissingOr(
        isRecordOf<SubUserLimits>({
          ...restrictions,
          streamsMax: isMissingOr(isNullOr(isCount)),
          connectionsPerSecondMax: isMissingOr(isNullOr(isCount)),
        }),
      ),
    }),
  ),
  account: isString,
  buyerId: isString,
  status: isOneOf('active', 'suspended', 'closed'),
  kycStatus: isOneOf('pending', 'approved', 'rejected'),
  aupAccepted: isBoolean,
  credentials: isListOf(
    isRecordOf<AccountSnapshot['credentials'][number]>({
      tokenId: isString,
      sha256Hex: isSha256Hex,
      expiresAtMs: isNullOr(isCount),
      allowedIps: isListOf(isString),
    }),
  ),
  passwordlessIps: isListOf(isString),
  priceMicrosPerGb: isMicros,
  limits: isRecordOf<AccountSnapshot['limits']>({
    ...restrictions,
    streamsMax: isCount,
    connectionsPerSecondMax: isCount,
    extraPorts: isListOf(isCount),
    grantedPorts: isListOf(isCount),
    udp: isMissingOr(isBoolean),
  }),
  version: isCount,
});

const isTicket = isRecordOf<TicketRecord>({
  sessionId: isString,
  deviceId: isString,
  providerId: isString,
  exitIp: isString,
  country: isString,
  city: isNullOr(isString),
  asn: isNullOr(isCount),
  state: isMissingOr(isNullOr(isString)),
  stateCode: isMissingOr(isNullOr(isString)),
  isp: isMissingOr(isNullOr(isString)),
  networkType: isNetworkType,
  offerBytes: isCount,
  capBytesPerDay: isNullOr(isCount),
  termsVersion: isString,
  clientVersion: isString,
});

const isPackageRoute = isRecordOf<PackageRoute>({
  allocationId: isString,
  buyerId: isString,
  account: isString,
  sessionId: isNullOr(isString),
  packageId: isString,
  sizeBytes: isCount,
  assignedAtMs: isCount,
  providerId: isString,
  exitIp: isString,
  passwordSha256Hex: isSha256Hex,
  expiresAtMs: isCount,
  bytesUsed: isMissingOr(isCount),
});

const isProviderPrice = isRecordOf<ProviderPrice>({ microsPerGb: isMicros, effectiveFromMs: isCount });

const isLiveSettings = isRecordOf<LiveSettings>({
  policyVersion: isCount,
  termsVersion: isString,
  deniedDomains: isListOf(isString),
  deniedIps: isListOf(isString),
  ports: isMissingOr(
    isRecordOf<PortPolicy>({
      openTcp: isListOf(isCount),
      openUdp: isListOf(isCount),
      neverAllowed: isListOf(isCount),
    }),
  ),
  origins: isMissingOr(
    isRecordOf<OriginLists>({
      asnRules: isListOf(
        isRecordOf<OriginLists['asnRules'][number]>({ match: isString, name: isNullOr(isString) }),
      ),
      deniedIps: isListOf(isString),
      allowedAsns: isListOf(isCount),
    }),
  ),
});

/** The record in the text, or null when there is none or it does not fit (logged with its key). */
export function decode<T>(redis: LiveRedis, key: string, text: string | null, check: Check<T>): T | null {
  if (text === null) return null;
  const value = parseJson(text, check);
  if (value !== undefined) return value;
  redis.log.error({ key }, 'live_value_unreadable');
  return null;
}

/** As `decode`, of what the key holds. */
export async function read<T>(redis: LiveRedis, key: string, check: Check<T>): Promise<T | null> {
  return decode(redis, key, await redis.get(key), check);
}

/** JSON of the value; `ttlMs`: how long it is kept, left out: until it is deleted. */
export async function write(redis: LiveRedis, key: string, value: object, ttlMs?: number): Promise<void> {
  const text = JSON.stringify(value);
  if (ttlMs === undefined) await redis.set(key, text);
  else await redis.set(key, text, 'PX', Math.max(1, Math.round(ttlMs)));
}

// Accounts and balances: written by the control plane, read by gateways.

export function readAccount(redis: LiveRedis, account: string): Promise<AccountSnapshot | null> {
  return read(redis, liveKeys.account(account), isAccount);
}

/** The snapshot, and its addresses in the list of all. */
export async function writeAccount(redis: LiveRedis, snapshot: AccountSnapshot): Promise<void> {
  const { account, passwordlessIps } = snapshot;
  await Promise.all([
    write(redis, liveKeys.account(account), snapshot),
    passwordlessIps.length > 0
      ? redis.hset(liveKeys.passwordless(), account, JSON.stringify(passwordlessIps))
      : redis.hdel(liveKeys.passwordless(), account),
  ]);
}

/** Whether all that `writeAccount` would write is there already. */
export async function isAccountWritten(redis: LiveRedis, snapshot: AccountSnapshot): Promise<boolean> {
  const { account, passwordlessIps } = snapshot;
  const [there, addresses] = await Promise.all([
    readAccount(redis, account),
    redis.hget(liveKeys.passwordless(), account),
  ]);
  const expected = passwordlessIps.length > 0 ? JSON.stringify(passwordlessIps) : null;
  return addresses === expected && JSON.stringify(there) === JSON.stringify(snapshot);
}

/** Whether it was there. */
export async function deleteAccount(redis: LiveRedis, account: string): Promise<boolean> {
  const [deleted] = await Promise.all([
    redis.del(liveKeys.account(account)),
    redis.hdel(liveKeys.passwordless(), account),
  ]);
  return deleted > 0;
}

/** Accounts that client addresses open without a password, each with its CIDRs. */
export async function readPasswordless(redis: LiveRedis): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  const key = liveKeys.passwordless();
  for (const [account, text] of Object.entries(await redis.hgetall(key))) {
    const cidrs = decode(redis, `${key} ${account}`, text, isListOf(isString));
    if (cidrs) found.set(account, cidrs);
  }
  return found;
}

// Tickets: written at traffic start, taken by the gateway the device connects to.

/** `ttlMs`: how long the device may take to connect (default in PRODUCT: 60 s). */
export function writeTicket(
  redis: LiveRedis,
  ticketSha256Hex: string,
  ticket: TicketRecord,
  ttlMs: number,
): Promise<void> {
  return write(redis, liveKeys.ticket(ticketSha256Hex), ticket, ttlMs);
}

/** Reads and deletes: of any number of takers one gets it. */
export async function takeTicket(redis: LiveRedis, ticketSha256Hex: string): Promise<TicketRecord | null> {
  const key = liveKeys.ticket(ticketSha256Hex);
  return decode(redis, key, await redis.getdel(key), isTicket);
}

// Routes: pulled packages (control plane writes) and named proxy sessions (gateways write).

/** Expires by itself at `route.expiresAtMs`. */
export function writePackageRoute(redis: LiveRedis, route: PackageRoute, nowMs: number): Promise<void> {
  return write(redis, liveKeys.packageRoute(route.packageId), route, route.expiresAtMs - nowMs);
}

/** `writePackageRoute` for many in one round trip. Rejects when any of them was refused. */
export async function writePackageRoutes(
  redis: LiveRedis,
  routes: readonly PackageRoute[],
  nowMs: number,
): Promise<void> {
  if (routes.length === 0) return;
  await sendMany(
    redis,
    routes.map((route) => {
      const ttlMs = Math.max(1, Math.round(route.expiresAtMs - nowMs));
      return ['set', liveKeys.packageRoute(route.packageId), JSON.stringify(route), 'PX', ttlMs];
    }),
  );
}

export function readPackageRoute(redis: LiveRedis, packageId: string): Promise<PackageRoute | null> {
  return read(redis, liveKeys.packageRoute(packageId), isPackageRoute);
}

export async function deletePackageRoute(redis: LiveRedis, packageId: string): Promise<void> {
  await redis.del(liveKeys.packageRoute(packageId));
}

// Prices and settings of the data path.

export function writeProviderPrice(redis: LiveRedis, price: ProviderPrice): Promise<void> {
  return write(redis, liveKeys.providerPrice(), price);
}

export function readProviderPrice(redis: LiveRedis): Promise<ProviderPrice | null> {
  return read(redis, liveKeys.providerPrice(), isProviderPrice);
}

/** Readers learn of it by the marker, which is another one after each write and written last. */
export async function writeLiveSettings(redis: LiveRedis, settings: LiveSettings): Promise<void> {
  await write(redis, liveKeys.liveSettings(), settings);
  await redis.set(liveKeys.liveSettingsMarker(), randomUUID());
}

/** Changes with every write of the settings; null: never written, or by an older version. */
export function readLiveSettingsMarker(redis: LiveRedis): Promise<string | null> {
  return redis.get(liveKeys.liveSettingsMarker());
}

export function readLiveSettings(redis: LiveRedis): Promise<LiveSettings | null> {
  return read(redis, liveKeys.liveSettings(), isLiveSettings);
}

// The marker of a complete live state.

/** Longer than any rebuild takes: one that took longer would not be marked complete, and begin again. */
const REBUILD_MS_MAX = 86_400_000;

/** To be called before the first write of a rebuild: its name, for `markReady`. */
export async function beginRebuild(redis: LiveRedis): Promise<string> {
  const rebuild = randomUUID();
  const keys = redis.primaryTags.map((tag) => liveKeys.rebuilding(tag, rebuild));
  await Promise.all(keys.map((key) => redis.set(key, '1', 'PX', REBUILD_MS_MAX)));
  return rebuild;
}

/**
 * Says that the live state is complete, as of a rebuild that has written everything (left out: one that had nothing to
 * write). Each call writes another value: a gateway that sees it change knows that Redis was rebuilt in between and reads
 * everything again. False: Redis, or a node of the cluster, was emptied since the rebuild began, and is not marked.
 */
export async function markReady(redis: LiveRedis, rebuild?: string): Promise<boolean> {
  const begun = rebuild ?? (await beginRebuild(redis));
  const mark = randomUUID();
  const marked = await Promise.all(
    redis.primaryTags.map((tag) =>
      redis.markReady(liveKeys.ready(tag), liveKeys.rebuilding(tag, begun), mark),
    ),
  );
  return marked.every((one) => one === 1);
}

/**
 * The marker of the last rebuild; null: Redis, or a node of the cluster, came back empty and is not rebuilt yet. After a
 * failover in a cluster it is another one, too.
 */
export async function readReady(redis: LiveRedis): Promise<string | null> {
  const marks = await Promise.all(redis.primaryTags.map((tag) => redis.get(liveKeys.ready(tag))));
  if (marks.length <= 1) return marks[0] ?? null;
  return marks.includes(null) ? null : [redis.primaries, ...marks].join(' ');
}
