import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceNetwork } from './options.js';

/** What the rules about Wi-Fi and charging need to know of this machine. */
export interface MachineState {
  readonly network: DeviceNetwork;
  /** Runs on mains power; null: not known here. */
  readonly charging: boolean | null;
}

/**
 * Looks at a Linux machine: the kind of network its default route goes over, and whether it is on mains (a machine
 * without a battery is). Elsewhere, and of what can not be read, it says that it does not know. `root`: of /proc and
 * /sys.
 */
export function readMachine(root = '/'): MachineState {
  return { network: readNetwork(root), charging: readCharging(root) };
}

function readNetwork(root: string): DeviceNetwork {
  const device = defaultDevice(text(root, 'proc/net/route'));
  if (device === null) return 'unknown';
  const folder = join('sys/class/net', device);
  if (entries(root, folder).includes('wireless')) return 'wifi';
  // Modems: point to point (512), raw IP (519), or named by their driver
  const kind = /^DEVTYPE=(\w+)$/m.exec(text(root, join(folder, 'uevent')))?.[1];
  if (kind === 'wwan' || /^(512|519)\s*$/.test(text(root, join(folder, 'type')))) return 'mobile';
  return text(root, join(folder, 'type')).trim() === '1' ? 'ethernet' : 'unknown';
}

/** The device of the IPv4 default route with the lowest metric. */
function defaultDevice(table: string): string | null {
  const routes = table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1] === '00000000' && fields[7] === '00000000')
    .sort((a, b) => Number(a[6]) - Number(b[6]));
  const device = routes[0]?.[0];
  return device !== undefined && /^[^/]+$/.test(device) && device !== '..' ? device : null;
}

function readCharging(root: string): boolean | null {
  const folder = 'sys/class/power_supply';
  if (entries(root, 'sys/class').length === 0) return null;
  const supplies = entries(root, folder).map((name) => ({
    type: text(root, join(folder, name, 'type')).trim(),
    online: text(root, join(folder, name, 'online')).trim(),
    scope: text(root, join(folder, name, 'scope')).trim(),
  }));
  // A mouse's battery is none of the machine's
  if (!supplies.some(({ type, scope }) => type === 'Battery' && scope !== 'Device')) return true;
  return supplies.some(({ type, online }) => type !== 'Battery' && online === '1');
}

function text(root: string, path: string): string {
  try {
    return readFileSync(join(root, path), 'utf8');
  } catch {
    return '';
  }
}

function entries(root: string, path: string): string[] {
  try {
    return readdirSync(join(root, path));
  } catch {
    return [];
  }
}
