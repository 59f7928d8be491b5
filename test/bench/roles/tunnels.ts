/** Devices that hold tunnels, many in one process. */
import { setMaxListeners } from 'node:events';
import { connectLive, type LiveRedis } from '../../../gateway/live/connection.js';
import type { TicketRecord } from '../../../gateway/live/records.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { BenchDevice, type DeviceSite } from './bench-device.js';
import { serveCalls } from './serve-calls.js';

/** How a whole fleet came back. */
export interface Comeback {
  /** Of each device that was welcomed: ms from the loss of its tunnel to WELCOME. */
  welcomedMs: number[];
  /** Devices that were not, in the time given. */
  missing: number;
  /** Attempts that came to nothing, of all devices. */
  failures: number;
  /** Why one of them did. */
  failure: string | null;
}

export interface TunnelsCalls {
  /** Opens a tunnel for each device, a few at a time; resolves when all were welcomed. */
  open(site: DeviceSite, records: TicketRecord[]): Promise<void>;
  /** Ends all tunnels at this side at once; each device dials again as the agent does. */
  cutAndReturn(timeoutMs: number): Promise<Comeback>;
  /** Devices whose tunnels were in another process, which is gone: they dial again from here. */
  returnFrom(site: DeviceSite, records: TicketRecord[], timeoutMs: number): Promise<Comeback>;
  /** Tunnels lost since they were opened that nobody here cut, and why one was. */
  losses(): Promise<{ lost: number; reason: string | null }>;
  close(): Promise<void>;
}

/** Handshakes of `open` under way at once. */
const AT_ONCE = 16;
/** Thousands write their tickets at once. */
const REDIS_TIMEOUT_MS = 15_000;
const REDIS_WAITING_MAX = 100_000;

let redis: LiveRedis | null = null;
let devices: BenchDevice[] = [];
const losses: { lost: number; reason: string | null } = { lost: 0, reason: null };

function makeDevices({ tunnelUrl, redisUrl }: DeviceSite, records: TicketRecord[]): BenchDevice[] {
  const connection = connectLive({
    url: redisUrl,
    log: silentLog,
    commandTimeoutMs: REDIS_TIMEOUT_MS,
    offlineCommandsMax: REDIS_WAITING_MAX,
  });
  redis?.disconnect();
  redis = connection;
  devices = records.map(
    (record) =>
      new BenchDevice(record, tunnelUrl, connection, (reason) => {
        losses.lost++;
        losses.reason ??= reason;
      }),
  );
  return devices;
}

async function comeBack(timeoutMs: number): Promise<Comeback> {
  const startMs = performance.now();
  const giveUp = new AbortController();
  setMaxListeners(0, giveUp.signal); // each device waits for it
  const timer = setTimeout(() => giveUp.abort(), timeoutMs);
  const comeback: Comeback = { welcomedMs: [], missing: 0, failures: 0, failure: null };
  await Promise.all(
    devices.map(async (device) => {
      const { welcomed, failures, firstFailure } = await device.connectAgain(giveUp.signal);
      if (welcomed) comeback.welcomedMs.push(performance.now() - startMs);
      else comeback.missing++;
      comeback.failures += failures;
      comeback.failure ??= firstFailure;
    }),
  );
  clearTimeout(timer);
  return comeback;
}

const calls: TunnelsCalls = {
  async open(site, records) {
    const waiting = makeDevices(site, records)[Symbol.iterator]();
    const worker = async () => {
      for (const device of waiting) await device.connect();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  },
  cutAndReturn(timeoutMs) {
    for (const device of devices) device.cut();
    return comeBack(timeoutMs);
  },
  returnFrom(site, records, timeoutMs) {
    makeDevices(site, records);
    return comeBack(timeoutMs);
  },
  losses: async () => losses,
  async close() {
    for (const device of devices) device.cut();
    redis?.disconnect();
  },
};
serveCalls({ ...calls });
