import { hash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { DialCode as Dial, type DialCode } from '../agent-protocol/frame.js';
import type { Allocated, Allocator } from './allocation/allocator.js';
import type { RouteWish } from './allocation/candidates.js';
import type { LiveAllocation } from './allocation/live-allocation.js';
import { type Authentication, authenticate, type ProxyCredentials } from './buyers/authenticate.js';
import { checkDestination, type DestinationPolicy } from './buyers/destination-policy.js';
import type { BuyerAccess, BuyerDirectory } from './buyers/directory.js';
import { type AccountLimits, bandwidthRates } from './buyers/limits.js';
import type { LoginBackoff } from './buyers/login-backoff.js';
import { accessRefusal, connectionRefusal, type OpenConnection } from './buyers/standing.js';
import { parseUsername, type RouteParams } from './buyers/username.js';
import { walletOwners } from './buyers/wallet-owners.js';
import { type ProxyErrorCode, type ProxyFailure, proxyErrors } from './errors.js';
import type {
  Associated,
  Authenticated,
  Connected,
  EchoAnswer,
  Exit,
  ProxyPipeline,
} from './listeners/connect-pipeline.js';
import type { MeterRegistry } from './metering/registry.js';
import type { Wallet } from './metering/wallet.js';
import type { WalletBook } from './metering/wallet-book.js';
import type { BandwidthLimits } from './relay/bandwidth.js';
import type { Relay, RelayedStream } from './relay/relay.js';
import type { Clock } from './runtime/clock.js';
import type { DialOutcome, Tunnel } from './tunnels/tunnel.js';

/** Dialling is tried on this many devices beside the first, before any byte was relayed. */
const RETRIES_MAX = 2;

/** What a device's answer means to the buyer; `null`: the device can not take it, which another one might. */
const DIAL_FAILURES: Readonly<Record<Exclude<DialCode, 0> | 'lost' | 'timeout', ProxyErrorCode>> = {
  [Dial.DNS_FAIL]: 'DNS_FAIL',
  [Dial.REFUSED]: 'REFUSED',
  [Dial.UNREACHABLE]: 'UNREACHABLE',
  [Dial.TIMEOUT]: 'CONNECT_TIMEOUT',
  [Dial.PROHIBITED]: 'IP_PROHIBITED',
  [Dial.CAP_REACHED]: 'PEER_DROPPED',
  [Dial.PAUSED]: 'PEER_DROPPED',
  [Dial.UNSUPPORTED]: 'PEER_DROPPED',
  [Dial.INTERNAL]: 'PEER_DROPPED',
  [Dial.BLOCKED]: 'PEER_DROPPED',
  lost: 'PEER_DROPPED',
  timeout: 'CONNECT_TIMEOUT',
};

export interface PipelineDeps {
  directory: BuyerDirectory;
  limits: AccountLimits;
  backoff: LoginBackoff;
  policy: () => DestinationPolicy;
  allocator: Allocator<Tunnel>;
  meters: MeterRegistry;
  wallets: WalletBook;
  relay: Relay;
  bandwidth: BandwidthLimits;
  clock: Clock;
  /** The provider's price in force; null until the live state told it. */
  providerPriceMicrosPerGb: () => string | null;
  isDraining: () => boolean;
  dialTimeoutMs: number;
  /** A wrong login is answered this long after it came, ms: how long the look-up took tells nothing. */
  loginRefusalMs: number;
  /** Associations at once; then CONN_LIMIT. */
  associationsMax: number;
  /** One call a connection: how it went, for metrics. */
  onConnection: (outcome: ProxyErrorCode | 'OK', tookMs: number) => void;
}

/** What a device is to be found for. */
interface Wanted {
  /** The destination's host in normal form; `*` for an association. */
  host: string;
  /** 0 for an association. */
  port: number;
  network: 'tcp' | 'udp';
  /** By which the destination was allowed; null: it is judged later. */
  policy: DestinationPolicy | null;
  wish: RouteWish;
  dial(device: Tunnel): Promise<DialOutcome>;
}

/** A stream through a device, counted from now on. */
type Opened = { ok: true; exit: Exit } & RelayedStream;

/** The way of one connection through the stages: who, where, which device, dial, relay. */
export class GatewayPipeline implements ProxyPipeline {
  #associationCount = 0;

  constructor(private readonly deps: PipelineDeps) {}

  async authenticate(
    credentials: ProxyCredentials & { username: string },
  ): Promise<Authenticated | ProxyFailure> {
    if (this.deps.isDraining()) return { ok: false, code: 'DRAINING' };
    const username = await this.#usernameOf(credentials);
    if (typeof username !== 'string') return username;
    const parsed = parseUsername(username);
    if (!parsed.ok) return parsed;
    const known = await this.#logIn(credentials, parsed.params);
    if (!known.ok) return known;
    const auth: Authenticated = { ok: true, buyer: known.buyer, params: parsed.params };
    return (await this.#pay(auth)) ?? auth;
  }

  /** Checks the login unless too many were wrong before it. */
  async #logIn(credentials: ProxyCredentials, params: RouteParams): Promise<Authentication> {
    const { backoff, clock, directory, loginRefusalMs } = this.deps;
    const { clientAddress } = credentials;
    const waitMs = backoff.waitMs(clientAddress, params.account);
    if (waitMs > 0)
      return {
        ok: false,
        code: 'RATE_LIMIT',
        detail: 'logins',
        retryAfterSeconds: Math.ceil(waitMs / 1_000),
      };
    const startMs = clock.monotonicMs();
    const known = await authenticate(directory, credentials, params, clock.nowMs());
    if (known.ok) backoff.succeeded(clientAddress, params.account);
    else if (known.code === 'AUTH_FAILED') {
      backoff.failed(clientAddress, params.account);
      // An account that is in use is known without asking Redis: the time must not tell it from one that is not.
      await delay(Math.max(0, startMs + loginRefusalMs - clock.monotonicMs()));
    }
    return known;
  }

  /** The username; of a client that sent none and no password either, the account that its address stands for. */
  async #usernameOf({
    username,
    password,
    clientAddress,
  }: ProxyCredentials & { username: string }): Promise<string | ProxyFailure> {
    if (username !== '' || password !== null) return username;
    const account = await this.deps.directory.accountAt(clientAddress);
    if (account === 'unavailable') return { ok: false, code: 'INTERNAL', detail: 'live state unavailable' };
    return account ?? { ok: false, code: 'AUTH_FAILED' };
  }

  async connect(
    auth: Authenticated,
    destination: { host: string; port: number },
  ): Promise<Connected | ProxyFailure> {
    return this.#timed(() => {
      if (this.deps.isDraining()) return { ok: false, code: 'DRAINING' };
      const { port } = destination;
      const policy = this.deps.policy();
      const allowed = checkDestination(destination.host, port, auth.buyer, policy);
      if (!allowed.ok) return allowed;
      return this.#open(auth, {
        host: allowed.host,
        port,
        network: 'tcp',
        policy,
        wish: auth.params,
        dial: (device) => device.dial(allowed.host, port, this.deps.dialTimeoutMs),
      });
    });
  }

  async associate(auth: Authenticated): Promise<Associated | ProxyFailure> {
    return this.#timed(async () => {
      if (this.deps.isDraining()) return { ok: false, code: 'DRAINING' };
      if (auth.buyer.limits.udp !== true) return { ok: false, code: 'UDP_NOT_ALLOWED' };
      if (this.#associationCount >= this.deps.associationsMax) return { ok: false, code: 'CONN_LIMIT' };
      this.#associationCount++;
      const release = once(() => {
        this.#associationCount--;
      });
      const opened = await this.#open(
        auth,
        {
          host: '*',
          port: 0,
          network: 'udp',
          policy: null,
          // A strict session stays where it is, also when its device can not do it.
          wish: { ...auth.params, udp: !auth.params.strict },
          dial: (device) => device.associate(this.deps.dialTimeoutMs),
        },
        release,
      );
      if (!opened.ok) release();
      return opened;
    });
  }

  /** Tells metrics how it went and how long it took. */
  async #timed<T extends { ok: true }>(
    work: () => Promise<T | ProxyFailure> | ProxyFailure,
  ): Promise<T | ProxyFailure> {
    const startMs = this.deps.clock.monotonicMs();
    const outcome = await work();
    this.deps.onConnection(outcome.ok ? 'OK' : outcome.code, this.deps.clock.monotonicMs() - startMs);
    return outcome;
  }

  async echo(auth: Authenticated): Promise<EchoAnswer | ProxyFailure> {
    const { deps } = this;
    if (deps.isDraining()) return { ok: false, code: 'DRAINING' };
    // Free of charge, not of limits: it takes a place as a connection does.
    const admission = deps.limits.acquire(auth.buyer);
    if (!admission.ok) return admission;
    try {
      const paid = await this.#pay(auth);
      if (paid !== null) return paid;
      const allocated = await deps.allocator.allocate(auth.buyer, auth.params);
      if (!allocated.ok) return allocated;
      const { candidate, allocation } = allocated;
      allocated.release();
      const { city, asn } = candidate;
      const bytesLeft = this.#bytesLeft(auth, allocation);
      return { ok: true, exit: exitOf(candidate, auth), city, asn, bytesLeft };
    } finally {
      admission.release();
    }
  }

  /**
   * The least that any of the buyer's bounds allows: of a balance or quota, what is set aside for this gateway and what
   * nobody had set aside at the latest answer.
   */
  #bytesLeft(auth: Authenticated, allocation: LiveAllocation): number | null {
    const { packageRoute, priceMicrosPerGb } = auth.buyer;
    let least = packageRoute === null ? Number.POSITIVE_INFINITY : allocation.remainingBytes;
    for (const wallet of this.#wallets(auth)) {
      const { owner } = wallet;
      if (owner.kind === 'package') continue; // of a package more is known than what is set aside
      const left = wallet.left + wallet.beyond;
      if (owner.kind !== 'buyer') least = Math.min(least, left);
      else if (priceMicrosPerGb > 0n)
        least = Math.min(least, Number((BigInt(left) * 1_000_000_000n) / priceMicrosPerGb));
    }
    return Number.isFinite(least) ? Math.max(0, least) : null;
  }

  /** By the grant and limits as they are now, not as they were when the association began: it may live for long. */
  #mayReach({ buyer }: Authenticated): (host: string, port: number) => string | null {
    const { directory, policy } = this.deps;
    return (host, port) => {
      const entry = directory.cached(buyer.account);
      const { limits, rules } = entry ? { limits: entry.snapshot.limits, rules: entry.rules } : buyer;
      if (limits.udp !== true) return null;
      const allowed = checkDestination(host, port, { limits, rules }, policy(), 'udp');
      return allowed.ok ? allowed.host : null;
    };
  }

  async #open(
    auth: Authenticated,
    wanted: Wanted,
    onEnd: () => void = () => {},
  ): Promise<Opened | ProxyFailure> {
    const { deps } = this;
    if (!deps.meters.canAdmit) return { ok: false, code: 'INTERNAL', detail: 'metering' };
    const admission = deps.limits.acquire(auth.buyer);
    if (!admission.ok) return admission;
    const paid = await this.#pay(auth);
    if (paid !== null) {
      admission.release();
      return paid;
    }
    const opened = await this.#dial(auth, wanted, () => {
      admission.release();
      onEnd();
    });
    if (!opened.ok) admission.release();
    return opened;
  }

  /** Everything that bounds the buyer's bytes, the money first. */
  #wallets({ buyer }: Authenticated): Wallet[] {
    const { wallets } = this.deps;
    const owners = walletOwners(buyer);
    const { packageRoute } = buyer;
    if (packageRoute) owners.push({ kind: 'package', ownerId: packageRoute.allocationId });
    return owners.map((owner) => wallets.wallet(owner));
  }

  /** Why nothing can be paid for, or null. Known wallets cost no round trip. */
  async #pay(auth: Authenticated): Promise<ProxyFailure | null> {
    for (const wallet of this.#wallets(auth)) {
      const price = wallet.owner.kind === 'buyer' ? auth.buyer.priceMicrosPerGb : null;
      const asked = wallet.admit(price);
      const admission = typeof asked === 'string' ? asked : await asked;
      if (admission === 'exhausted') return { ok: false, code: wallet.refusal };
      if (admission === 'unavailable')
        return { ok: false, code: 'INTERNAL', detail: 'live state unavailable' };
    }
    return null;
  }

  /**
   * Why a connection that was let in is refused all the same: its account has changed meanwhile. What changes after
   * this, `AccessWatch` sees to.
   */
  async #refusedNow(
    { account, access, limits, rules }: BuyerAccess,
    destination: Omit<OpenConnection, 'access'>,
    judgedBy: DestinationPolicy | null,
  ): Promise<ProxyFailure | null> {
    const { directory, clock } = this.deps;
    const entry = directory.cached(account) ?? (await directory.lookup(account));
    if (entry === null) return { ok: false, code: 'AUTH_FAILED' };
    if (entry === 'unavailable') return { ok: false, code: 'INTERNAL', detail: 'live state unavailable' };
    const policy = this.deps.policy();
    // Snapshots and lists are replaced, never changed: by the same ones the destination is allowed still.
    const same = policy === judgedBy && entry.rules === rules && entry.snapshot.limits === limits;
    const code = same
      ? accessRefusal(entry, access, clock.nowMs())
      : connectionRefusal(entry, { access, ...destination }, policy, clock.nowMs());
    return code === null ? null : { ok: false, code };
  }

  /** Tries devices until one has dialled, or the destination itself said no. */
  async #dial(auth: Authenticated, wanted: Wanted, onEnd: () => void): Promise<Opened | ProxyFailure> {
    const { deps } = this;
    const failed = new Set<string>();
    let failure: ProxyFailure | null = null;
    for (let tries = 0; tries <= RETRIES_MAX; tries++) {
      const allocated = await deps.allocator.allocate(auth.buyer, wanted.wish, failed);
      if (!allocated.ok) return failure ?? allocated;
      const dialled = await wanted.dial(allocated.candidate);
      if (dialled.ok) {
        const destination = {
          destinationHost: wanted.host,
          destinationPort: wanted.port,
          network: wanted.network,
        };
        const refused = await this.#refusedNow(auth.buyer, destination, wanted.policy);
        if (refused === null) return this.#relay(auth, destination, allocated, dialled, onEnd);
        dialled.stream.reset(0);
        allocated.release();
        return refused;
      }
      allocated.release();
      // To ask for UDP is no fault of the device: there is none that matches.
      const unsupported = wanted.network === 'udp' && dialled.why === Dial.UNSUPPORTED;
      failure = { ok: false, code: unsupported ? 'NO_PEER' : DIAL_FAILURES[dialled.why] };
      const another = unsupported || proxyErrors[failure.code].retryOnAnotherDevice;
      if (auth.params.strict || !another) return failure;
      failed.add(allocated.candidate.deviceId);
    }
    return failure ?? { ok: false, code: 'NO_PEER' };
  }

  #relay(
    auth: Authenticated,
    destination: Omit<OpenConnection, 'access'>,
    allocated: Allocated<Tunnel>,
    dialled: Extract<DialOutcome, { ok: true }>,
    onEnd: () => void,
  ): Opened | ProxyFailure {
    const { deps } = this;
    const { buyer } = auth;
    const { allocation, candidate } = allocated;
    const bandwidth = deps.bandwidth.acquire(buyer.buyerId, buyer.account, bandwidthRates(buyer));
    const providerPriceMicrosPerGb = deps.providerPriceMicrosPerGb();
    const opened =
      providerPriceMicrosPerGb === null || allocation.endedBy !== null
        ? null
        : deps.relay.open(
            dialled,
            {
              sessionId: candidate.sessionId,
              deviceId: candidate.deviceId,
              buyerId: buyer.buyerId,
              account: buyer.account,
              packageId: allocation.packageId,
              subUserId: buyer.subUser?.id ?? null,
              ...destination,
              access: buyer.access,
              tag: auth.params.tag,
              sessionName: auth.params.session,
              allowance: allocation,
              bandwidth,
              wallets: this.#wallets(auth),
              mayReach: this.#mayReach(auth),
              providerPriceMicrosPerGb,
              buyerPriceMicrosPerGb: buyer.priceMicrosPerGb.toString(),
            },
            () => {
              allocated.release();
              onEnd();
            },
          );
    if (!opened?.ok) {
      bandwidth.release();
      dialled.stream.reset(0);
      allocated.release();
      return { ok: false, code: 'INTERNAL', detail: 'metering' };
    }
    return {
      ok: true,
      exit: exitOf(candidate, auth),
      ...opened.relayed,
    };
  }
}

function exitOf(candidate: Tunnel, { params }: Authenticated): Exit {
  return { id: exitId(candidate), country: candidate.country, session: params.session };
}

/** Does it the first time it is called. */
function once(work: () => void): () => void {
  let done = false;
  return () => {
    if (!done) work();
    done = true;
  };
}

/** Each made once: the exit of a tunnel never changes. */
const exitIds = new WeakMap<Tunnel, string>();

/** Names an exit to a buyer without telling what it is: the provider's id is random and never shown. */
function exitId(tunnel: Tunnel): string {
  let id = exitIds.get(tunnel);
  if (id === undefined) {
    id = hash('sha256', `${tunnel.providerId}|${tunnel.exitIp}`, 'base64url').slice(0, 16);
    exitIds.set(tunnel, id);
  }
  return id;
}
