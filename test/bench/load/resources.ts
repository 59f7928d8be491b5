/** What the machine must allow before thousands of connections are opened. */
import { readFileSync } from 'node:fs';

/** Descriptors that a process needs for itself: libraries, log, Redis, Postgres, listening sockets. */
const OWN_FILES = 200;

/**
 * Open files that processes started from here may have: Node raises its soft limit to the hard one, and what it starts
 * inherits that.
 */
export function openFilesMax(): number {
  const line = /^Max open files\s+(\w+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  return line?.[1] === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(line?.[1]);
}

/** Local ports that connections to one address and port can come from. */
export function localPorts(): number {
  const [low, high] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/);
  return Number(high) - Number(low) + 1;
}

/**
 * What must be raised before one process can hold so many connections, and one destination have so many of them from
 * this machine; null: nothing.
 */
export function tooFew(
  { connections, toOneDestination }: { connections: number; toOneDestination: number },
  machine = { files: openFilesMax(), ports: localPorts() },
): string | null {
  const files = connections + OWN_FILES;
  if (machine.files < files)
    return `needs ${files} open files a process, ${machine.files} are allowed: ulimit -Hn ${files} && ulimit -n ${files} first (root)`;
  if (machine.ports < toOneDestination)
    return (
      `needs ${toOneDestination} local ports, there are ${machine.ports}: --netns, ` +
      "or echo '10000 65000' >/proc/sys/net/ipv4/ip_local_port_range (root)"
    );
  return null;
}

/** CPU time in a window as a number of cores. */
export interface CoresUsed {
  gateway: number;
  /** The busiest of the client processes. */
  busiestClient: number;
  /** All parts of the measurement together. */
  all: number;
}

/** A process with one thread of JavaScript that uses so much of a core has no more to give; so has a whole machine. */
const FULL = 0.9;
/** Requests that were due and did begin: with fewer than this share the load was not what it should have been. */
const OFFERED_MIN = 0.95;

/** When a closed loop was as fast as its client and not as its gateway: the sentence that says so. */
export function clientBound({ gateway, busiestClient }: CoresUsed): string | null {
  if (busiestClient < FULL || gateway >= FULL) return null;
  return (
    `the client was at its limit (${busiestClient.toFixed(2)} cores) and not the gateway ` +
    `(${gateway.toFixed(2)}): the peak is the client's`
  );
}

/** How an open loop's requests went out, as shares of what was due. */
export interface Offered {
  begun: number;
  /** Not begun, since as many as may be were under way. */
  heldBack: number;
}

/**
 * When an open loop offered less than it should have: the sentences that say so, and whose limit it was. `cores` is what
 * the machine has.
 */
export function notOffered({ begun, heldBack }: Offered, used: CoresUsed, cores: number): string[] {
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`;
  const sentences: string[] = [];
  if (heldBack > 1 - OFFERED_MIN)
    sentences.push(
      `the clients held back ${percent(heldBack)} of what was due, with as many requests under way as they may have: ` +
        'answers and refusals came too slowly',
    );
  const late = 1 - begun - heldBack;
  if (late <= 1 - OFFERED_MIN) return sentences;
  const gateway = `the gateway had ${used.gateway.toFixed(2)}`;
  sentences.push(
    `the clients were too slow for ${percent(late)} of what was due: ` +
      (used.all >= cores * FULL
        ? `all ${cores} cores were busy, ${gateway} of them: they and the gateway took CPU from each other`
        : `the busiest of them used ${used.busiestClient.toFixed(2)} cores, ${gateway}: more --clients are needed`),
  );
  return sentences;
}
