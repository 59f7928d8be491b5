import type { Soon } from '../../gateway/runtime/soon.js';

/** What was decided from memory, at once; throws when it is a promise. */
export function settled<T>(outcome: Soon<T>): T {
  if (outcome instanceof Promise) throw new Error('it waits');
  return outcome;
}
