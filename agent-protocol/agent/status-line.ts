import type { AgentCounters, AgentState } from './agent.js';

/** What one status line tells. */
export interface StatusSample {
  readonly state: AgentState;
  readonly counters: AgentCounters;
  /** Monotonic ms when it was taken. */
  readonly atMs: number;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** Bytes for people, decimal units: `999 B`, `1.5 MB`. */
export function readableBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.95 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

function bytesPerSecond(before: StatusSample | null, now: StatusSample): number {
  if (before === null || now.atMs <= before.atMs) return 0;
  const bytes =
    now.counters.bytesUp + now.counters.bytesDown - before.counters.bytesUp - before.counters.bytesDown;
  return Math.round((bytes * 1000) / (now.atMs - before.atMs));
}

/** One line for somebody who watches: `online  up 1.2 MB  down 40.0 MB  3.4 MB/s  12 streams`. */
export function readableStatus(before: StatusSample | null, now: StatusSample): string {
  const { bytesUp, bytesDown, streamsOpen, capBytesLeft } = now.counters;
  const left = capBytesLeft === null ? '' : `  ${readableBytes(capBytesLeft)} left`;
  return [
    now.state.padEnd(10),
    `up ${readableBytes(bytesUp)}`,
    `down ${readableBytes(bytesDown)}`,
    `${readableBytes(bytesPerSecond(before, now))}/s`,
    `${streamsOpen} streams${left}`,
  ].join('  ');
}

/** The same as one JSON object. */
export function jsonStatus(before: StatusSample | null, now: StatusSample): string {
  const { counters } = now;
  return JSON.stringify({
    state: now.state,
    bytes_up: counters.bytesUp,
    bytes_down: counters.bytesDown,
    bytes_per_second: bytesPerSecond(before, now),
    streams_open: counters.streamsOpen,
    streams_total: counters.streamsTotal,
    cap_bytes_left: counters.capBytesLeft,
  });
}
