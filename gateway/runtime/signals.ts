/** Time beyond the drain that stopping a gateway may take before the process gives up. */
export const STOP_GRACE_MS = 10_000;

/** `asked`: by the program itself. */
export type StopReason = 'SIGTERM' | 'SIGINT' | 'disconnect' | 'asked';

/**
 * Runs `stop` once on SIGTERM, SIGINT or when the parent that holds the IPC channel goes away, then exits 0
 * (1 when stopping failed). A second signal, or `graceMs` without an end, exits 1 at once. What it returns begins the
 * same for a reason of the program's own; a second time it does nothing.
 */
export function stopOnSignal(
  stop: (why: StopReason) => Promise<void>,
  graceMs: number,
  onError: (error: unknown) => void,
): () => void {
  let stopping = false;
  const begin = (why: StopReason) => {
    if (stopping) {
      if (why === 'SIGTERM' || why === 'SIGINT') process.exit(1);
      return;
    }
    stopping = true;
    setTimeout(() => process.exit(1), graceMs).unref();
    stop(why).then(
      () => process.exit(0),
      (error) => {
        onError(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => begin('SIGTERM'));
  process.on('SIGINT', () => begin('SIGINT'));
  if (process.channel) process.on('disconnect', () => begin('disconnect'));
  return () => begin('asked');
}
