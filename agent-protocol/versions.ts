/** Which version two ends speak, of the wire or of what gateways ask each other; how one is added: SPEC.md section 13. */
import type { Goaway } from './control.js';

/** Time before which an agent need not come back to a gateway that is older than all it speaks, ms: others may be newer. */
const NEWER_AGENT_RETRY_MS = 30_000;

/** The highest version that both speak; null: there is none. */
export function newestCommon(theirs: readonly number[], ours: readonly number[]): number | null {
  const both = theirs.filter((version) => ours.includes(version));
  return both.length === 0 ? null : Math.max(...both);
}

/**
 * The GOAWAY for a peer with which no version is common, with what to do. `client_too_old`: the peer speaks nothing as new
 * as this end, it is to be updated; `gateway_too_old`: this end is the older one, and is to be upgraded.
 */
export function noCommonVersion(
  of: 'wire' | 'link',
  theirs: readonly number[],
  ours: readonly number[],
): Goaway & { code: 'client_too_old' | 'gateway_too_old' } {
  const versions = `${of} versions here: ${ours.join(', ')}; offered: ${theirs.join(', ') || 'none'}`;
  if (Math.max(0, ...theirs) < Math.max(...ours))
    return { code: 'client_too_old', reason: `${versions}; whoever said HELLO is to be updated` };
  return {
    code: 'gateway_too_old',
    reason: `${versions}; this gateway is to be upgraded, another one may be newer`,
    reconnect_after_ms: NEWER_AGENT_RETRY_MS,
  };
}
