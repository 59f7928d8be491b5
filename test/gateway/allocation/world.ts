import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import { Allocator, type AllocatorSettings } from '../../../gateway/allocation/allocator.js';
import { CandidateIndex } from '../../../gateway/allocation/candidate-index.js';
import type { AllocationBuyer, Candidate, RouteWish } from '../../../gateway/allocation/candidates.js';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import type { GatewayRun, PackageRoute } from '../../../gateway/live/records.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type Device = Mutable<Candidate>;

/** A device at an exit of its own. */
export function device(n: number, more: Partial<Device> = {}): Device {
  return {
    deviceId: `device-${n}`,
    providerId: `provider-${n}`,
    sessionId: `session-${n}`,
    exitIp: `198.51.${n >> 8}.${n & 255}`,
    country: 'US',
    city: null,
    asn: 7922,
    networkType: 'wifi',
    offerBytes: 1_000_000_000,
    status: 'sharing',
    ...more,
  };
}

export function buyer(account = 'acme', packageRoute: PackageRoute | null = null): AllocationBuyer {
  return { account, buyerId: `buyer-${account}`, packageRoute };
}

export function wish(more: Partial<RouteWish> = {}): RouteWish {
  return {
    country: null,
    state: null,
    city: null,
    asn: null,
    isp: null,
    session: null,
    ttlMinutes: 10,
    strict: false,
    fallback: 'none',
    net: 'any',
    packageId: null,
    ...more,
  };
}

export interface GatewayWorld {
  index: CandidateIndex<Device>;
  allocator: Allocator<Device>;
  clock: ManualClock;
  /** `account reason` of every allocation that ended. */
  ended: string[];
  /** `device-1`, or the code. Keeps the connection open unless `release`. */
  via(account: string, more?: Partial<RouteWish>, exclude?: ReadonlySet<string>): Promise<string>;
  /** As `visit`, for a connection that nobody else can serve. */
  last(account: string): Promise<string>;
  /** The same for a connection that ends at once. */
  visit(account: string, more?: Partial<RouteWish>, exclude?: ReadonlySet<string>): Promise<string>;
}

/** One gateway with its devices; several on one Redis are as many gateways. */
export function gateway(
  test: Test,
  redis: LiveRedis,
  devices: readonly Device[],
  settings: Partial<AllocatorSettings> & {
    random?: () => number;
    clock?: ManualClock;
    run?: GatewayRun;
    isOver?: (run: GatewayRun) => boolean;
  } = {},
): GatewayWorld {
  const { random = Math.random, clock = new ManualClock(), run, isOver = () => false, ...rest } = settings;
  const index = new CandidateIndex<Device>(random);
  for (const one of devices) index.add(one);
  const ended: string[] = [];
  const allocator = new Allocator<Device>(
    {
      redis,
      index,
      clock,
      gateway: run ?? { gatewayId: randomUUID(), epoch: randomUUID() },
      isOver,
      log: silentLog,
      random,
      onAllocationEnded: ({ account }, reason) => ended.push(`${account} ${reason}`),
    },
    rest,
  );
  test.teardown(() => allocator.stop());
  const connect = async (
    account: string,
    more: Partial<RouteWish> = {},
    exclude?: ReadonlySet<string>,
    { keep = true, isLast = false } = {},
  ): Promise<string> => {
    const outcome = await allocator.allocate(buyer(account), wish(more), exclude, isLast);
    if (!outcome.ok) return outcome.code;
    if (!keep) outcome.release();
    return outcome.candidate.deviceId;
  };
  return {
    index,
    allocator,
    clock,
    ended,
    via: (account, more, exclude) => connect(account, more, exclude),
    visit: (account, more, exclude) => connect(account, more, exclude, { keep: false }),
    last: (account) => connect(account, {}, undefined, { keep: false, isLast: true }),
  };
}
