import { readFile, statfs } from 'node:fs/promises';
import os from 'node:os';

/** The machine and this process. */
export interface HostFigures {
  cpu: { cores: number; load_1: number; load_5: number; load_15: number; process_percent: number };
  memory: { total_bytes: number; free_bytes: number; process_bytes: number; heap_bytes: number };
  /** Of the volume the process works on; null where the system does not say. */
  disk: { total_bytes: number; free_bytes: number } | null;
  /** Since the machine started, loopback left out; null where the system does not say. */
  network: { received_bytes: number; sent_bytes: number } | null;
  uptime_seconds: number;
  process_uptime_seconds: number;
}

/** `process_percent`: of one core, on average since the process started. */
export async function readHost(folder = '.'): Promise<HostFigures> {
  const [load1 = 0, load5 = 0, load15 = 0] = os.loadavg();
  const { user, system } = process.cpuUsage();
  const memory = process.memoryUsage();
  const round = (n: number) => Math.round(n * 100) / 100;
  const [disk, network] = await Promise.all([readDisk(folder), readNetwork()]);
  return {
    cpu: {
      cores: os.cpus().length,
      load_1: round(load1),
      load_5: round(load5),
      load_15: round(load15),
      process_percent: round((user + system) / 10_000 / process.uptime()),
    },
    memory: {
      total_bytes: os.totalmem(),
      free_bytes: os.freemem(),
      process_bytes: memory.rss,
      heap_bytes: memory.heapUsed,
    },
    disk,
    network,
    uptime_seconds: Math.floor(os.uptime()),
    process_uptime_seconds: Math.floor(process.uptime()),
  };
}

async function readDisk(folder: string): Promise<HostFigures['disk']> {
  try {
    const { bsize, blocks, bavail } = await statfs(folder);
    return { total_bytes: bsize * blocks, free_bytes: bsize * bavail };
  } catch {
    return null;
  }
}

/** Linux's own counters; other systems have no file of them. */
async function readNetwork(): Promise<HostFigures['network']> {
  try {
    return sumInterfaces(await readFile('/proc/net/dev', 'utf8'));
  } catch {
    return null;
  }
}

/** Sums of `/proc/net/dev`: column 1 of each interface is bytes received, column 9 bytes sent. */
export function sumInterfaces(text: string): { received_bytes: number; sent_bytes: number } {
  const sum = { received_bytes: 0, sent_bytes: 0 };
  for (const line of text.split('\n')) {
    const [name, figures] = line.split(':');
    if (name === undefined || figures === undefined || name.trim() === 'lo') continue;
    const columns = figures.trim().split(/\s+/).map(Number);
    sum.received_bytes += columns[0] ?? 0;
    sum.sent_bytes += columns[8] ?? 0;
  }
  return sum;
}
