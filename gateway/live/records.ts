/**
 * The values behind `keys.ts`: JSON, camelCase, one writer each. Amounts of money are decimal integer **strings**
 * of micro-dollars; byte counts are integers below 2^53; times are ms since the Unix epoch; ids are UUIDs.
 */

import type { OriginLists } from '../runtime/origin/origin-policy.js';

/** What narrows an account's access. Whatever is left out (older writers), null or empty narrows nothing. */
export interface Restrictions {
  /** Payload bytes a second, both directions together; above it streams are slowed down. */
  bandwidthBytesPerSecondMax?: number | null | undefined;
  /** Destination ports: of those that are open to the buyer, only these. */
  ports?: number[] | undefined;
  /** Destinations: only these names, `.suffix` patterns, addresses and CIDRs. */
  allowedDomains?: string[] | undefined;
  /** Destinations: none of these, as `allowedDomains`. */
  deniedDomains?: string[] | undefined;
  /** Client addresses (CIDR) that may use the account at all, whatever they prove. */
  allowedIps?: string[] | undefined;
  /** Periods whose bytes a wallet of that kind bounds. */
  quotas?: QuotaPeriod[] | undefined;
}

/** UTC. */
export type QuotaPeriod = 'day' | 'month';

/** What a sub-user has of its own; its buyer's limits hold as well. */
export interface SubUserLimits extends Restrictions {
  streamsMax?: number | null | undefined;
  connectionsPerSecondMax?: number | null | undefined;
}

/** What a gateway must know of one proxy account: a buyer, or a sub-user of one. */
export interface AccountSnapshot {
  account: string;
  buyerId: string;
  /** null: the buyer itself. `limited`: its bytes are bounded by a wallet of kind `sub_user`. */
  subUser: { id: string; limited: boolean; limits?: SubUserLimits | undefined } | null;
  status: 'active' | 'suspended' | 'closed';
  kycStatus: 'pending' | 'approved' | 'rejected';
  aupAccepted: boolean;
  /** Proxy passwords and buyer tokens that open the proxy: SHA-256 of a secret of ≥ 128 random bits, hex. */
  credentials: Array<{
    tokenId: string;
    sha256Hex: string;
    /** null: does not expire. */
    expiresAtMs: number | null;
    /** Client addresses (CIDR) this credential may be used from; empty: any. */
    allowedIps: string[];
  }>;
  /** Client addresses (CIDR) that authenticate without a password. */
  passwordlessIps: string[];
  /** The buyer's price in force, micro-dollars per 10^9 bytes. */
  priceMicrosPerGb: string;
  /** Of the buyer: they hold for the sum over the buyer and all its sub-users. */
  limits: Restrictions & {
    /** Streams open at once; the next one is refused with CONN_LIMIT. */
    streamsMax: number;
    /** New connections per second; above it RATE_LIMIT. */
    connectionsPerSecondMax: number;
    /** Ports allowed beside 80 and 443, and beside 53 and 443 by UDP. */
    extraPorts: number[];
    /** Ports of the never-allowed list that an admin granted, audited. */
    grantedPorts: number[];
    /** An admin allowed UDP (SOCKS5 ASSOCIATE); left out: no. */
    udp?: boolean | undefined;
  };
  /** Grows with every change of the snapshot. */
  version: number;
}

/** What a ticket entitles a device to; written at traffic start. */
export interface TicketRecord {
  sessionId: string;
  deviceId: string;
  providerId: string;
  /** The address the control plane saw the start come from. */
  exitIp: string;
  country: string;
  city: string | null;
  asn: number | null;
  /** State or region by its English name; left out by older writers, like the two below. */
  state?: string | null | undefined;
  /** The part of ISO 3166-2 behind the country. */
  stateCode?: string | null | undefined;
  /** Who announces the address (the organisation of its AS). */
  isp?: string | null | undefined;
  networkType: 'wifi' | 'mobile' | 'ethernet' | 'unknown';
  /** Bytes a buyer may use through this device in one package. */
  offerBytes: number;
  /** Owner's caps that the device is told again at WELCOME; null: no cap. */
  capBytesPerDay: number | null;
  termsVersion: string;
  clientVersion: string;
}

export interface DevicePresence
  extends Pick<
    TicketRecord,
    | 'sessionId'
    | 'deviceId'
    | 'providerId'
    | 'country'
    | 'city'
    | 'asn'
    | 'state'
    | 'stateCode'
    | 'isp'
    | 'networkType'
  > {
  gatewayId: string;
  /** The address the gateway saw the tunnel come from. */
  exitIp: string;
  connectedAtMs: number;
  /** Grows from tunnel to tunnel of the device, over all gateways; left out: not drawn yet, or by an older version. */
  sinceMs?: number | undefined;
  streams: number;
  rttMs: number;
  status: 'sharing' | 'paused' | 'draining';
}

export interface GatewayPresence {
  gatewayId: string;
  epoch: string;
  version: string;
  startedAtMs: number;
  tunnels: number;
  streams: number;
  draining: boolean;
}

/** The hold on a provider + exit IP. The claim is the allocation as the live state knows it. */
export interface ClaimRecord {
  allocationId: string;
  buyerId: string;
  account: string;
  /** The traffic session whose device serves it; null for a pulled package whose device is not bound yet. */
  sessionId: string | null;
  /** null: allocated on connect; settlement attaches the session's offered package. */
  packageId: string | null;
  sizeBytes: number;
  assignedAtMs: number;
  /** The gateway process that serves it; absent: pulled over REST and not served yet. */
  gateway?: GatewayRun | undefined;
  /**
   * The device that serves it, and since when its tunnel is open (ms, by Redis's clock): a later tunnel of the device
   * takes the claim along. Absent: a pulled package, or an older writer.
   */
  device?: { deviceId: string; sinceMs: number } | undefined;
  /** How long it keeps its exit for named sessions that are idle, ms; absent: it serves none. */
  sessionIdleMs?: number | undefined;
}

/** One run of a gateway: after a restart the id is the same and the epoch another. */
export interface GatewayRun {
  gatewayId: string;
  epoch: string;
}

/** A package pulled over REST: what `package-<uuid>` in a username leads to. */
export interface PackageRoute
  extends Omit<ClaimRecord, 'packageId' | 'gateway' | 'device' | 'sessionIdleMs'> {
  packageId: string;
  providerId: string;
  exitIp: string;
  /** Password of exactly this allocation, SHA-256 hex. */
  passwordSha256Hex: string;
  expiresAtMs: number;
  /** Bytes of it booked when the route was written (a rebuild, or after settlement); left out: none. */
  bytesUsed?: number | undefined;
}

export interface StickyRecord {
  allocationId: string;
  deviceId: string;
  providerId: string;
  exitIp: string;
}

/**
 * One meter as its gateway reports it. `key` is `meterKey(...)`; counts are cumulative and never fall.
 * It carries what settlement needs to write an allocation row that it never heard of.
 */
export interface MeterReport {
  sessionId: string;
  allocationId: string;
  /** 32 hex digits; the first 24 name the run of the gateway (`runOf`). */
  epoch: string;
  providerPriceMicrosPerGb: string;
  buyerPriceMicrosPerGb: string;
  buyerId: string;
  /** null unless the buyer pulled a package. */
  packageId: string | null;
  /** null: the buyer's own account. */
  subUserId: string | null;
  bytesUp: number;
  bytesDown: number;
  openedAtMs: number;
  /** Last time a byte was counted. */
  activeAtMs: number;
  /** FINAL: these counts never grow again. */
  final: boolean;
  /** With `final`: whether the allocation ended with this meter (it does not when only the price changed). */
  allocationEnded: boolean;
}

/** What Postgres has committed of a meter. */
export interface SettledMark {
  bytesUp: number;
  bytesDown: number;
  final: boolean;
}

export interface ProviderPrice {
  microsPerGb: string;
  effectiveFromMs: number;
}

/** Settings of the data path that change without a restart. */
export interface LiveSettings {
  policyVersion: number;
  termsVersion: string;
  /** Exact names and `.suffix` patterns that no buyer may reach. */
  deniedDomains: string[];
  /** CIDRs that no buyer may reach, beside what is never allowed. */
  deniedIps: string[];
  /** Destination ports; left out (older writers): what is built in (`runtime/ports.ts`). */
  ports?: PortPolicy | undefined;
  /** Networks that no device may share from; left out: only what the operator's files say. */
  origins?: OriginLists | undefined;
}

export interface PortPolicy {
  /** Open to every buyer. */
  openTcp: number[];
  /** Open to every buyer who may use UDP. */
  openUdp: number[];
  /** Open only to whom an admin granted that very port, as the ones that are built in. */
  neverAllowed: number[];
}

/** What the control plane tells every gateway. Each is idempotent. */
export type GatewayCommand =
  | { kind: 'account_changed'; account: string }
  | { kind: 'price_changed' }
  | { kind: 'settings_changed' }
  | { kind: 'stop_session'; sessionId: string; reason: 'stopped' | 'consent_withdrawn' | 'banned' }
  | { kind: 'end_allocation'; allocationId: string }
  | { kind: 'kill'; scope: 'all' | 'buyer' | 'provider' | 'device' | 'destination'; id: string | null }
  /** One run of one gateway is to end as at SIGTERM; the run that is started after it is not meant. */
  | { kind: 'drain'; gatewayId: string; run: string };

/** What tells a gateway's meters apart: a price change starts a new one. */
export interface MeterIdentity {
  sessionId: string;
  allocationId: string;
  epoch: string;
  providerPriceMicrosPerGb: string;
  buyerPriceMicrosPerGb: string;
}

/** The name of a meter in Redis. */
export function meterKey(m: MeterIdentity): string {
  return `${m.sessionId}.${m.allocationId}.${m.epoch}.${m.providerPriceMicrosPerGb}.${m.buyerPriceMicrosPerGb}`;
}

const METER_KEY = /^([0-9a-f-]{36})\.([0-9a-f-]{36})\.([0-9a-f]{32})\.(\d{1,15})\.(\d{1,15})$/;

/** The meter that a `meterKey` names; null: it is none. */
export function parseMeterKey(key: string): MeterIdentity | null {
  const parts = METER_KEY.exec(key) as [string, string, string, string, string, string] | null;
  if (parts === null) return null;
  const [, sessionId, allocationId, epoch, providerPriceMicrosPerGb, buyerPriceMicrosPerGb] = parts;
  return { sessionId, allocationId, epoch, providerPriceMicrosPerGb, buyerPriceMicrosPerGb };
}

/**
 * One run of a gateway, from start to end: the first 96 bits of all its epochs. Wallets belong to a run; what a run
 * may spend ends with it.
 */
export function runOf(epoch: string): string {
  return epoch.slice(0, 24);
}

/**
 * What a wallet bounds: a buyer's money (micro-dollars), the bytes of a pulled package (`ownerId` is the allocation),
 * the bytes of a sub-user with a limit, or the bytes a UTC day or month of a buyer (sub-users included) or a sub-user.
 */
export type WalletKind = 'buyer' | 'package' | 'sub_user' | QuotaPeriod;

/** Whose wallet it is. One owner has one wallet for each run of each gateway that serves it. */
export interface WalletOwner {
  kind: WalletKind;
  ownerId: string;
}

/**
 * What Postgres has set aside for a run and owner: the run may spend `granted − renounced` in all, since its start.
 * `granted` only grows, so a report that is late, repeated or lost does no harm, nor does a Redis that is emptied or
 * rolled back.
 */
export interface WalletRecord {
  /** Micro-dollars or bytes, decimal. */
  granted: string;
  /** The `wantGranted` this answers. */
  answered: string;
  /**
   * `open`: ask for more when needed. `wait`: nothing is left now, but another run holds some that may come back.
   * `exhausted`: nothing is left and nobody holds any.
   */
  state: 'open' | 'wait' | 'exhausted';
  /** What nobody had set aside at that answer, micro-dollars or bytes, decimal; left out: not known. */
  beyond?: string | undefined;
}

/** What a run asks for and gives back. All of it only grows. */
export interface WalletAsk {
  /** What `granted` should be for the run to go on comfortably. */
  wantGranted: string;
  /** What it will never spend of the granted. */
  renounced: string;
  /**
   * Asks up to this `wantGranted` are withdrawn: what they did not get is not wanted any more. Left out: none. Without it
   * an idle run that gives back would be given the same again.
   */
  withdrawn?: string | undefined;
  /** The run is over and each of its meters is committed: the hold can be given back. */
  finished: boolean;
}

/** The field of a wallet in its gateway's hashes. */
export function walletField(run: string, owner: WalletOwner): string {
  return `${run}.${owner.kind}.${owner.ownerId}`;
}
