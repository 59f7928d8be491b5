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

/** Whether nobody on the way can read what is said there: TLS, or this machine itself. `url`: of an HTTP service. */
export function isPrivateTransport(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'https:' || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
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

/** A port, 0 for any free one, or `off`. */
export function parsePagePort(value: string): number | 'off' {
  if (value === 'off') return value;
  if (!/^\d{1,5}$/.test(value) || Number(value) > 65_535) throw new Error('a port from 0 to 65535, or off');
  return Number(value);
}

/** Bytes for people: `500000`, `2GB`, `1.5 MB` (decimal), `none` for null. */
export function parseBytes(value: string): number | null {
  if (value === 'none') return null;
  const match = /^(\d+(?:\.\d+)?)\s*([kMGT]?)B?$/i.exec(value.trim());
  const power = 'KMGT'.indexOf((match?.[2] ?? '').toUpperCase() || '-') + 1;
  const bytes = Math.round(Number(match?.[1]) * 1000 ** power);
  if (match === null || !Number.isSafeInteger(bytes) || bytes < 1)
    throw new Error('bytes such as 500MB or 2GB, or none');
  return bytes;
}

/** A length of time: `90s`, `30m`, `2h`, `1d`; in ms. */
export function parseDuration(value: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(value);
  const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match?.[2] ?? ''] ?? 0;
  const ms = Number(match?.[1]) * unitMs;
  if (match === null || ms === 0 || ms > 366 * 86_400_000)
    throw new Error('a time such as 90s, 30m, 2h or 1d');
  return ms;
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
