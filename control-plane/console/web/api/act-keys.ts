import { randomHex } from '../parts/random.js';

/** What became of an act may be learnt by sending it again for so long, ms; later it is another one. */
const KEPT_MS = 600_000;
const KEY_BYTES = 16;

/** Acts whose outcome nobody knows yet: under way, or their answer was lost. */
const unknown = new Map<string, { key: string; untilMs: number }>();

/**
 * The `Idempotency-Key` of a POST. The same one sent again while nobody knows what came of the first (no answer, or a
 * server in trouble) goes under the same key, and so is done once. A changed one, or one after an answer, is another act:
 * under the old key it would be refused, or have a refusal repeated for a day. Tell `answered` what came.
 */
export async function keyOfAct(
  request: Request,
  nowMs = Date.now(),
): Promise<{ key: string; answered: (answer: Pick<Response, 'status' | 'headers'>) => void }> {
  for (const [act, { untilMs }] of unknown) if (untilMs <= nowMs) unknown.delete(act);
  const act = `${request.url} ${await request.clone().text()}`;
  const kept = unknown.get(act) ?? { key: randomHex(KEY_BYTES), untilMs: nowMs + KEPT_MS };
  unknown.set(act, kept);
  return {
    key: kept.key,
    answered: ({ status, headers }) => {
      // Retry-After: the first is still under way, or nothing was looked at. After 401 somebody signs in and goes on
      const isKnown = status < 500 && status !== 401 && !headers.has('retry-after');
      if (isKnown && unknown.get(act) === kept) unknown.delete(act);
    },
  };
}
