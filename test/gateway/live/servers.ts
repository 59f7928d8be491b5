import type { Test } from 'tap';
import { connectLive, type LiveConnectionOptions, type LiveRedis } from '../../../gateway/live/connection.js';
import type { AccountSnapshot, ClaimRecord, MeterReport } from '../../../gateway/live/records.js';
import { type Log, silentLog } from '../../../gateway/runtime/logging.js';
import { redisKinds, startRedis } from '../../helpers/services.js';

export interface LiveServer {
  url: string;
  /** A connection that ends with the test. */
  connect(test: Test, options?: Partial<LiveConnectionOptions>): LiveRedis;
}

/** Runs the tests of `define` on each kind of Redis that is installed: the real server and the embedded Valkey. */
export function onEachRedis(t: Test, define: (test: Test, server: LiveServer) => Promise<void>): void {
  for (const kind of redisKinds())
    t.test(kind, async (test) => {
      const server = await startRedis(kind);
      test.teardown(() => server.stop());
      await define(test, {
        url: server.url,
        connect: (inner, options) => connect(inner, { url: server.url, ...options }),
      });
    });
}

/** A connection to the live state that ends with the test. */
export function connect(test: Test, options: { url: string } & Partial<LiveConnectionOptions>): LiveRedis {
  const redis = connectLive({ log: silentLog, ...options });
  test.teardown(() => redis.disconnect());
  return redis;
}

/** A log that keeps the events it is told. */
export function recordingLog(): Log & { events: string[] } {
  const events: string[] = [];
  const record = (_fields: object, event: string) => {
    events.push(event);
  };
  const log = { debug: record, info: record, warn: record, error: record, child: () => log, events };
  return log;
}

export function claimRecord(allocationId: string, more: Partial<ClaimRecord> = {}): ClaimRecord {
  return {
    allocationId,
    buyerId: 'b0000000-0000-4000-8000-000000000001',
    account: 'acme',
    sessionId: null,
    packageId: null,
    sizeBytes: 1_000_000_000,
    assignedAtMs: 1_700_000_000_000,
    ...more,
  };
}

export function meterReport(more: Partial<MeterReport> = {}): MeterReport {
  return {
    sessionId: '5e000000-0000-4000-8000-000000000001',
    allocationId: 'a1000000-0000-4000-8000-000000000001',
    epoch: '0123456789abcdef0123456789abcdef',
    providerPriceMicrosPerGb: '100000',
    buyerPriceMicrosPerGb: '3000000',
    buyerId: 'b0000000-0000-4000-8000-000000000001',
    packageId: null,
    subUserId: null,
    bytesUp: 0,
    bytesDown: 0,
    openedAtMs: 1_700_000_000_000,
    activeAtMs: 1_700_000_000_000,
    final: false,
    allocationEnded: false,
    ...more,
  };
}

export function accountSnapshot(more: Partial<AccountSnapshot> = {}): AccountSnapshot {
  return {
    account: 'acme',
    buyerId: 'b0000000-0000-4000-8000-000000000001',
    subUser: null,
    status: 'active',
    kycStatus: 'approved',
    aupAccepted: true,
    credentials: [],
    passwordlessIps: [],
    priceMicrosPerGb: '3000000',
    limits: { streamsMax: 100, connectionsPerSecondMax: 100, extraPorts: [], grantedPorts: [] },
    version: 1,
    ...more,
  };
}
