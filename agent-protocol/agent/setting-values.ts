import { isIP } from 'node:net';
import { parseHost } from '../address.js';
import type { DayHours } from './owner-rules.js';

// Each gives the value or throws an Error whose message says what is expected, without quoting what came

/** A whole number in [min, max]. */
export function integer(min: number, max: number): (value: string) => number {
  return (value) => {
    const n = Number(value);
    if (!/^\d+$/.test(value) || n < min || n > max) throw new Error(`a whole number from ${min} to ${max}`);
    return n;
  };
}

/** One of these words. */
export function oneOf<T extends string>(...words: readonly T[]): (value: string) => T {
  return (value) => {
    const word = words.find((w) => w === value);
    if (word === undefined) throw new Error(`one of ${words.join(', ')}`);
    return word;
  };
}

/** 1/0, true/false, yes/no, on/off. */
export function parseSwitch(value: string): boolean {
  if (/^(1|true|yes|on)$/i.test(value)) return true;
  if (/^(0|false|no|off)$/i.test(value)) return false;
  throw new Error('1 or 0');
}

/** URL of an HTTP service. */
export function parseHttpUrl(value: string): string {
  if (!/^https?:$/.test(protocolOf(value))) throw new Error('an http:// or https:// URL');
  return value;
}

/** URL of a WebSocket. */
export function parseTunnelUrl(value: string): string {
  if (!/^wss?:$/.test(protocolOf(value))) throw new Error('a ws:// or wss:// URL');
  return value;
}

function protocolOf(value: string): string {
  return URL.canParse(value) ? new URL(value).protocol : '';
}

function items(value: string): string[] {
  return value
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean);
}

/** Names and addresses; `*.` and `.` in front of a name change nothing. */
export function parseHosts(value: string): string[] {
  const hosts = items(value);
  if (hosts.some((host) => parseHost(host.replace(/^\*?\./, '')).kind === 'invalid'))
    throw new Error('host names or IP addresses, separated by commas');
  return hosts;
}

/** Ports, separated by commas; `-`: none. */
export function parsePorts(value: string): number[] {
  const ports = items(value === '-' ? '' : value);
  if (!ports.every((port) => /^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535))
    throw new Error('ports from 1 to 65535, separated by commas, or - for none');
  return ports.map(Number);
}

/** What `splitHostPort` takes, separated by commas. */
export function parseHostPorts(value: string): string[] {
  const entries = items(value);
  for (const entry of entries)
    if (splitHostPort(entry) === null) throw new Error('host:port, separated by commas');
  return entries;
}

/** `host:port` or `[IPv6]:port` into its parts, or null. */
export function splitHostPort(entry: string): { host: string; port: number } | null {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(entry);
  if (match === null) return null;
  const port = Number(match[3]);
  if (port < 1 || port > 65_535) return null;
  if (match[1] !== undefined) return isIP(match[1]) === 6 ? { host: match[1], port } : null;
  return { host: match[2] as string, port };
}

/** `22-06`, `9:30-17`: local hours, over midnight too. */
export function parseHours(value: string): DayHours {
  const match = /^(\d{1,2})(?::(\d{2}))?-(\d{1,2})(?::(\d{2}))?$/.exec(value);
  const minute = (hour: string | undefined, past: string | undefined) => {
    const minutes = Number(hour) * 60 + Number(past ?? 0);
    if (match === null || Number(past ?? 0) > 59 || minutes > 24 * 60)
      throw new Error('hours such as 22-06 or 9:30-17');
    return minutes;
  };
  return { fromMinute: minute(match?.[1], match?.[2]), toMinute: minute(match?.[3], match?.[4]) };
}
