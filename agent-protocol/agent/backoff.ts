/** How long to wait before trying again. Jitter keeps a fleet that lost its gateway from coming back as one wave. */
export interface BackoffLimits {
  /** Upper bound of the first wait after something that had worked; it is drawn from 0 to this. */
  readonly firstMs: number;
  /** Centre of the second wait; each further one doubles. */
  readonly baseMs: number;
  /** No wait is longer than this. */
  readonly maxMs: number;
}

export const RECONNECT_BACKOFF: BackoffLimits = { firstMs: 500, baseMs: 250, maxMs: 30_000 };

/** For this long after a tunnel that held was lost, waits stay short: gateways mostly come back within seconds. */
export const SOON_FOR_MS = 60_000;
/** As RECONNECT_BACKOFF, for the time after such a loss. */
export const SOON_BACKOFF: BackoffLimits = { ...RECONNECT_BACKOFF, maxMs: 4_000 };

/**
 * Wait in ms before attempt number `failures + 1`, where `failures` counts the failures in a row so far (0: the
 * thing worked until just now). `random` is in [0, 1). The result is in [0, firstMs] for 0, else between half and
 * the whole of `baseMs × 2^failures`, at most maxMs.
 */
export function backoffMs(
  failures: number,
  random: number,
  limits: BackoffLimits = RECONNECT_BACKOFF,
): number {
  if (failures <= 0) return random * limits.firstMs;
  const ceiling = Math.min(limits.maxMs, limits.baseMs * 2 ** Math.min(failures, 30));
  return ceiling / 2 + (random * ceiling) / 2;
}

/** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
