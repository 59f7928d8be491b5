import type { AgentEnd } from './agent-end.js';

/** Exit codes of `traffic-share agent` and its commands, each with what it means. They stay as they are. */
export const EXIT_CODES = {
  stopped: [0, 'stopped as asked, or done'],
  failed: [1, 'wrong settings or an unexpected error'],
  owner: [
    2,
    'its owner must act first: the terms are to be accepted, or sharing was stopped in the app or the bot',
  ],
  replaced: [3, 'replaced by another agent with the same device'],
  not_running: [4, 'no agent runs here (status, pause, resume, caps, schedule)'],
  already_running: [5, 'another agent runs with this state folder'],
  not_signed_in: [6, 'not signed in: traffic-share agent login'],
  client_too_old: [10, 'this version is too old: update it'],
  region_not_allowed: [11, 'sharing is not offered in this country'],
  vpn_detected: [12, 'the network belongs to a VPN, proxy or data centre'],
  denylisted: [13, 'the address is on the denylist'],
  banned: [14, 'the account or the device is banned'],
  device_removed: [15, 'this device was removed from the account, or its key is not known'],
} as const satisfies Record<string, readonly [number, string]>;

export type ExitName = keyof typeof EXIT_CODES;

export function exitCode(name: ExitName): number {
  return EXIT_CODES[name][0];
}

/** The process's exit code for how an agent ended. */
export function exitCodeOf({ exitCode: kind, code }: AgentEnd): number {
  if (kind !== 2) return kind;
  if (code === 'invalid_token' || code === 'unauthenticated') return exitCode('device_removed');
  if (code === 'unpaid_region') return exitCode('region_not_allowed');
  return Object.hasOwn(EXIT_CODES, code) && code !== 'stopped'
    ? exitCode(code as ExitName)
    : exitCode('owner');
}

/** Part of the help text. */
export const EXIT_CODES_HELP = `Exit codes: ${Object.values(EXIT_CODES)
  .map(([code, meaning]) => `${String(code)} ${meaning}`)
  .join('\n            ')}
The last line that is written says what happened and what to do.`;
