import { createHash } from 'node:crypto';
import { DialCode as Dial, type DialCode } from '../agent-protocol/frame.js';
import type { Allocated, Allocator } from './allocation/allocator.js';
import { authenticate } from './buyers/authenticate.js';
import { checkDestination, type DestinationPolicy } from './buyers/destination-policy.js';
import type { BuyerAccess, BuyerDirectory } from './buyers/directory.js';
import { type AccountLimits, bandwidthRates } from './buyers/limits.js';
import { connectionRefusal, type OpenConnection } from './buyers/standing.js';
import { parseUsername } from './buyers/username.js';
import { walletOwners } from './buyers/wallet-owners.js';
import { type ProxyErrorCode, type ProxyFailure, proxyErrors } from './errors.js';
import type { Authenticated, Connected, ProxyPipeline } from './listeners/connect-pipeline.js';
import type { MeterRegistry } from './metering/registry.js';
import type { Wallet } from './metering/wallet.js';
import type { WalletBook } from './metering/wallet-book.js';
import type { BandwidthLimits } from './relay/bandwidth.js';
import type { Relay } from './relay/relay.js';
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
  /** One call a connection: how it went, for metrics. */
  onConnection: (outcome: ProxyErrorCode | 'OK', tookMs: number) => void;
}

/** The way of one connection through the stages: who, where, which device, dial, relay. */
export class GatewayPipeline implements ProxyPipeline {
  constructor(private readonly deps: PipelineDeps) {}

  async authenticate(credentials: {
    username: string;
    password: string | null;
    clientAddress: string;
  }): Promise<Authenticated | ProxyFailure> {
    if (this.deps.isDraining()) return { ok: false, code: 'DRAINING' };
    const parsed = parseUsername(credentials.username);
    if (!parsed.ok) return parsed;
    const known = await authenticate(
      this.deps.directory,
      credentials,
      parsed.params,
      this.deps.clock.nowMs(),
    );
    if (!known.ok) return known;
    const auth: Authenticated = { ok: true, buyer: known.buyer, params: parsed.params };
    return (await this.#pay(auth)) ?? auth;
  }

  async connect(
    auth: Authenticated,
    destination: { host: string; port: number },
  ): Promise<Connected | ProxyFailure> {
    const startMs = this.deps.clock.monotonicMs();
    const outcome = await this.#connect(auth, destination);
    this.deps.onConnection(outcome.ok ? 'OK' : outcome.code, this.deps.clock.monotonicMs() - startMs);
    return outcome;
  }

  async #connect(
    auth: Authenticated,
    destination: { host: string; port: number },
  ): Promise<Connected | ProxyFailure> {
    const { deps } = this;
    if (deps.isDraining()) return { ok: false, code: 'DRAINING' };
    const allowed = checkDestination(destination.host, destination.port, auth.buyer, deps.policy());
    if (!allowed.ok) return allowed;
    if (!deps.meters.canAdmit) return { ok: false, code: 'INTERNAL', detail: 'metering' };
    const admission = deps.limits.acquire(auth.buyer);
    if (!admission.ok) return admission;
    const paid = await this.#pay(auth);
    if (paid !== null) {
      admission.release();
      return paid;
    }
    const connected = await this.#dial(auth, allowed.host, destination.port, admission.release);
    if (!connected.ok) admission.release();
    return connected;
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
    { account, access }: BuyerAccess,
    destination: Pick<OpenConnection, 'destinationHost' | 'destinationPort'>,
  ): Promise<ProxyFailure | null> {
    const { directory, policy, clock } = this.deps;
    const entry = directory.cached(account) ?? (await directory.lookup(account));
    if (entry === null) return { ok: false, code: 'AUTH_FAILED' };
    if (entry === 'unavailable') return { ok: false, code: 'INTERNAL', detail: 'live state unavailable' };
    const code = connectionRefusal(entry, { access, ...destination }, policy(), clock.nowMs());
    return code === null ? null : { ok: false, code };
  }

  /** Tries devices until one has dialled, or the destination itself said no. */
  async #dial(
    auth: Authenticated,
    host: string,
    port: number,
    onEnd: () => void,
  ): Promise<Connected | ProxyFailure> {
    const { deps } = this;
    const failed = new Set<string>();
    let failure: ProxyFailure | null = null;
    for (let tries = 0; tries <= RETRIES_MAX; tries++) {
      const allocated = await deps.allocator.allocate(auth.buyer, auth.params, failed);
      if (!allocated.ok) return failure ?? allocated;
      const dialled = await allocated.candidate.dial(host, port, deps.dialTimeoutMs);
      if (dialled.ok) {
        const destination = { destinationHost: host, destinationPort: port };
        const refused = await this.#refusedNow(auth.buyer, destination);
        if (refused === null) return this.#relay(auth, destination, allocated, dialled, onEnd);
        dialled.stream.reset(0);
        allocated.release();
        return refused;
      }
      allocated.release();
      failure = { ok: false, code: DIAL_FAILURES[dialled.why] };
      if (auth.params.strict || !proxyErrors[failure.code].retryOnAnotherDevice) return failure;
      failed.add(allocated.candidate.deviceId);
    }
    return failure ?? { ok: false, code: 'NO_PEER' };
  }

  #relay(
    auth: Authenticated,
    destination: Pick<OpenConnection, 'destinationHost' | 'destinationPort'>,
    allocated: Allocated<Tunnel>,
    dialled: Extract<DialOutcome, { ok: true }>,
    onEnd: () => void,
  ): Connected | ProxyFailure {
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
              allowance: allocation,
              bandwidth,
              wallets: this.#wallets(auth),
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
      exit: { id: exitId(candidate), country: candidate.country, session: auth.params.session },
      ...opened.relayed,
    };
  }
}

/** Names an exit to a buyer without telling what it is: the provider's id is random and never shown. */
function exitId({ providerId, exitIp }: { providerId: string; exitIp: string }): string {
  return createHash('sha256').update(`${providerId}|${exitIp}`).digest('base64url').slice(0, 16);
}
