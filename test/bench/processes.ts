/** What the kernel knows of processes: proc(5), so Linux only. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Kernel clock ticks a second in /proc: 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

interface Stat {
  parent: number;
  cpuSeconds: number;
}

/** Field 4 is the parent, 14 and 15 are user and system time of all threads, 16 and 17 of children that ended. */
function stat(pid: number): Stat | null {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' '); // begins with field 3
    const ticks = [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0);
    return { parent: Number(fields[1]), cpuSeconds: ticks / TICKS_PER_SECOND };
  } catch {
    return null; // ended meanwhile
  }
}

const pids = () => readdirSync('/proc').map(Number).filter(Number.isInteger);

/** The process and everything below it. */
export function processTree(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const pid of pids()) {
    const parent = stat(pid)?.parent;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found: number[] = [];
  const visit = (pid: number): void => {
    found.push(pid);
    for (const child of children.get(pid) ?? []) visit(child);
  };
  visit(root);
  return found;
}

/** CPU seconds (user + system) used so far by the processes, children of theirs that ended included. */
export function cpuSeconds(processes: readonly number[]): number {
  return processes.reduce((sum, pid) => sum + (stat(pid)?.cpuSeconds ?? 0), 0);
}

/** Resident memory in bytes, summed: shared pages count once a process. */
export function residentBytes(processes: readonly number[]): number {
  return processes.reduce((sum, pid) => {
    try {
      const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
      return sum + Number(line?.[1] ?? 0) * 1024;
    } catch {
      return sum;
    }
  }, 0);
}

/** The process that listens on a TCP port of 127.0.0.1 or of all addresses; null when there is none. */
export function listenerPid(port: number): number | null {
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6'])
    for (const line of readFileSync(table, 'utf8').split('\n').slice(1)) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      const LISTEN = '0A';
      if (state === LISTEN && Number.parseInt(local?.split(':')[1] ?? '', 16) === port)
        inodes.add(`socket:[${inode}]`);
    }
  for (const pid of pids())
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`))
        if (inodes.has(readlinkSync(`/proc/${pid}/fd/${fd}`))) return pid;
    } catch {} // ended meanwhile, or not ours
  return null;
}

/** The command line, words separated by blanks; empty when the process is gone. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}
