import { setTimeout as delay } from 'node:timers/promises';
import { DialCode } from '../agent-protocol/frame.js';
import type { Allocated, Allocator } from './allocation/allocator.js';
import type { RouteWish } from './allocation/candidates.js';
import { ALONE, goesOn, isLast, orElsewhere, wishOf } from './attempts.js';
import { type Authentication, authenticate, type ProxyCredentials } from './buyers/authenticate.js';
import { checkDestination, type DestinationPolicy } from './buyers/destination-policy.js';
import type { AccountEntry, BuyerAccess, BuyerDirectory } from './buyers/directory.js';
import type { AccountLimits, Admission as Place } from './buyers/limits.js';
import type { LoginBackoff } from './buyers/login-backoff.js';
import { accessRefusal, connectionRefusal, type OpenConnection } from './buyers/standing.js';
import { accountIn, parseUsername, type RouteParams } from './buyers/username.js';
import { leastLeft } from './bytes-left.js';
import { dialFailures } from './dial-failures.js';
import { type ProxyErrorCode, type ProxyFailure, proxyErrors } from './errors.js';
import { exitOf } from './exits.js';
import type {
  AskedLogin,
  Associated,
  Attempts,
  Authenticated,
  Connected,
  EchoAnswer,
  Exit,
  ProxyPipeline,
} from './listeners/connect-pipeline.js';
import type { MeterRegistry } from './metering/registry.js';
import type { WalletBook } from './metering/wallet-book.js';
import { unpaid, walletsOf } from './paying.js';
import { AssociationPlaces } from './relay/association-places.js';
import type { BandwidthLimits } from './relay/bandwidth.js';
import type { Relay, RelayedStream } from './relay/relay.js';
import type { Clock } from './runtime/clock.js';
import { type Soon, soon } from './runtime/soon.js';
import type { DialOutcome, Tunnel } from './tunnels/tunnel.js';
import type { RefusedTarget } from './usage/refusal-book.js';

const AWAY: ProxyFailure = { ok: false, code: 'INTERNAL', detail: 'live state unavailable' };

/** Devices that are dialled for one connection at most, before any byte was relayed. */
const DEVICES_MAX = 3;

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
  /** A connection of this buyer was refused, at its login or later. */
  onRefused: (buyerId: string, failure: ProxyFailure, target: RefusedTarget) => void;
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
  attempts: Attempts;
  dial(device: Tunnel): Promise<DialOutcome>;
}

/** A stream through a device, counted from now on. */
type Opened = { ok: true; exit: Exit } & RelayedStream;

/** The way of one connection through the stages: who, where, which device, dial, relay. */
export class GatewayPipeline implements ProxyPipeline {
  readonly associationPlaces: AssociationPlaces;

  constructor(private readonly deps: PipelineDeps) {
    this.associationPlaces = new AssociationPlaces(deps.associationsMax);
  }

  authenticate(credentials: AskedLogin): Soon<Authenticated | ProxyFailure> {
    if (this.deps.isDraining()) return { ok: false, code: 'DRAINING' };
    return soon(this.#usernameOf(credentials), (username) => {
      if (typeof username !== 'string') return username;
      const parsed = parseUsername(username);
      if (!parsed.ok) return this.#tell(accountIn(username), parsed);
      const { params } = parsed;
      return soon(this.#logIn(credentials, params), (known) => {
        if (!known.ok) return this.#tell(params.account, known);
        const auth: Authenticated = { ok: true, buyer: known.buyer, params, asked: credentials };
        return soon(unpaid(this.deps.wallets, auth.buyer), (refused) =>
          refused === null ? auth : this.#refuse(auth.buyer, refused),
        );
      });
    });
  }

  /** Counts a login's refusal for the account's buyer when this gateway knows it by heart: that costs no round trip. */
  #tell(account: string, failure: ProxyFailure): ProxyFailure {
    return this.#refuse(this.deps.directory.cached(account)?.snapshot, failure);
  }

  #refuse(buyer: { buyerId: string } | undefined, why: ProxyFailure, to: RefusedTarget = null): ProxyFailure {
    if (buyer !== undefined) this.deps.onRefused(buyer.buyerId, why, to);
    return why;
  }

  /** Checks the login unless too many were wrong before it. */
  #logIn(credentials: ProxyCredentials, params: RouteParams): Soon<Authentication> {
    const { backoff, clock, directory } = this.deps;
    const { clientAddress } = credentials;
    const retryAfterSeconds = Math.ceil(backoff.waitMs(clientAddress, params.account) / 1_000);
    if (retryAfterSeconds > 0) return { ok: false, code: 'RATE_LIMIT', detail: 'logins', retryAfterSeconds };
    const startMs = clock.monotonicMs();
    return soon(authenticate(directory, credentials, params, clock.nowMs()), (known) => {
      if (known.ok) backoff.succeeded(clientAddress, params.account);
      else if (known.code === 'AUTH_FAILED') {
        backoff.failed(clientAddress, params.account);
        return this.#late(known, startMs);
      }
      return known;
    });
  }

  /** An account that is in use is known without asking Redis: the time must not tell it from one that is not. */
  async #late(refusal: ProxyFailure, startMs: number): Promise<ProxyFailure> {
    const { clock, loginRefusalMs } = this.deps;
    await delay(Math.max(0, startMs + loginRefusalMs - clock.monotonicMs()));
    return refusal;
  }

  /** The username; of a client that sent none and no password either, the account that its address stands for. */
  #usernameOf({
    username,
    password,
    clientAddress,
  }: ProxyCredentials & { username: string }): Soon<string | ProxyFailure> {
    if (username !== '' || password !== null) return username;
    return soon(this.deps.directory.accountAt(clientAddress), (account) => {
      if (account === 'unavailable') return AWAY;
      return account ?? { ok: false, code: 'AUTH_FAILED' };
    });
  }

  connect(
    auth: Authenticated,
    destination: { host: string; port: number },
    attempts = ALONE,
  ): Soon<Connected | ProxyFailure> {
    return this.#timed(auth, destination, attempts, () => {
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
        wish: wishOf(auth, attempts),
        attempts,
        dial: (device) => device.dial(allowed.host, port, this.deps.dialTimeoutMs),
      });
    });
  }

  associate(auth: Authenticated, attempts = ALONE): Soon<Associated | ProxyFailure> {
    return this.#timed(auth, null, attempts, () => {
      if (this.deps.isDraining()) return { ok: false, code: 'DRAINING' };
      if (auth.buyer.limits.udp !== true) return { ok: false, code: 'UDP_NOT_ALLOWED' };
      const release = this.associationPlaces.take();
      if (release === null) return { ok: false, code: 'CONN_LIMIT' };
      const opened = this.#open(
        auth,
        {
          host: '*',
          port: 0,
          network: 'udp',
          policy: null,
          // A strict session stays where it is, also when its device can not do it.
          wish: { ...wishOf(auth, attempts), udp: !auth.params.strict },
          attempts,
          dial: (device) => device.associate(this.deps.dialTimeoutMs),
        },
        release,
      );
      return soon(opened, (opened) => {
        if (!opened.ok) release();
        return opened;
      });
    });
  }

  /** Tells metrics how it went and how long it took, and the buyer's counts a refusal, unless another worker will. */
  #timed<T extends { ok: true }>(
    auth: Authenticated,
    to: RefusedTarget,
    attempts: Attempts,
    work: () => Soon<T | ProxyFailure>,
  ): Soon<T | ProxyFailure> {
    const startMs = this.deps.clock.monotonicMs();
    return soon(work(), (outcome) => {
      if (goesOn(outcome, attempts)) return outcome;
      this.deps.onConnection(outcome.ok ? 'OK' : outcome.code, this.deps.clock.monotonicMs() - startMs);
      return outcome.ok ? outcome : this.#refuse(auth.buyer, outcome, to);
    });
  }

  /** A refusal with `elsewhere` that nobody else could make good: it is told now. */
  gaveUp(auth: Authenticated, failure: ProxyFailure, tookMs: number): void {
    this.deps.limits.count(auth.buyer);
    this.deps.onConnection(failure.code, tookMs);
    this.#refuse(auth.buyer, failure);
  }

  async echo(auth: Authenticated, attempts = ALONE): Promise<EchoAnswer | ProxyFailure> {
    const answer = await this.#echo(auth, attempts);
    return answer.ok || goesOn(answer, attempts) ? answer : this.#refuse(auth.buyer, answer);
  }

  async #echo(auth: Authenticated, attempts: Attempts): Promise<EchoAnswer | ProxyFailure> {
    const { deps } = this;
    if (deps.isDraining()) return { ok: false, code: 'DRAINING' };
    // Free of charge, not of limits: it takes a place as a connection does.
    const place = await deps.limits.acquire(auth.buyer);
    if (!place.ok) return place;
    try {
      const paid = await unpaid(this.deps.wallets, auth.buyer);
      if (paid !== null) return paid;
      const last = isLast(attempts);
      const allocated = await deps.allocator.allocate(auth.buyer, wishOf(auth, attempts), undefined, last);
      if (!allocated.ok) {
        const failure = orElsewhere(allocated, allocated, DEVICES_MAX);
        if (goesOn(failure, attempts)) place.undo();
        return failure;
      }
      const { candidate, allocation } = allocated;
      allocated.release();
      const { city, asn } = candidate;
      const bytesLeft = leastLeft(auth.buyer, walletsOf(this.deps.wallets, auth.buyer), allocation);
      return { ok: true, exit: exitOf(candidate, auth.params.session), city, asn, bytesLeft };
    } finally {
      place.release();
    }
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

  #open(auth: Authenticated, wanted: Wanted, onEnd: () => void = () => {}): Soon<Opened | ProxyFailure> {
    const { deps } = this;
    if (!deps.meters.canAdmit) return { ok: false, code: 'INTERNAL', detail: 'metering' };
    return soon(deps.limits.acquire(auth.buyer), (place) => {
      if (!place.ok) return place;
      return soon(unpaid(deps.wallets, auth.buyer), (refused) => {
        const opened =
          refused ??
          this.#dial(auth, wanted, place, () => {
            place.release();
            onEnd();
          });
        return soon(opened, (opened) => {
          if (goesOn(opened, wanted.attempts)) place.undo();
          else if (!opened.ok) place.release();
          return opened;
        });
      });
    });
  }

  /**
   * Why a connection that was let in is refused all the same: its account has changed meanwhile. What changes after
   * this, `AccessWatch` sees to.
   */
  #refusedNow(
    buyer: BuyerAccess,
    destination: Omit<OpenConnection, 'access'>,
    judgedBy: DestinationPolicy | null,
  ): Soon<ProxyFailure | null> {
    const { directory } = this.deps;
    const entry = directory.cached(buyer.account) ?? directory.lookup(buyer.account);
    return soon(entry, (entry) => this.#judgeAgain(entry, buyer, destination, judgedBy));
  }

  #judgeAgain(
    entry: AccountEntry | null | 'unavailable',
    { access, limits, rules }: BuyerAccess,
    destination: Omit<OpenConnection, 'access'>,
    judgedBy: DestinationPolicy | null,
  ): ProxyFailure | null {
    const { clock } = this.deps;
    if (entry === null) return { ok: false, code: 'AUTH_FAILED' };
    if (entry === 'unavailable') return AWAY;
    const policy = this.deps.policy();
    // Snapshots and lists are replaced, never changed: by the same ones the destination is allowed still.
    const same = policy === judgedBy && entry.rules === rules && entry.snapshot.limits === limits;
    const code = same
      ? accessRefusal(entry, access, clock.nowMs())
      : connectionRefusal(entry, { access, ...destination }, policy, clock.nowMs());
    return code === null ? null : { ok: false, code };
  }

  /** Tries devices until one has dialled, or the destination itself said no. */
  async #dial(
    auth: Authenticated,
    wanted: Wanted,
    place: Place,
    onEnd: () => void,
  ): Promise<Opened | ProxyFailure> {
    const { deps } = this;
    let failed: Set<string> | undefined;
    let failure: ProxyFailure | null = null;
    for (let devicesLeft = wanted.attempts.devicesMax ?? DEVICES_MAX; devicesLeft > 0; devicesLeft--) {
      const found = deps.allocator.allocate(auth.buyer, wanted.wish, failed, isLast(wanted.attempts));
      const allocated = found instanceof Promise ? await found : found;
      if (!allocated.ok) return orElsewhere(failure ?? allocated, allocated, devicesLeft);
      const served = place.serve();
      const limited = served instanceof Promise ? await served : served;
      if (limited !== null) {
        allocated.release();
        return limited;
      }
      const dialled = await wanted.dial(allocated.candidate);
      // It may have ended meanwhile: its device has moved, say.
      if (dialled.ok && allocated.allocation.endedBy === null) {
        const destination = {
          destinationHost: wanted.host,
          destinationPort: wanted.port,
          network: wanted.network,
        };
        const judged = this.#refusedNow(auth.buyer, destination, wanted.policy);
        const refused = judged instanceof Promise ? await judged : judged;
        if (refused === null) return this.#relay(auth, destination, allocated, dialled, onEnd);
        dialled.stream.reset(0);
        allocated.release();
        return refused;
      }
      if (dialled.ok) dialled.stream.reset(0);
      allocated.release();
      const why = dialled.ok ? 'lost' : dialled.why;
      // To ask for UDP is no fault of the device: there is none that matches.
      const unsupported = wanted.network === 'udp' && why === DialCode.UNSUPPORTED;
      failure = { ok: false, code: unsupported ? 'NO_PEER' : dialFailures[why] };
      const another = unsupported || proxyErrors[failure.code].retryOnAnotherDevice;
      if (auth.params.strict || !another) return failure;
      failed ??= new Set();
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
    const bandwidth = deps.bandwidth.acquire(buyer.buyerId, buyer.account, deps.limits.bandwidthRates(buyer));
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
              destinationHost: destination.destinationHost,
              destinationPort: destination.destinationPort,
              network: destination.network,
              access: buyer.access,
              tag: auth.params.tag,
              sessionName: auth.params.session,
              allowance: allocation,
              bandwidth,
              wallets: walletsOf(this.deps.wallets, auth.buyer),
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
    const { splice, duplex, start, abandon } = opened.relayed;
    return { ok: true, exit: exitOf(candidate, auth.params.session), splice, duplex, start, abandon };
  }
}
