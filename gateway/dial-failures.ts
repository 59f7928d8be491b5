import { DialCode as Dial, type DialCode } from '../agent-protocol/frame.js';
import type { ProxyErrorCode } from './errors.js';

/** What a device's answer means to the buyer; `null`: the device can not take it, which another one might. */
export const dialFailures: Readonly<Record<Exclude<DialCode, 0> | 'lost' | 'timeout', ProxyErrorCode>> = {
  [Dial.DNS_FAIL]: 'DNS_FAIL',
  [Dial.REFUSED]: 'REFUSED',
  [Dial.UNREACHABLE]: 'UNREACHABLE',
  [Dial.TIMEOUT]: 'CONNECT_TIMEOUT',
  [Dial.PROHIBITED]: 'IP_PROHIBITED',
  [Dial.CAP_REACHED]: 'PEER_DROPPED',
  [Dial.PAUSED]: 'PEER_DROPPED',
  [Dial.UNSUPPORTED]: 'PEER_DROPPED',
  [Dial.INTERNAL]: 'PEER_DROPPED',
  [Dial.BLOCKED]: 'PEER_DROPPED',
  lost: 'PEER_DROPPED',
  timeout: 'CONNECT_TIMEOUT',
};
